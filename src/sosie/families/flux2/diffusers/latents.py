"""Pictures as klein's transformer sees them: tokens of 16 x 16 pixels, 128 numbers each, of mean 0 and deviation 1.

The VAE has 32 channels of 8 x 8 pixels; four of its pixels are a token, whose mean and deviation are those that the
VAE's batch norm holds.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from sosie.diffusion.parts import Vae
from sosie.diffusion.vae import encode_image

BLOCK = 16
"""Pixels on a side of a token."""

BETWEEN = 10
"""How far references stand apart on the axis of pictures; what is drawn stands at 0 (`_prepare_image_ids`)."""


def latents_of(vae: Vae, image: Image.Image) -> Tensor:
    """[1, 128, h / 16, w / 16] of an RGB image whose sides are multiples of 16."""
    raw = encode_image(vae, image)
    mean, std = statistics(vae, raw)
    return (patches(raw) - mean) / std


def raw_latents(vae: Vae, latents: Tensor) -> Tensor:
    """[1, 32, h / 8, w / 8] as the VAE decodes them."""
    mean, std = statistics(vae, latents)
    return pixels(latents * std + mean)


def patches(raw: Tensor) -> Tensor:
    """[n, 32, h, w] as [n, 128, h / 2, w / 2]."""
    count, channels, height, width = raw.shape
    split = raw.view(count, channels, height // 2, 2, width // 2, 2)
    return split.permute(0, 1, 3, 5, 2, 4).reshape(count, 4 * channels, height // 2, width // 2)


def pixels(latents: Tensor) -> Tensor:
    """[n, 128, h, w] as [n, 32, 2 h, 2 w]."""
    count, channels, height, width = latents.shape
    split = latents.reshape(count, channels // 4, 2, 2, height, width)
    return split.permute(0, 1, 4, 2, 5, 3).reshape(count, channels // 4, 2 * height, 2 * width)


def tokens(latents: Tensor) -> Tensor:
    """[n, c, h, w] as [n, h w, c]."""
    return latents.flatten(2).transpose(1, 2)


def places(height: int, width: int, picture: int = 0) -> Tensor:
    """Where the tokens of a picture stand, int64 [h w, 4]: the picture, row, column, 0."""
    grid = torch.cartesian_prod(torch.arange(height), torch.arange(width))
    return torch.cat([torch.full((len(grid), 1), picture), grid, torch.zeros(len(grid), 1, dtype=torch.int64)], dim=1)


def text_places(count: int, device: torch.device | None = None) -> Tensor:
    """Where those of a prompt stand, int64 [count, 4]; made on the device, as a CUDA graph may be captured."""
    made = torch.zeros(count, 4, dtype=torch.int64, device=device)
    made[:, 3] = torch.arange(count, device=device)
    return made


def reference_places(references: Sequence[Tensor]) -> Tensor:
    """Where those of references (latents [1, c, h, w]) stand, one picture after the other, int64 [n, 4]."""
    return torch.cat(
        [places(one.shape[-2], one.shape[-1], BETWEEN * number) for number, one in enumerate(references, 1)]
    )


def statistics(vae: Vae, like: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and deviation of a token's numbers, [1, 128, 1, 1]."""
    norm: Any = vae
    eps = float(getattr(vae.config, "batch_norm_eps", 1e-4))
    mean = norm.bn.running_mean.view(1, -1, 1, 1).to(like.device, like.dtype)
    variance = norm.bn.running_var.view(1, -1, 1, 1)
    return mean, torch.sqrt(variance + eps).to(like.device, like.dtype)
