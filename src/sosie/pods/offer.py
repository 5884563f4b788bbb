"""What a provider offers, and what is wanted of it. Memory and disk in bytes, prices in US dollars an hour."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated

from sosie.core.ranges import Range

GB = 10**9


@dataclass(frozen=True)
class Offer:
    """A machine that can be rented now; None: the provider does not say.

    `gpu` is the cards' name as the provider writes it, `gpus` how many there are, `memory` that of one card and
    `compute` its compute capability (8.9 = (8, 9)). `driver` is the driver's version. `disk` is the most that can be
    had. `price` is the whole price of an hour: that of the cards and of the disk that was asked for.
    `place` is a country by its two letters (ISO 3166-1), and `reliability` the provider's own figure, 0 to 1.
    `cuda` is the newest that the driver runs, `bandwidth` what the machine downloads in bytes a second, and `traffic`
    what a GB of that costs. `bid` is what will be bid an hour for the cards, 0 where it is rented on demand: who bids
    more can take the machine away.
    """

    provider: str
    id: str
    gpu: str
    price: float
    gpus: int = 1
    memory: int | None = None
    compute: tuple[int, int] | None = None
    driver: tuple[int, ...] | None = None
    disk: int | None = None
    place: str | None = None
    reliability: float | None = None
    cuda: tuple[int, int] | None = None
    bandwidth: int | None = None
    traffic: float = 0.0
    bid: float = 0.0


@dataclass(frozen=True)
class Wanted:
    """What an offer must have; 0 and empty ask for nothing. Every figure is the least, `price` the most.

    `gpu` is a part of the cards' name, whatever its case; `places` are countries by their two letters. `disk` is what
    will be rented: its price is part of every offer's. With a `bid` that much an hour is bid for the cards.
    """

    gpu: str = ""
    gpus: Annotated[int, Range(1)] = 1
    memory: Annotated[int, Range(0)] = 0
    compute: tuple[int, int] = (0, 0)
    driver: tuple[int, ...] = ()
    disk: Annotated[int, Range(0)] = 0
    price: Annotated[float, Range(0)] = 0.0
    places: tuple[str, ...] = ()
    reliability: Annotated[float, Range(0, 1)] = 0.0
    cuda: tuple[int, int] = (0, 0)
    bandwidth: Annotated[int, Range(0)] = 0
    bid: Annotated[float, Range(0)] = 0.0


def misfits(offer: Offer, wanted: Wanted) -> Iterator[str]:
    """Why an offer is not what is wanted; nothing if it is. What is asked for and not known does not fit."""
    yield from _machine_misfits(offer, wanted)
    if wanted.bid != offer.bid:
        yield f"it is rented {_way(offer.bid)}, wanted {_way(wanted.bid)}"
    if wanted.price and not offer.price <= wanted.price:
        yield f"it costs {offer.price:.3f} USD/h, wanted {wanted.price:.3f} at most"
    if wanted.places and (offer.place or "").upper() not in {place.upper() for place in wanted.places}:
        yield f"it is in {offer.place or 'an unknown place'}, wanted {', '.join(wanted.places)}"
    if wanted.reliability and not (offer.reliability or 0) >= wanted.reliability:
        known = "not known" if offer.reliability is None else f"{offer.reliability:.3f}"
        yield f"reliability {known}, wanted {wanted.reliability:.3f}"


def _machine_misfits(offer: Offer, wanted: Wanted) -> Iterator[str]:
    """As `misfits`, of what the machine is made of."""
    if wanted.gpu.casefold() not in offer.gpu.casefold():
        yield f"its card is '{offer.gpu}', wanted '{wanted.gpu}'"
    if offer.gpus < wanted.gpus:
        yield f"it has {offer.gpus} GPUs, wanted {wanted.gpus}"
    if wanted.memory and (offer.memory or 0) < wanted.memory:
        yield f"a card has {_gb(offer.memory)}, wanted {_gb(wanted.memory)}"
    if wanted.compute > (offer.compute or (0, 0)):
        yield f"compute capability {_dotted(offer.compute)}, wanted {_dotted(wanted.compute)}"
    if wanted.driver > (offer.driver or ()):
        yield f"driver {_dotted(offer.driver)}, wanted {_dotted(wanted.driver)}"
    if wanted.disk and (offer.disk or 0) < wanted.disk:
        yield f"its disk has {_gb(offer.disk)}, wanted {_gb(wanted.disk)}"
    if wanted.cuda > (offer.cuda or (0, 0)):
        yield f"its driver runs CUDA {_dotted(offer.cuda)}, wanted {_dotted(wanted.cuda)}"
    if wanted.bandwidth and (offer.bandwidth or 0) < wanted.bandwidth:
        yield f"it downloads {(offer.bandwidth or 0) / 1e6:.0f} MB/s, wanted {wanted.bandwidth / 1e6:.0f} MB/s"


def _way(bid: float) -> str:
    return "by a bid" if bid else "on demand"


def _gb(size: int | None) -> str:
    return "an unknown size" if size is None else f"{size / GB:.0f} GB"


def _dotted(version: tuple[int, ...] | None) -> str:
    return ".".join(map(str, version)) if version else "not known"
