"""What SDXL is put together with. Source: ComfyUI `sd.py`."""

from __future__ import annotations

from sosie.families.contract.partners import Autoencoder, Partners, TextEncoders

PARTNERS = Partners(
    texts=(
        TextEncoders((("clip", "CLIP-bigG"),), "clip_g.safetensors", never=("stable_cascade", "sd3"), of="refiner"),
        TextEncoders((("clip", "CLIP-L"), ("clip", "CLIP-bigG")), "clip_l.safetensors and clip_g.safetensors", "sdxl"),
    ),
    vaes=(Autoencoder("4 channels", "sdxl_vae.safetensors"),),
)
