"""What HunyuanImage 2.1 is put together with. Source: ComfyUI `sd.py`."""

from __future__ import annotations

from sosie.families.contract.partners import Autoencoder, Partners, TextEncoders

TYPE = "hunyuan_image"

PARTNERS = Partners(
    texts=(
        TextEncoders(
            (("language", "Qwen2.5-VL-7B"), ("t5", "ByT5")), "qwen_2.5_vl_7b and byt5_small_glyphxl_fp16", TYPE
        ),
        TextEncoders((("language", "Qwen2.5-VL-7B"),), "qwen_2.5_vl_7b.safetensors", TYPE),
    ),
    vaes=(Autoencoder("64 channels", "hunyuan_image_2.1_vae_fp16.safetensors"),),
)
