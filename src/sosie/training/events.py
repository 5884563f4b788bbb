"""What a run says while it goes on: frozen nouns, in the order in which things happen."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol

from sosie.core import Finding, Progress, Result
from sosie.training.asked.wishes import Wish

if TYPE_CHECKING:
    from PIL.Image import Image

Cause = Literal["finished", "over-trained", "asked", "loss", "disk", "interrupted"]


@dataclass(frozen=True)
class Likeness:
    """What one judge says: the mean over the samples, higher is better (a distance d enters as 1 - d)."""

    judge: str
    value: float


@dataclass(frozen=True)
class Scores:
    """What the judges say of the samples of one step. No score is None, not zero.

    `identity` has an entry for each judge that measured. `copy_paste` is the index against the
    training set (-1 to 1, lower is better), `adherence` the share of what the prompts name that is seen,
    `sound` the share of pictures without a defect.
    """

    identity: tuple[Likeness, ...] = ()
    copy_paste: float | None = None
    adherence: float | None = None
    sound: float | None = None

    @property
    def likeness(self) -> float | None:
        """The mean over the judges, or None if none measured."""
        return sum(entry.value for entry in self.identity) / len(self.identity) if self.identity else None


@dataclass(frozen=True)
class Judged:
    """The scores of the samples that were drawn after `step` updates."""

    step: int
    scores: Scores


@dataclass(frozen=True, eq=False)
class Sample:
    """One picture (RGB) that was drawn for a judgement, with its prompt and seed."""

    image: Image
    prompt: str
    seed: int


class JudgeSamples(Protocol):
    """Who judges the samples of a step; the api layer brings one."""

    def __call__(self, samples: Sequence[Sample]) -> Scores:
        """The scores of these pictures."""
        ...


@dataclass(frozen=True)
class Stepped(Result):
    """`step` of `steps` updates are done.

    `loss` is the batch's, weighted; `gradient` the norm of its gradient before it is clipped. `seconds`
    is what the step took, `left` an estimate of what is still to come.
    """

    step: int
    steps: int
    loss: float
    gradient: float
    learning_rate: float
    images: tuple[str, ...]
    seconds: float
    left: float


@dataclass(frozen=True, eq=False)
class Sampled(Result):
    """The samples of a step and their scores; None where no one judges.

    `aside`: somebody asked for them. They are no point of the curve by which the best checkpoint is chosen.
    """

    step: int
    samples: tuple[Sample, ...]
    scores: Scores | None
    aside: bool = False


@dataclass(frozen=True)
class Wished(Result):
    """After `step` updates the run found this asked of it, and does it now."""

    step: int
    wish: Wish


@dataclass(frozen=True)
class Validated(Result):
    """How well pictures are predicted after `step` updates, each with the same noise every time.

    Mean squared errors without weights, by noise level (0 to 1): of pictures that are learned from, and of those
    that are not; empty where there are none.
    """

    step: int
    levels: tuple[float, ...]
    learned: tuple[float, ...]
    held: tuple[float, ...]

    @property
    def means(self) -> dict[str, float]:
        """The means over the levels, by `learned` and `held`."""
        both = (("learned", self.learned), ("held", self.held))
        return {name: round(sum(errors) / len(errors), 6) for name, errors in both if errors}


@dataclass(frozen=True)
class Saved(Result):
    """A file was written whole: a checkpoint, or the run's state."""

    step: int
    path: Path
    kind: Literal["checkpoint", "state"]


@dataclass(frozen=True)
class RolledBack(Result):
    """The run went back to the state after `step` updates; the learning rate is now `scale` times the recipe's."""

    step: int
    scale: float


@dataclass(frozen=True)
class Ended(Result):
    """The last event: why the run ended after `step` updates, and what was delivered (None: nothing yet).

    `best` is the step of the delivered checkpoint, `judged` the whole curve. A run whose cause is `loss`,
    `disk` or `interrupted` can go on from its state.
    """

    cause: Cause
    step: int
    path: Path | None
    triggers: tuple[str, ...]
    best: int | None = None
    scores: Scores | None = None
    judged: tuple[Judged, ...] = ()
    findings: tuple[Finding, ...] = ()


Event = Finding | Progress | Stepped | Validated | Sampled | Wished | Saved | RolledBack | Ended
