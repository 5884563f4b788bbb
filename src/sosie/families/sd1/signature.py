"""How files of Stable Diffusion 1 are known from their headers.

Numbers: the states of its one text encoder (CLIP-L) are 768 wide and meet cross-attention already in
the first block; the UNet has twelve output blocks (SDXL: nine). Its VAE and text encoder are those of
other families too and belong to `autoencoders` and `clip`.
"""

from __future__ import annotations

from sosie.files.signature import Mark, Part
from sosie.files.unet import ip_adapter, unet

TEXT = 768
IMAGE_CHANNELS = (4, 8, 9)
"""Latent; latent + edited latent (pix2pix); latent + masked latent + mask (inpaint)."""

UNET_PARAMETERS = 859_520_964

GGUF = Part("denoiser", "GGUF", (Mark("input_blocks.0.0.weight"),), architecture="sd1")
"""By what a file says of itself, whatever it keeps of its biases."""

PARTS = (
    *unet(TEXT, IMAGE_CHANNELS, {"inpaint": 9, "pix2pix": 8}, UNET_PARAMETERS),
    ip_adapter(Mark("", sizes=(TEXT,))),
    GGUF,
)
