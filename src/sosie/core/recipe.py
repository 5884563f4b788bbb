"""A Recipe: how an image is made and when it is good enough."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

StageKind = Literal["generate", "refine", "detail", "upscale"]
GuideKind = Literal["faceid"]


@dataclass(frozen=True)
class Sampler:
    """The sampler of a stage, by the name the field uses (`euler`, `dpmpp_2m`, ...).

    `schedule` spaces the noise levels: `model` keeps what the model was trained with, `karras`
    is Karras et al. 2022. `cfg` is the guidance scale (1 switches guidance off).
    """

    name: str = "euler"
    schedule: Literal["model", "karras"] = "model"
    steps: int = 25
    cfg: float = 5.0


@dataclass(frozen=True)
class Guide:
    """An identity guide: what makes the model draw this face.

    `weights` and `encoder` name files: a path, or `MODEL:FILE` for a file inside a model.
    `scale` is 0 (no effect) to 1 (full). `references` is how many of the character's
    references, the most frontal first, give the mean embedding.
    """

    kind: GuideKind
    weights: str
    encoder: str
    scale: float = 0.85
    references: int = 4


@dataclass(frozen=True)
class Stage:
    """One step of a recipe, run by one family."""

    kind: StageKind
    family: str
    model: str
    sampler: Sampler = field(default_factory=Sampler)
    guides: tuple[Guide, ...] = ()


@dataclass(frozen=True)
class Acceptance:
    """When an image is kept.

    `fmr` is the share of impostors that may pass all judges together (0 to 1). `judges` are
    required by name; when empty, every installed judge must pass. `defects` are the defect
    checks that must pass; when empty, all of them.
    """

    fmr: float = 0.05
    judges: tuple[str, ...] = ()
    defects: tuple[str, ...] = ()


@dataclass(frozen=True)
class Calibration:
    """What the impostors of a calibration are asked to do, one prompt after another."""

    prompts: tuple[str, ...] = ("",)


@dataclass(frozen=True)
class Recipe:
    """Stages in order, the prompt's frame, the size in pixels, and the rules of acceptance.

    `prompt` is a template with the fields `{description}`, `{trigger}` and `{prompt}`; a part
    between commas whose fields are all empty is dropped.
    """

    name: str
    stages: tuple[Stage, ...]
    prompt: str
    width: int
    height: int
    summary: str = ""
    negative_prompt: str = ""
    acceptance: Acceptance = field(default_factory=Acceptance)
    calibration: Calibration = field(default_factory=Calibration)
