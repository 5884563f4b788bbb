"""What FLUX.2 is put together with: klein with the Qwen3 of its size, dev with Mistral Small.

Sources: the pages of klein and klein base; ComfyUI's templates and `sd.py` (klein's encoder joins three layers: 3 x
2560 = 7680 or 3 x 4096 = 12288 wide).
"""

from __future__ import annotations

import re

from sosie.families.contract.partners import Autoencoder, Partners, SamplingRange, TextEncoders


def variant_of(name: str) -> str:
    """Which klein a model's name or path means: `base`, `distilled`, `kv`, or empty."""
    text = re.sub(r"[\s_.-]+", "", name.lower().rstrip("/").rpartition("/")[2])
    if "klein" not in text:
        return ""
    if re.search(r"klein\d+bkv|kleinkv", text):
        return "kv"
    return "base" if "kleinbase" in text else "distilled"


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
    ranges=(
        SamplingRange("base", "FLUX.2 klein base", (20, 50), (2.5, 6.0)),
        SamplingRange(
            "distilled",
            "FLUX.2 klein",
            (4, 8),
            (1.0, 1.0),
            train_instead="on klein base, whose LoRAs its distilled sister takes",
            train_seen="that its publisher gives out the base model for it",
        ),
    ),
    published="4 steps at CFG 1 for klein, 20 to 50 steps at CFG 4 to 5 for klein base",
    variant_of=variant_of,
    called="flux2",
    switches_cfg=True,
)
