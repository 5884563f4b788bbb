"""What FLUX.1 is put together with. Source: ComfyUI `sd.py`."""

from __future__ import annotations

from sosie.families.contract.partners import Autoencoder, Partners, TextEncoders

PARTNERS = Partners(
    texts=(
        TextEncoders((("clip", "CLIP-L"), ("t5", "XXL")), "clip_l.safetensors and t5xxl_fp16.safetensors", type="flux"),
    ),
    vaes=(Autoencoder("16 channels", "ae.safetensors"),),
    called="flux1",
)
