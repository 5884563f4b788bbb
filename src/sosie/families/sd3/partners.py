"""What Stable Diffusion 3 is put together with: any of its three encoders. Source: ComfyUI `sd.py`."""

from __future__ import annotations

from sosie.families.contract.partners import Autoencoder, Partners, TextEncoders

PARTNERS = Partners(
    texts=(
        TextEncoders(
            (("clip", "CLIP-L"), ("clip", "CLIP-bigG"), ("t5", "XXL")),
            "clip_l.safetensors, clip_g.safetensors and t5xxl_fp16.safetensors",
            "sd3",
            any_of=True,
        ),
    ),
    vaes=(Autoencoder("16 channels", "sd3_vae.safetensors"),),
)
