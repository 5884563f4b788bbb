"""A batch of pictures at random noise levels, as flow models are trained on them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

import torch
from torch import Generator, Tensor

TRAINED = 1000


class NoisedBatch(NamedTuple):
    """Latents [n, c, h, w] drawn from their distribution, noise, their mix, and how noisy each is [n], 0 to 1."""

    clean: Tensor
    noise: Tensor
    noisy: Tensor
    levels: Tensor


def noised_batch(
    batch: Mapping[str, Tensor], generator: Generator, positions: Callable[[int, int], Tensor]
) -> NoisedBatch:
    """A batch of `mean` and `std` [n, c, h, w], on the CPU.

    Latents and noise are drawn from `generator`; then `positions` (of how many, of how many levels) says at which
    noise.
    """
    spread = torch.randn(batch["std"].shape, generator=generator)
    noise = torch.randn(batch["mean"].shape, generator=generator)
    levels = positions(len(noise), TRAINED).float()
    clean = batch["mean"] + batch["std"] * spread
    share = levels.view(-1, 1, 1, 1)
    return NoisedBatch(clean, noise, (1 - share) * clean + share * noise, levels)
