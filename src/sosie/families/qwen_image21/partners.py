"""What Qwen-Image 2.1 is put together with. Source: ComfyUI `sd.py`."""

from __future__ import annotations

from sosie.families.contract.partners import Autoencoder, Partners, TextEncoders

PARTNERS = Partners(
    texts=(TextEncoders((("qwen3", "VL-8B"),), "qwen3vl_8b_int8_convrot.safetensors", "qwen_image"),),
    vaes=(Autoencoder("64 channels, Qwen's", "qwen_image_2.1_vae_bf16.safetensors"),),
    called="qwenimage21",
)
