"""Engines and what they yield."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from sosie.core.event import Progress
from sosie.core.finding import Finding
from sosie.core.plan import Plan

if TYPE_CHECKING:
    from PIL.Image import Image


@dataclass(frozen=True)
class Environment:
    """What a render was made with: versions of the packages that matter, machine, device."""

    python: str
    platform: str
    device: str
    packages: tuple[tuple[str, str], ...]


@dataclass(frozen=True, eq=False)
class Render:
    """An image (mode RGB), its plan, and the engine and environment that made it in `seconds`.

    `findings` is what the stages had to say; one of severity `error` keeps the image from being
    delivered. `measures` are what they measured, by name: `detail.seam` in CIEDE2000, `detail.eyes` in px between the
    eyes, `detail.x` and `detail.y` where the face is that was drawn anew, in shares of width and height, and
    `detail.more_denoise` what was added for a face far from the character's; `detail.colour_before` and `_after` are
    face against neck in CIEDE2000, `detail.grain_...` and `detail.skin_...` its noise and texture over the neck's.
    """

    image: Image
    plan: Plan
    engine: str
    environment: Environment
    seconds: float
    findings: tuple[Finding, ...] = ()
    measures: tuple[tuple[str, float], ...] = ()


class Engine(Protocol):
    """Turns plans into renders. Holds models between runs; `close` frees them."""

    @property
    def name(self) -> str:
        """How the store knows this engine: two engines of one name give the same pixels."""
        ...

    def check(self, plan: Plan) -> list[Finding]:
        """Everything that would stop or spoil this plan, without reading a weight."""
        ...

    def run(self, plans: Iterable[Plan]) -> Iterator[Progress | Render]:
        """Renders every plan; progress is of `load`, `queue` or a stage's kind.

        More plans may come while it draws, and iterating may wait for them: who draws one at a time takes the next
        when that is finished, who draws several asks `core.feed.feed_of(plans)` whenever something is idle. One server
        or device gives the renders in order; several give them as they are finished. Closing the iterator early
        takes back what is under way.

        Raises `EngineError`; what was yielded stays valid.
        """
        ...

    def close(self) -> None:
        """Frees models and memory; the engine cannot be used after."""
        ...
