"""What Wan is put together with. Source: ComfyUI `sd.py`."""

from __future__ import annotations

from sosie.families.contract.partners import Autoencoder, Partners, TextEncoders

PARTNERS = Partners(
    texts=(TextEncoders((("t5", "UMT5"),), "umt5_xxl_fp16.safetensors", "wan"),),
    vaes=(
        Autoencoder("48 channels, video", "wan2.2_vae.safetensors", of="2.2 5B"),
        Autoencoder("16 channels, video", "wan_2.1_vae.safetensors", of="14B"),
        Autoencoder("16 channels, video", "wan_2.1_vae.safetensors", of="1.3B"),
    ),
)
