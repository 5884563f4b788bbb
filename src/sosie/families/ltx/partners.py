"""What LTX-Video is put together with; of LTX-2 it is not said. Source: ComfyUI `sd.py`."""

from __future__ import annotations

from sosie.families.contract.partners import Autoencoder, Partners, TextEncoders

PARTNERS = Partners(
    texts=(
        TextEncoders((("t5", "XXL"),), "t5xxl_fp16.safetensors", "ltxv", never=("wan", "sd3", "hidream"), of="base"),
    ),
    vaes=(Autoencoder("128 channels, video", "the VAE of its checkpoint", of="base"),),
)
