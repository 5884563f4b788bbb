"""What Chroma is put together with. Source: ComfyUI `sd.py`."""

from __future__ import annotations

from sosie.families.contract.partners import Autoencoder, Partners, TextEncoders

PARTNERS = Partners(
    texts=(TextEncoders((("t5", "XXL"),), "t5xxl_fp16.safetensors", "chroma", never=("wan", "sd3", "hidream")),),
    vaes=(Autoencoder("16 channels", "ae.safetensors (FLUX.1's)", of="base"),),
)
