"""How much memory of a GPU the training of a LoRA of SDXL needs: an estimate from the UNet's shapes, without torch.

What a pass keeps for its backward was counted, tensor by tensor, in a full-size UNet with adapters: a normalised
transformer block keeps 28 numbers for each token and channel, a residual block its input and output three times.
With gradient checkpointing only the inputs of blocks are kept, and one block is computed again at a time.

Published anchors that the estimate agrees with: batch 1 at 1024 x 1024 px on cards of 12 GB with checkpointing
(8 GB the floor, 10 recommended: sd-scripts' documentation) and of 24 GB without (bmaltais/kohya_ss #1288).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from sosie.core.recipe import Training
from sosie.diffusion.memory import CONTEXT, TILE
from sosie.families.sdxl.memory import CODE, DECODE_PIXEL, DENOISE, DENOISE_PIXEL, ENCODE_PIXEL, PARAMETERS, TEXT

WIDTHS, DEPTHS, LAYERS = (320, 640, 1280), (0, 2, 10), 2
"""The UNet's levels: channels, transformer blocks of each attention, residual blocks (one more on the way up)."""

CONTEXT_WIDTH = 2048
"""Channels of a text's states."""

LATENT = 8
"""Pixels on a side of one latent pixel."""

KEPT, KEPT_RANKS = 28, 8
"""Numbers a token that a transformer block keeps: so many a channel, and so many a rank of its adapters."""

KEPT_AROUND = 3
"""... and the layers before and after an attention's blocks, a channel."""

RESIDUAL = 3
"""Times that a residual block keeps its input and its output."""

BACKWARD = 2.0
"""What a pass needs beside what it keeps, as a multiple of a pass without gradients (`memory.DENOISE_PIXEL`)."""

CAPTURED = 1.0
"""The share of a pass's memory that its recording keeps while samples are drawn (CUDA graphs)."""

EIGHT_BITS = 0.87
"""The share of the UNet's parameters that `base_storage = "fp8"` stores in 8 bits: the linear layers of its blocks."""

# KEPT* and RESIDUAL were counted at 1024 x 1024 px (6.75 GB kept at batch 1 and rank 16, 0.57 GB with checkpointing).
# With BACKWARD and CAPTURED the worst moment is within 7 % of what an H200 held at the end of eight kinds of runs,
# CUDA's own included (docs/training.md, `benchmarks/train_speed.py --memory`).


@dataclass(frozen=True)
class _Residual:
    """A residual block at `level` (0: the full latent size); without `taught` no adapter comes before it."""

    level: int
    given: int
    made: int
    taught: bool


@dataclass(frozen=True)
class _Attention:
    """A group of `depth` transformer blocks at `level`, `width` channels."""

    level: int
    width: int
    depth: int


def moments(training: Training, sample: tuple[int, int]) -> Mapping[str, int]:
    """Bytes of the GPU's memory, CUDA's own included, while the cache is filled, a step is done, and samples are drawn.

    `sample` is the size of a sample, in pixels; `precision = "auto"` means bf16, as it does on a GPU.
    """
    number = 4 if training.precision == "fp32" else 2
    kept, passing = _passes(training, number)
    stored = PARAMETERS["unet"] * number
    if training.base_storage != "precision":
        stored -= round(PARAMETERS["unet"] * EIGHT_BITS * (number - 1))
    held = CONTEXT + stored + adapters(training) * _bytes_each(training, number)
    pixels, drawn = training.resolution**2, sample[0] * sample[1]
    encoding = 4 * (PARAMETERS["text_encoders"] + PARAMETERS["vae"]) + 2 * max(TEXT, CODE + ENCODE_PIXEL * pixels)
    denoising = DENOISE + DENOISE_PIXEL * drawn * 2 * number / 2
    decoding = 4 * PARAMETERS["vae"] + 2 * (CODE + DECODE_PIXEL * min(drawn, TILE**2))
    return {
        "encode": round(CONTEXT + encoding),
        "train": round(held + kept + passing),
        "sample": round(held + CAPTURED * (kept + passing) + max(denoising, decoding)),
    }


