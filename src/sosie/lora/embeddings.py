"""Embeddings (textual inversion): words that were learned for a text encoder, in a file of their own.

Sources: ComfyUI `sd1_clip.py` (`load_embed`), OneTrainer `modelSaver/`, diffusers `loaders/textual_inversion.py`.
"""

from __future__ import annotations

from collections.abc import Mapping

from sosie.files.safetensors import Header
from sosie.lora.adapters import BUNDLED

WIDTHS: Mapping[int, str] = {768: "CLIP-L", 1024: "OpenCLIP-H", 1280: "OpenCLIP bigG", 4096: "T5-XXL"}
"""Text encoders by the width of their embeddings."""

NAMES = ("emb_params", "string_to_param.*", "clip_l", "clip_g", "t5", "t5xxl", "llama", "qwen", "<")
"""Names of the tensors, or how they begin."""

LARGEST = 1024
"""Most vectors of one word."""


def embedded(header: Header) -> tuple[str, ...]:
    """What an embedding's file holds, as "4 vectors for CLIP-L (768 wide)"; nothing if it is no such file."""
    found: list[str] = []
    for name, info in header.tensors.items():
        bare = name.rpartition(".")[2] if name.startswith(BUNDLED) and not name.endswith("*") else name
        known = name.startswith(BUNDLED) or bare.removesuffix("_out").startswith(NAMES)
        shape = info.shape if len(info.shape) > 1 else (1, *info.shape)
        if not known or len(shape) != 2 or not 0 < shape[0] <= LARGEST:
            return ()
        found.append(f"{shape[0]} vectors for {WIDTHS.get(shape[1], bare)} ({shape[1]} wide)")
    return tuple(found)
