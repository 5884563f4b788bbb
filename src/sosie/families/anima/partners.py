"""What Anima is put together with. Source: ComfyUI `sd.py`."""

from __future__ import annotations

from sosie.families.contract.partners import Autoencoder, Partners, TextEncoders

PARTNERS = Partners(
    texts=(TextEncoders((("qwen3", "0.6B"),), "qwen_3_06b_base.safetensors"),),
    vaes=(Autoencoder("16 channels, video", "qwen_image_vae.safetensors"),),
    called="anima",
)
