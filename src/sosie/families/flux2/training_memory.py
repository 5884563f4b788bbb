"""How much memory of a GPU the training of a LoRA of FLUX.2 klein 4B needs: an estimate from its shapes, without torch.

What a block keeps for its backward is counted from its layers, for each token and channel: 32 numbers in a block of two
streams, 26 in a block of one (its gated layer is three times as wide, twice before the gate). It was not measured.
"""

from __future__ import annotations

from collections.abc import Mapping

from sosie.core.recipe import Training
from sosie.diffusion.memory import CONTEXT, TILE
from sosie.families.flux2.memory import PARAMETERS

WIDTH, DOUBLES, SINGLES = 3072, 5, 20
TOKEN, TEXT = 16, 512
"""Pixels on a side of a token, and tokens of a text."""

KEPT_DOUBLE, KEPT_SINGLE = 32, 26
BACKWARD = 12
"""Numbers a token and channel that a block keeps, and those that its backward needs beside, around the widest."""

CODE, ENCODE_PIXEL, DECODE_PIXEL = 300_000_000, 3_300, 6_000
"""Bytes that the VAE needs in fp32: always, and a pixel (as SDXL's, which is the same net but for its channels)."""


def moments(training: Training, sample: tuple[int, int]) -> Mapping[str, int]:
    """Bytes of the GPU's memory, CUDA's own included, while the cache is filled, a step is done, and samples are drawn.

    `sample` is the size of a sample, in pixels; "auto" means what needs least: bf16, weights in fp8, layers twice.
    """
    number = 4 if training.precision == "fp32" else 2
    again = training.gradient_checkpointing is not False
    products = DOUBLES * 26 * WIDTH * WIDTH + SINGLES * 13 * WIDTH * WIDTH
    stored = PARAMETERS["transformer"] * number
    stored -= products * (number - 1) if training.base_storage != "precision" else 0
    held = CONTEXT + stored + adapters(training) * _bytes_each(training, number)
    rows = training.batch * ((training.resolution / TOKEN) ** 2 + TEXT) * number
    double, single = (rows * (kept * WIDTH + 4 * training.rank) for kept in (KEPT_DOUBLE, KEPT_SINGLE))
    inputs = (DOUBLES + SINGLES) * rows * WIDTH
    kept = inputs + max(double, single) if again else DOUBLES * double + SINGLES * single
    passing = BACKWARD * rows * WIDTH
    drawn = sample[0] * sample[1]
    tokens = (drawn / TOKEN**2 + TEXT) * WIDTH * number
    drawing = max(BACKWARD * tokens, _coding(DECODE_PIXEL * min(drawn, TILE**2)))
    encoding = PARAMETERS["text_encoder"] * number + _coding(ENCODE_PIXEL * training.resolution**2)
    return {
        "encode": round(CONTEXT + encoding),
        "train": round(held + kept + passing),
        "sample": round(held + kept + passing + drawing),  # a captured step keeps its memory
    }


def training_peak(training: Training, sample: tuple[int, int]) -> int:
    """The bytes that a run needs at its worst moment."""
    return max(moments(training, sample).values())


def adapters(training: Training) -> int:
    """The numbers that a LoRA of the training's rank and targets has."""
    columns = DOUBLES * 8 * 2 + SINGLES * (10 + 5)
    if training.targets != "attention":
        columns += DOUBLES * 2 * (7 + 4)
    return columns * WIDTH * training.rank


def _coding(more: float) -> float:
    """Bytes of the VAE at work in fp32."""
    return 4 * PARAMETERS["vae"] + CODE + more


def _bytes_each(training: Training, number: int) -> int:
    """Bytes for each number of the LoRA: weight and gradient in fp32 and in the model's precision, states, average."""
    states = 2 if training.optimizer == "adamw8bit" else 8
    copies = 2 * number if number < 4 else 0
    return 8 + copies + states + (8 if training.ema else 4)
