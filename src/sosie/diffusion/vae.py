"""From latents to pixels and back, without the black images of an overflowing VAE.

SDXL's own VAE overflows in fp16 (https://huggingface.co/madebyollin/sdxl-vae-fp16-fix says where).
"""

from __future__ import annotations

import numpy as np
import torch
from PIL import Image

from sosie.core.errors import NotFiniteError
from sosie.diffusion.offload import device_of
from sosie.diffusion.parts import Vae
from sosie.diffusion.waiting import computed


def encode_image(vae: Vae, image: Image.Image) -> torch.Tensor:
    """The scaled latents [1, c, h / 8, w / 8] of an RGB image whose sides are multiples of 8.

    The mode of the distribution, without noise; a VAE in fp16 works in fp32.
    """
    pixels = torch.as_tensor(np.asarray(image.convert("RGB"), dtype=np.float32).copy()) / 127.5 - 1.0
    before = vae.dtype
    if before == torch.float16:
        vae.to(torch.float32)
    batch = pixels.permute(2, 0, 1)[None].to(device_of(vae), vae.dtype)
    latents: torch.Tensor = vae.encode(batch).latent_dist.mode()
    if vae.dtype != before:
        vae.to(before)
    mean, std = _statistics(vae, latents)
    return (latents - mean) * _scale(vae) / std


def decode_latents(vae: Vae, latents: torch.Tensor) -> tuple[torch.Tensor, bool]:
    """Pixels float32 [n, 3, h, w] in [-1, 1], and whether they had to be decoded again in fp32.

    Where the VAE's own precision gives NaN or infinity it is decoded again in fp32; the VAE keeps
    its precision. Raises `NotFiniteError` for latents that hold NaN, before they are decoded, and if
    fp32 gives no finite image either.
    """
    if not bool(torch.isfinite(computed(latents)).all()):
        raise NotFiniteError("the latents hold NaN or infinity, and were not decoded")
    pixels = _decode(vae, latents, vae.dtype)
    if bool(torch.isfinite(pixels).all()):
        return pixels.float(), False
    if vae.dtype != torch.float32:
        before = vae.dtype
        vae.to(torch.float32)
        try:
            pixels = _decode(vae, latents, torch.float32)
        finally:
            vae.to(before)
        if bool(torch.isfinite(pixels).all()):
            return pixels.float(), True
    raise NotFiniteError("the VAE's picture holds NaN or infinity, in fp32 too")


def decode_quickly(vae: Vae, latents: torch.Tensor) -> torch.Tensor | None:
    """Pixels float32 [n, 3, h, w] in [-1, 1] in the VAE's own precision; None where they are not finite."""
    pixels = _decode(vae, latents.to(device_of(vae)), vae.dtype)
    return pixels.float() if bool(torch.isfinite(pixels).all()) else None


def to_image(pixels: torch.Tensor) -> Image.Image:
    """The first image (RGB) of decoded pixels [n, 3, h, w] in [-1, 1]."""
    levels = (pixels[0] / 2 + 0.5).clamp(0, 1).permute(1, 2, 0).cpu().numpy()
    return Image.fromarray((levels * 255).round().astype(np.uint8))


def _decode(vae: Vae, latents: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    mean, std = _statistics(vae, latents)
    raw = latents * std / _scale(vae) + mean
    return computed(vae.decode(raw.to(dtype), return_dict=False)[0])


def _scale(vae: Vae) -> float:
    """The factor of the latents; 1 for a VAE that names none."""
    return float(getattr(vae.config, "scaling_factor", None) or 1.0)


def _statistics(vae: Vae, like: torch.Tensor) -> tuple[torch.Tensor | float, torch.Tensor | float]:
    """Mean and deviation of the latents, [1, c, 1, 1], for a VAE that names them; the shift (or 0) and 1 for others."""
    named = [getattr(vae.config, name, None) for name in ("latents_mean", "latents_std")]
    if None in named:
        return getattr(vae.config, "shift_factor", None) or 0.0, 1.0
    mean, std = (torch.tensor(values).view(1, -1, 1, 1).to(like.device, like.dtype) for values in named)
    return mean, std
