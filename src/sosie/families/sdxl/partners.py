"""What SDXL is put together with."""

from __future__ import annotations

from sosie.families.contract.partners import Partners

PARTNERS = Partners(
    encoders=(("clip", "CLIP-L"), ("clip", "CLIP-bigG")),
    encoder_file="clip_l.safetensors and clip_g.safetensors",
    latents=4,
    vae_file="sdxl_vae.safetensors",
)
