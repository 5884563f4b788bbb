"""How much memory of a GPU the training of a LoRA of Z-Image needs: an estimate from its shapes, without torch.

What a layer keeps for its backward was counted in `velocity`: 27 numbers for each token and channel (the feed-forward
layer, 8/3 times as wide, keeps four of its own), and of each adapter what its first matrix gives. With gradient
checkpointing only the inputs of layers are kept, and one layer is computed again at a time.

Published anchors: 12 GB at 768 px with weights in 8 bits (ai-toolkit #550), 9.7 GiB with int8 (SimpleTuner), 20 GB in
bf16 at batch 2 with checkpointing (OneTrainer #1269).
"""

from __future__ import annotations

from collections.abc import Mapping

from sosie.core.recipe import Training
from sosie.diffusion.memory import CONTEXT, TILE
from sosie.families.zimage.adapters import FEED, TIME, WIDTH
from sosie.families.zimage.signature import PARAMETERS

LAYERS, REFINERS = 30, 2
"""Layers over picture and text; so many more over each alone."""

ENCODER, VAE = 4_022_000_000, 83_800_000
"""Parameters of Qwen3-4B without its head, and of the VAE."""

TOKEN, CAPTION = 16, 128
"""Pixels on a side of a token, and tokens of a usual caption, filled up."""

KEPT = 27
BACKWARD = 6
"""Numbers a token and channel that a layer keeps, and those that its backward needs beside, around the widest."""

CODE, ENCODE_PIXEL, DECODE_PIXEL = 300_000_000, 3_300, 6_000
"""Bytes that the VAE needs in fp32: always, and a pixel (as SDXL's, which is the same net but for its channels)."""


def moments(training: Training, sample: tuple[int, int]) -> Mapping[str, int]:
    """Bytes of the GPU's memory, CUDA's own included, while the cache is filled, a step is done, and samples are drawn.

    `sample` is the size of a sample, in pixels; "auto" means what needs least: bf16, weights in fp8, layers twice.
    """
    number = 4 if training.precision == "fp32" else 2
    again = training.gradient_checkpointing is not False
    products = (LAYERS + 2 * REFINERS) * (4 * WIDTH * WIDTH + 3 * WIDTH * FEED)
    stored = PARAMETERS * number - (products * (number - 1) if training.base_storage != "precision" else 0)
    held = CONTEXT + stored + adapters(training) * _bytes_each(training, number)
    tokens = (training.resolution / TOKEN) ** 2 + CAPTION
    rows = training.batch * tokens * number
    layer = rows * (KEPT * WIDTH + 8 * training.rank)
    kept = LAYERS * rows * WIDTH + layer if again else LAYERS * layer
    passing = BACKWARD * rows * WIDTH
    drawn = sample[0] * sample[1]
    drawing = max(BACKWARD * (drawn / TOKEN**2 + CAPTION) * WIDTH * number, _coding(DECODE_PIXEL * min(drawn, TILE**2)))
    encoding = ENCODER * number + _coding(ENCODE_PIXEL * training.resolution**2)
    return {
        "encode": round(CONTEXT + encoding),
        "train": round(held + kept + passing),
        "sample": round(held + kept + passing + drawing),  # a captured step keeps its memory
    }


def _coding(more: float) -> float:
    """Bytes of the VAE at work in fp32."""
    return 4 * VAE + CODE + more


def training_peak(training: Training, sample: tuple[int, int]) -> int:
    """The bytes that a run needs at its worst moment."""
    return max(moments(training, sample).values())


def adapters(training: Training) -> int:
    """The numbers that a LoRA of the training's rank and targets has."""
    columns = 4 * (WIDTH + WIDTH)
    if training.targets != "attention":
        columns += 3 * (WIDTH + FEED)
    modulated = training.targets in ("transformer", "all")
    modulation = TIME + 4 * WIDTH if modulated else 0
    count = LAYERS * (columns + modulation)
    if training.targets == "all":
        count += REFINERS * (2 * columns + modulation)
    return count * training.rank


def _bytes_each(training: Training, number: int) -> int:
    """Bytes for each number of the LoRA: weight and gradient in fp32 and in the model's precision, states, average."""
    states = 2 if training.optimizer == "adamw8bit" else 8
    copies = 2 * number if number < 4 else 0
    return 8 + copies + states + (8 if training.ema else 4)
