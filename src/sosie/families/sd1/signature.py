"""How files of Stable Diffusion 1 are known from their headers.

Numbers: the states of its one text encoder (CLIP-L) are 768 wide and meet cross-attention already in
the first block; the UNet has twelve output blocks (SDXL: nine). Its VAE and text encoder are those of
other families too and belong to `autoencoders` and `clip`.
"""

from __future__ import annotations

from sosie.files.signature import Mark
from sosie.files.unet import ip_adapter, unet

TEXT = 768
IMAGE_CHANNELS = (4, 8, 9)
"""Latent; latent + edited latent (pix2pix); latent + masked latent + mask (inpaint)."""

UNET_PARAMETERS = 859_520_964

PARTS = (
    *unet(TEXT, IMAGE_CHANNELS, {"inpaint": 9, "pix2pix": 8}, UNET_PARAMETERS),
    ip_adapter(Mark("", sizes=(TEXT,))),
)
