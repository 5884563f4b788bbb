"""What PixArt is put together with. Source: ComfyUI `sd.py`."""

from __future__ import annotations

from sosie.families.contract.partners import Autoencoder, Partners, TextEncoders

PARTNERS = Partners(
    texts=(TextEncoders((("t5", "XXL"),), "t5xxl_fp16.safetensors", "pixart", never=("wan", "sd3", "hidream")),),
    vaes=(Autoencoder("4 channels", "sdxl_vae.safetensors (sigma), SD 1's (alpha)"),),
)
