"""What Lumina-Image 2.0 is put together with. Source: ComfyUI `sd.py`."""

from __future__ import annotations

from sosie.families.contract.partners import Autoencoder, Partners, TextEncoders

PARTNERS = Partners(
    texts=(
        TextEncoders(
            (("language", "Gemma-2-2B"),), "gemma_2_2b_fp16.safetensors", "lumina2", never=("pixeldit",), of="base"
        ),
    ),
    vaes=(Autoencoder("16 channels", "ae.safetensors"),),
)
