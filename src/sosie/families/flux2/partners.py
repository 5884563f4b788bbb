"""What FLUX.2 is put together with: klein with the Qwen3 of its size, dev with Mistral Small.

Source: ComfyUI `sd.py` (klein's encoder joins three layers: 3 x 2560 = 7680 or 3 x 4096 = 12288 wide).
"""

from __future__ import annotations

from sosie.families.contract.partners import Autoencoder, Partners, TextEncoders

STATES = {7680: "qwen_3_4b.safetensors", 12288: "qwen_3_8b.safetensors"}
"""The published text encoder by how wide its joined states are."""

PARTNERS = Partners(
    texts=(
        TextEncoders((("qwen3", "4B"),), "qwen_3_4b.safetensors", "flux2", ("flux",), of="klein 4B"),
        TextEncoders((("qwen3", "VL-4B"),), "qwen_3_4b.safetensors", "flux2", ("flux",), of="klein 4B"),
        TextEncoders((("qwen3", "8B"),), "qwen_3_8b.safetensors", "flux2", never=("ideogram4",), of="klein 9B"),
        TextEncoders((("qwen3", "VL-8B"),), "qwen_3_8b.safetensors", "flux2", ("flux",), of="klein 9B"),
        TextEncoders((("language", "Mistral-Small-24B"),), "mistral_3_small_flux2_bf16.safetensors", of="dev"),
    ),
    vaes=(Autoencoder("32 channels", "flux2-vae.safetensors"),),
    called="flux2",
)
