"""What the models of a family take of a machine: memory and disk in bytes, and the precisions that fail."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

from sosie.core.recipe import Training
from sosie.files.model_file import ModelFile

GB = 10**9

Computed = Literal["", "fp32", "bf16", "fp16"]


@dataclass(frozen=True)
class FailingPrecision:
    """A precision that the family's models cannot be trained in, nor run in unless `training_only`."""

    precision: Computed
    reason: str
    training_only: bool = False


@dataclass(frozen=True)
class Drawing:
    """One stage as far as memory goes: its files, known by header, and what is drawn at once.

    `files` are by the stage's names for them (`model`, `text_encoder`, `vae`), those that are known; `width` and
    `height` in pixels, `rows` 2 under guidance.
    """

    files: Mapping[str, ModelFile]
    width: int
    height: int
    rows: int


@dataclass(frozen=True)
class Figures:
    """What models of a family take, in bytes; None: not known.

    `files` is what the files of a usual recipe take together, `largest_file` the largest of them, `lora_rank` what one
    rank adds to a saved LoRA. `memory` is that of a GPU for 1024 x 1024 px in 16 bits, the lowest figure that is known;
    `memory_guided` the same with identity guides, `memory_fp8` with weights in fp8, and `memory_training` for a LoRA.
    `estimate_drawing` gives the peak of a drawing where parts take turns on the GPU, `estimate_training` that of a
    training with samples of a width and height in pixels.

    `precision` is what is computed in where a recipe leaves the choice (empty: any); `fails` are those that fail.
    """

    files: int | None = None
    largest_file: int | None = None
    lora_rank: int | None = None
    memory: int | None = None
    memory_guided: int | None = None
    memory_fp8: int | None = None
    memory_training: int | None = None
    estimate_drawing: Callable[[Drawing], int] | None = None
    estimate_training: Callable[[Training, tuple[int, int]], int] | None = None
    precision: Computed = ""
    fails: tuple[FailingPrecision, ...] = ()
