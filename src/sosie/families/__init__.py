"""The families of models that Sosie knows. One folder each; adding one edits nothing else.

A family is a subpackage here with a `FAMILY`, or an object that another distribution names in the
entry point group `sosie.families`. Finding them imports no torch: what runs a family stands in
modules of its own: `on_diffusers`, which only an engine imports, and `on_comfy`, which draws stages as nodes of
ComfyUI and imports no torch either.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import pkgutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol

from sosie.core import Finding, Guide, Plan, Stage
from sosie.core.errors import ConfigError
from sosie.files.signature import Part
from sosie.graph.build import Builder, WantedFile
from sosie.graph.graph import Link

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from PIL.Image import Image

    from sosie.faces.detect import Face

GROUP = "sosie.families"


@dataclass(frozen=True)
class Family:
    """A family of models: its name in recipes, its title for people, and how its files are known.

    `package` is the Python package that holds what runs it (`PACKAGE.on_diffusers`). `parts` are
    the kinds of file, the more particular before the more general: the first that matches counts.
    """

    name: str
    title: str
    package: str
    parts: tuple[Part, ...]


class Faces(Protocol):
    """What a stage may ask about faces. Engines run where OpenCV is missing: this is where it is not."""

    def embedding(self, guide: Guide, plan: Plan) -> NDArray[np.float32]:
        """What the guide's adapter is fed: float32 [d], scaled as its encoder gives it."""
        ...

    def crops(self, guide: Guide, plan: Plan) -> Sequence[Image]:
        """The aligned faces (RGB, 224x224) of the guide's references, for adapters that look at pictures."""
        ...

    def find(self, image: Image, plan: Plan, stage: Stage) -> Face | Finding:
        """The character's face in an image that may show others, or why it is to be left alone."""
        ...


@dataclass(frozen=True, eq=False)
class StageInput:
    """What a family is given to run one stage of a plan.

    `index` is the stage's place in the plan; `source` is the image of the stage before it (RGB), or None for a
    stage that draws from noise. `paths` maps the plan's asset names to local files;
    `on_step(done, steps)` is called after each step.
    """

    stage: Stage
    plan: Plan
    index: int
    source: Image | None
    paths: Mapping[str, Path]
    faces: Faces
    on_step: Callable[[int, int], None]

    @property
    def prompt(self) -> str:
        """The stage's own text, or the plan's."""
        return self.stage.prompt or self.plan.prompt

    @property
    def seed(self) -> int:
        """The stage's seed, 63 bits."""
        return self.plan.stage_seed(self.index)


@dataclass(frozen=True, eq=False)
class StageOutput:
    """The image of a stage (RGB), what is to be said of it, and what was measured, by name.

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
    """What a family's `on_diffusers.Runner` can do. Made with `(device, settings)`; holds weights until `close`."""

    def run(self, given: StageInput) -> StageOutput:
        """Runs one stage. Raises `BadModelError` if a part cannot be loaded, `EngineError` if it fails."""
        ...

    def close(self) -> None:
        """Frees the weights."""
        ...


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
        """What names of engines and files end with, so that another picture of a plan has another; mostly empty."""
        return "+face-detailer" * (self.faces == "server") + "+tiles" * self.tiles


@dataclass(frozen=True, eq=False)
class GraphStage:
    """What a family is given to draw one stage of a plan as nodes.

    `source` is the image that the stage works on (None: it draws from noise), `size` that image's width and height
    in pixels, or those to be drawn. `portraits` is how many pictures of the character there are to be guided by.
    """

    stage: Stage
    plan: Plan
    index: int
    size: tuple[int, int]
    source: Link | None = None
    portraits: int = 0
    choices: GraphChoices = field(default_factory=GraphChoices)

    @property
    def prompt(self) -> str:
        """The stage's own text, or the plan's."""
        return self.stage.prompt or self.plan.prompt

    @property
    def seed(self) -> int:
        """The stage's seed, 63 bits."""
        return self.plan.stage_seed(self.index)


@dataclass(frozen=True, eq=False)
class Prepared:
    """What Sosie does around a graph: the pictures that it is given, by what they are, and what becomes of its image.

    `finish` makes the stage's output of the image that came back (RGB).
    """

    pictures: Mapping[str, Image]
    finish: Callable[[Image], StageOutput]


class OnComfy(Protocol):
    """What a family's module `on_comfy` holds.

    `VERSION` is the oldest ComfyUI that runs the family right (empty: any).
    """

    VERSION: str

    def check(self, stage: Stage, plan: Plan, choices: GraphChoices) -> list[Finding]:
        """What cannot be done on ComfyUI, from the plan alone."""
        ...

    def names(self, stage: Stage) -> tuple[WantedFile, ...]:
        """The files that the stage's nodes load, by role and folder, with the names that they are known by."""
        ...

    def draw(self, build: Builder, given: GraphStage) -> Link:
        """Adds the stage's nodes; returns its image."""
        ...


class DrawsFaces(OnComfy, Protocol):
    """A family whose `detail` stages draw faces anew in a square that Sosie cuts out and puts back."""

    def prepare(self, given: StageInput) -> Prepared | StageOutput:
        """The square, its mask and its key points; or the output, if there is no face to be drawn anew."""
        ...


@cache
def families() -> tuple[Family, ...]:
    """Every family, by name. Raises `ConfigError` for one that cannot be loaded or is there twice."""
    found: dict[str, Family] = {}
    for family, source in _discovered():
        if not isinstance(family, Family):
            raise ConfigError(f"{source} names a {type(family).__name__}, not a Family")
        if family.name in found:
            raise ConfigError(f"{source} brings family '{family.name}', which is there already", "uninstall one")
        found[family.name] = family
    return tuple(found[name] for name in sorted(found))


def _discovered() -> Iterator[tuple[object, str]]:
    """Each family with a text that says where it comes from."""
    for module in pkgutil.iter_modules(__path__):
        if module.ispkg:
            yield importlib.import_module(f"{__name__}.{module.name}").FAMILY, f"{__name__}.{module.name}"
    for entry in importlib.metadata.entry_points(group=GROUP):
        source = f"entry point '{entry.name} = {entry.value}' of {entry.dist.name if entry.dist else 'a package'}"
        try:
            yield entry.load(), source
        except Exception as error:
            raise ConfigError(f"{source} cannot be loaded: {error}", "update or uninstall that package") from error
