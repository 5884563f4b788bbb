"""What Qwen-Image is put together with. Source: ComfyUI `sd.py`."""

from __future__ import annotations

from sosie.families.contract.partners import Autoencoder, Partners, TextEncoders

PARTNERS = Partners(
    texts=(
        TextEncoders(
            (("language", "Qwen2.5-VL-7B"),),
            "qwen_2.5_vl_7b.safetensors",
            "qwen_image",
            never=("hunyuan_image", "longcat_image"),
        ),
    ),
    vaes=(Autoencoder("16 channels, video", "qwen_image_vae.safetensors"),),
)