def training_peak(training: Training, sample: tuple[int, int]) -> int:
    """The bytes that a run needs at its worst moment."""
    return max(moments(training, sample).values())


def adapters(training: Training) -> int:
    """The numbers that a LoRA of the training's rank and targets has."""
    columns = 0
    for group in _attentions():
        width = group.width
        columns += group.depth * (14 * width + 2 * CONTEXT_WIDTH)  # queries, keys, values and outputs, twice
        if training.targets != "attention":
            columns += group.depth * 14 * width  # the feed-forward
        if training.targets in ("transformer", "all"):
            columns += 4 * width  # the layers before and after
    if training.targets == "all":
        for block in _residuals():
            given, made = block.given, block.made
            columns += 9 * given + made + 9 * made + made + (given + made if given != made else 0)
        columns += 10 * (sum(WIDTHS[:-1]) + sum(WIDTHS[1:]))  # convolutions between the levels, down and up
    return columns * training.rank


def _bytes_each(training: Training, number: int) -> int:
    """Bytes for each number of the LoRA: weight and gradient in fp32 and in the model's precision, states, average."""
    states = 2 if training.optimizer == "adamw8bit" else 8
    copies = 2 * number if number < 4 else 0
    return 8 + copies + states + (8 if training.ema else 4)


def _passes(training: Training, number: int) -> tuple[float, float]:
    """Bytes that a pass keeps for its backward, and needs beside."""
    pixels = training.resolution**2
    rows = training.batch
    blocks = [(_tokens(group.level, pixels), group) for group in _attentions()]
    one = {group: tokens * (KEPT * group.width + KEPT_RANKS * training.rank) for tokens, group in blocks}
    residuals = [(_tokens(block.level, pixels), block) for block in _residuals()]
    if training.gradient_checkpointing:
        kept = sum(tokens * group.width * (group.depth + KEPT_AROUND) for tokens, group in blocks)
        kept += sum(tokens * block.given for tokens, block in residuals)
        kept += max(one.values())
    else:
        kept = sum(one[group] * group.depth + tokens * group.width * KEPT_AROUND for tokens, group in blocks)
        taught = [(tokens, block) for tokens, block in residuals if block.taught or training.targets == "all"]
        kept += sum(tokens * RESIDUAL * (block.given + block.made) for tokens, block in taught)
    passing = DENOISE + BACKWARD * DENOISE_PIXEL * pixels * rows * number / 2
    return kept * rows * number, passing


def _tokens(level: int, pixels: int) -> float:
    return pixels / (LATENT << level) ** 2


def _attentions() -> Iterator[_Attention]:
    """Every attention: on the way down, in the middle, on the way up."""
    for level, (width, depth) in enumerate(zip(WIDTHS, DEPTHS, strict=True)):
        for _ in range(2 * LAYERS + 1 if depth else 0):
            yield _Attention(level, width, depth)
    yield _Attention(len(WIDTHS) - 1, WIDTHS[-1], DEPTHS[-1])


def _residuals() -> Iterator[_Residual]:
    """Every residual block; those before the first attention need no gradient."""
    skips, given, taught = [WIDTHS[0]], WIDTHS[0], False
    for level, width in enumerate(WIDTHS):
        for _ in range(LAYERS):
            yield _Residual(level, given, width, taught)
            given, taught = width, taught or DEPTHS[level] > 0
            skips.append(width)
        if level < len(WIDTHS) - 1:
            skips.append(width)
    for _ in range(2):
        yield _Residual(len(WIDTHS) - 1, given, given, True)
    for level in reversed(range(len(WIDTHS))):
        for _ in range(LAYERS + 1):
            yield _Residual(level, given + skips.pop(), WIDTHS[level], True)
            given = WIDTHS[level]
