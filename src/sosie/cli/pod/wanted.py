"""What is wanted of a machine, as options."""

from __future__ import annotations

from collections.abc import Callable
from functools import reduce
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from sosie.api.pods import PodOffers
    from sosie.pods.fitness import Estimate, Work
    from sosie.pods.offer import Offer, Wanted

OPTIONS = (
    click.option("--gpu", default="", metavar="NAME", help="A part of the card's name, such as 4090."),
    click.option("--gpus", type=click.IntRange(1), default=1, show_default=True, help="At least so many cards."),
    click.option("--memory", default="", metavar="SIZE", help="At least so much memory a card, such as 24GB."),
    click.option("--compute", default="", metavar="X.Y", help="At least this compute capability, such as 8.9."),
    click.option("--driver", default="", metavar="VERSION", help="At least this driver, such as 570."),
    click.option("--cuda", default="", metavar="X.Y", help="At least this CUDA that the driver runs, such as 12.8."),
    click.option("--disk", default="", metavar="SIZE", help="So much disk, whose price is part of the price: 60GB."),
    click.option("--bandwidth", default="", metavar="SIZE", help="It downloads so much a second, such as 50MB."),
    click.option("--price", type=click.FloatRange(0), default=0.0, metavar="USD", help="At most so much an hour."),
    click.option(
        "--bid",
        type=click.FloatRange(0),
        default=0.0,
        metavar="USD",
        help="Bid so much an hour for the cards: cheaper, and who bids more may take the machine away.",
    ),
    click.option(
        "--place",
        "places",
        multiple=True,
        metavar="CC",
        help="A country by its two letters, or EU or EEA; may be repeated.",
    ),
    click.option(
        "--reliability", type=click.FloatRange(0, 1), default=0.0, metavar="SHARE", help="At least this, 0 to 1."
    ),
    click.option("--provider", default="", metavar="NAME", help="This provider only. Default: all that can be asked."),
    click.option(
        "--tflop", type=click.FloatRange(0), default=0.0, help="The job's computing in all, in 10^12 operations."
    ),
    click.option("--download", default="", metavar="SIZE", help="What the job downloads first, such as 20GB."),
)


def wanting(function: Callable[..., Any]) -> Callable[..., Any]:
    """Adds the options; the command gets their values by name, for `wanted_of` and `work_of`."""
    return reduce(lambda done, option: option(done), reversed(OPTIONS), function)


def wanted_of(given: dict[str, Any]) -> Wanted:
    """Takes what is wanted out of the values. Sizes and versions are texts; empty ones ask for nothing."""
    from sosie.api.needs import parse_bytes
    from sosie.pods.offer import Wanted
    from sosie.pods.places import countries

    names = ("memory", "disk", "bandwidth")
    memory, disk, bandwidth = (parse_bytes(text) if (text := given.pop(name)) else 0 for name in names)
    driver, compute, cuda = (_version(name, given.pop(name)) for name in ("driver", "compute", "cuda"))
    places = countries(given.pop("places"))
    rest = {name: given.pop(name) for name in ("gpu", "gpus", "price", "reliability", "bid")}
    pairs = [(*version, 0, 0)[:2] for version in (compute, cuda)]
    return Wanted(
        memory=memory,
        disk=disk,
        bandwidth=bandwidth,
        driver=driver,
        compute=(pairs[0][0], pairs[0][1]),
        cuda=(pairs[1][0], pairs[1][1]),
        places=places,
        **rest,
    )


def work_of(given: dict[str, Any]) -> Work | None:
    """Takes the job out of the values; None where nothing was said of it."""
    from sosie.api.needs import parse_bytes
    from sosie.pods.fitness import Work

    tflop, download = given.pop("tflop"), given.pop("download")
    return Work(tflop, parse_bytes(download) if download else 0) if tflop or download else None


def offer_line(offer: Offer, estimate: Estimate | None) -> str:
    """An offer as a line of data, with what the job would take where that is known."""
    memory = "" if offer.memory is None else f" {offer.memory / 1e9:.0f} GB"
    share = "-" if offer.reliability is None else f"{offer.reliability:.1%}"
    job = f"\t{estimate.cost:.2f} USD in {estimate.seconds / 3600:.1f} h" if estimate else ""
    more = "\t".join((offer.place or "-", share, offer.id))
    return f"{offer.provider}\t{offer.price:.3f} USD/h\t{offer.gpus} x {offer.gpu}{memory}\t{more}{job}"


def struck_line(offer: Offer, why: str) -> str:
    """An offer that is never rented, as prose."""
    return f"struck out: {offer.provider} {offer.id}, {offer.gpu} at {offer.price:.3f} USD/h: {why}"


def has_trouble(found: PodOffers) -> bool:
    """Whether something was found that is more than a note."""
    return any(finding.severity != "info" for finding in found.findings)


def _version(flag: str, text: str) -> tuple[int, ...]:
    parts = text.split(".") if text else []
    if not all(part.isascii() and part.isdigit() for part in parts):
        raise click.UsageError(f"--{flag} '{text}' is no version; expected numbers with dots between them")
    return tuple(int(part) for part in parts)
