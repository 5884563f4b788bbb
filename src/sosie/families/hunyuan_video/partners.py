"""What HunyuanVideo is put together with. Source: ComfyUI `sd.py`."""

from __future__ import annotations

from sosie.families.contract.partners import Autoencoder, Partners, TextEncoders

PARTNERS = Partners(
    texts=(
        TextEncoders(
            (("clip", "CLIP-L"), ("language", "Llama-3.1-8B")),
            "clip_l.safetensors and llava_llama3_fp16.safetensors",
            "hunyuan_video",
            of="1.0",
        ),
        TextEncoders(
            (("language", "Qwen2.5-VL-7B"), ("t5", "ByT5")),
            "qwen_2.5_vl_7b and byt5_small_glyphxl_fp16",
            "hunyuan_video_15",
            of="1.5",
        ),
    ),
    vaes=(
        Autoencoder("16 channels, Hunyuan's video", "hunyuan_video_vae_bf16.safetensors", of="1.0"),
        Autoencoder("32 channels, video", "hunyuanvideo15_vae_fp16.safetensors", of="1.5"),
    ),
)
