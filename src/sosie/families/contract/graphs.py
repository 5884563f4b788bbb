"""How a family draws stages as nodes of ComfyUI: what it is given, and what its module `on_comfy` holds."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, Protocol, runtime_checkable

from sosie.core import Finding, Plan, Stage
from sosie.families.contract.draws import StageInput, StageOutput
from sosie.families.contract.stage import PlannedStage
from sosie.graph.build import Builder, WantedFile
from sosie.graph.graph import Link

if TYPE_CHECKING:
    from PIL.Image import Image


@dataclass(frozen=True)
class GraphChoices:
    """How stages become nodes of ComfyUI; never part of a plan.

    `smaller` spends time to save the GPU's memory. `faces` says who cuts out a face, masks and composites it:
    Sosie between two graphs, or Impact Pack's FaceDetailer on the server. `tiles` redraws large images by
    Ultimate SD Upscale, those too that an upscaler has made.
    """

    smaller: bool = False
    faces: Literal["sosie", "server"] = "sosie"
    tiles: bool = False

    @property
    def variant(self) -> str:
        """What names of engines and files end with, so that another image of a plan has another; mostly empty."""
        return ("+face-detailer" if self.faces == "server" else "") + ("+tiles" if self.tiles else "")


@dataclass(frozen=True, eq=False)
class GraphStage(PlannedStage):
    """What a family is given to draw one stage of a plan as nodes.

    `source` is the image that the stage works on (None: it draws from noise), `size` that image's width and height
    in pixels, or those to be drawn. `portraits` is how many pictures of the character there are to be guided by.
    """

    size: tuple[int, int]
    source: Link | None = None
    portraits: int = 0
    choices: GraphChoices = field(default_factory=GraphChoices)


@dataclass(frozen=True, eq=False)
class Prepared:
    """What Sosie does around a graph: the pictures that it is given, by what they are, and what becomes of its image.

    `finish` makes the stage's output of the image that came back (RGB).
    """

    pictures: Mapping[str, Image]
    finish: Callable[[Image], StageOutput]


class OnComfy(Protocol):
    """A family that ComfyUI draws: its module `on_comfy`, which imports no torch.

    `VERSION` is the oldest ComfyUI that runs the family right (empty: any).
    """

    @property
    def VERSION(self) -> str:  # noqa: D102, N802
        ...

    def check(self, stage: Stage, plan: Plan, choices: GraphChoices) -> list[Finding]:
        """What cannot be done on ComfyUI, from the plan alone."""
        ...

    def names(self, stage: Stage) -> tuple[WantedFile, ...]:
        """The files that the stage's nodes load, by role and folder, with the names that they are known by."""
        ...

    def draw(self, build: Builder, given: GraphStage) -> Link:
        """Adds the stage's nodes; returns its image."""
        ...


@runtime_checkable
class DrawsFaces(Protocol):
    """An `on_comfy` whose `detail` stages draw faces in a square that Sosie cuts out and puts back."""

    def prepare(self, given: StageInput) -> Prepared | StageOutput:
        """The square, its mask and its key points; or the output, if there is no face to be drawn."""
        ...


@runtime_checkable
class DrawsTiles(Protocol):
    """An `on_comfy` that draws images of more than `LARGE` pixels in tiles, where that is chosen."""

    @property
    def LARGE(self) -> int:  # noqa: D102, N802
        ...
