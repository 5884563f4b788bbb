"""What HiDream-I1 is put together with: any of its four encoders. Source: ComfyUI `sd.py`."""

from __future__ import annotations

from sosie.families.contract.partners import Autoencoder, Partners, TextEncoders

PARTNERS = Partners(
    texts=(
        TextEncoders(
            (("clip", "CLIP-L"), ("clip", "CLIP-bigG"), ("t5", "XXL"), ("language", "Llama-3.1-8B")),
            "clip_l_hidream.safetensors, clip_g_hidream.safetensors, t5xxl and llama_3.1_8b_instruct",
            "hidream",
            any_of=True,
        ),
    ),
    vaes=(Autoencoder("16 channels", "ae.safetensors (FLUX.1's)"),),
)
