"""How a family draws stages in this process: what it is given, and what its module `on_diffusers` holds."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from sosie.core import Finding, Guide, Plan, Stage
from sosie.core.sight import Look, unseen
from sosie.families.contract.stage import PlannedStage

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from PIL.Image import Image

    from sosie.faces.detect import Face


class Faces(Protocol):
    """What a stage may ask about faces. Engines run where OpenCV is missing: this is where it is not."""

    def embedding(self, guide: Guide, plan: Plan) -> NDArray[np.float32]:
        """What the guide's adapter is fed: float32 [d], scaled as its encoder gives it."""
        ...

    def crops(self, guide: Guide, plan: Plan) -> Sequence[Image]:
        """The aligned faces (RGB, 224x224) of the guide's references, for adapters that look at pictures."""
        ...

    def portraits(self, guide: Guide, plan: Plan) -> Sequence[Image]:
        """The guide's references as pictures (RGB, of any size), framed as it says; each person's frontal first."""
        ...

    def find(self, image: Image, plan: Plan, stage: Stage) -> Face | Finding:
        """The character's face in an image that may show others, or why it is to be left alone."""
        ...


@dataclass(frozen=True, eq=False)
class StageInput(PlannedStage):
    """What a family is given to run one stage of a plan.

    `source` is the image of the stage before it (RGB), or None for a stage that draws from noise. `paths` maps the
    plan's asset names to local files; `on_step(done, steps)` is called after each step. A family that can show how the
    picture looks then calls `on_sight(done, steps, look)` before that: who wants to see it calls `look` at once.
    """

    source: Image | None
    paths: Mapping[str, Path]
    faces: Faces
    on_step: Callable[[int, int], None]
    on_sight: Callable[[int, int, Look], None] = unseen


@dataclass(frozen=True, eq=False)
class StageOutput:
    """The image of a stage (RGB), its findings, and what was measured, by name.

    A finding of severity `error` refuses the stage's work: `image` is then the source, unchanged.
    """

    image: Image
    findings: tuple[Finding, ...] = ()
    measures: tuple[tuple[str, float], ...] = ()


@dataclass(frozen=True)
class Settings:
    """How a runner uses the machine; never part of a plan, for it changes no picture but in rounding.

    `memory` is a mode's name or `auto`: the fastest that fits the free memory. `compile` spends
    seconds on the first image to save them on the following ones (GPU only).
    """

    memory: str = "auto"
    compile: bool = True


class Runner(Protocol):
    """Runs stages; holds weights until `close`."""

    def run(self, given: StageInput) -> StageOutput:
        """Runs one stage. Raises `BadModelError` if a part cannot be loaded, `EngineError` if it fails."""
        ...

    def rest(self) -> None:
        """Frees the GPU and keeps the weights in main memory; the next `run` takes them back. Nothing on a CPU."""
        ...

    def close(self) -> None:
        """Frees the weights."""
        ...


class OnDiffusers(Protocol):
    """A family that draws in this process: its module `on_diffusers`."""

    def check(self, stage: Stage, plan: Plan) -> list[Finding]:
        """What would stop a stage, from the plan and the installed packages alone."""
        ...

    def runner(self, device: str, settings: Settings) -> Runner:
        """What runs the family's stages on `cpu` or `cuda`; nothing is loaded before the first stage."""
        ...
