"""What Krea 2 is put together with. Source: ComfyUI `sd.py`."""

from __future__ import annotations

from sosie.families.contract.partners import Autoencoder, Partners, TextEncoders

PARTNERS = Partners(
    texts=(TextEncoders((("qwen3", "VL-4B"),), "qwen3vl_4b_fp8_scaled.safetensors", "krea2"),),
    vaes=(Autoencoder("16 channels, video", "qwen_image_vae.safetensors"),),
    called="krea2",
)
