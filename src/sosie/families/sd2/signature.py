"""How files of Stable Diffusion 2 are known from their headers.

Numbers: as Stable Diffusion 1, but the states of its text encoder (OpenCLIP-H) are 1024 wide. Models
that predict noise (512 base) and velocity (768) share a header: only the configuration tells.
Stable Video Diffusion is 1024 wide too; it has an added embedding, which SD2 has not.
"""

from __future__ import annotations

from sosie.files.unet import unet

TEXT = 1024
IMAGE_CHANNELS = (4, 5, 7, 9)
"""Latent; latent + depth; latent + low-resolution image (x4 upscaler); latent + masked latent + mask."""

UNET_PARAMETERS = 865_910_724
PREDICTS = "base or v-prediction (the same header)"

PARTS = unet(TEXT, IMAGE_CHANNELS, {"inpaint": 9, "depth": 5}, UNET_PARAMETERS, PREDICTS)
