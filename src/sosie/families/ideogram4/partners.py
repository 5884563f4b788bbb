"""What Ideogram 4 is put together with. Source: ComfyUI `sd.py`."""

from __future__ import annotations

from sosie.families.contract.partners import Autoencoder, Partners, TextEncoders

PARTNERS = Partners(
    texts=(
        TextEncoders((("qwen3", "VL-8B"),), "qwen3vl_8b_fp8_scaled.safetensors", "ideogram4"),
        TextEncoders((("qwen3", "8B"),), "qwen3vl_8b_fp8_scaled.safetensors", "ideogram4"),
    ),
    vaes=(Autoencoder("32 channels", "flux2-vae.safetensors (FLUX.2's)"),),
    called="ideogram4",
)
