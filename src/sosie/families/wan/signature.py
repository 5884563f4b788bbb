"""How files of Wan are known from their headers.

Numbers: 1536 (1.3B), 5120 (14B) or 3072 wide (2.2 5B, whose latents have 48 channels). What starts from an image has
more channels in. Wan 2.2's two 14B models (high and low noise) and 2.1's share a header.

Sources: diffusers `models/transformers/transformer_wan.py`, ComfyUI `model_detection.py`.
"""

from __future__ import annotations

from sosie.files.signature import COMFY, Mark, Part, Variant

WIDTHS = (1536, 3072, 5120)


def _variants(first: str) -> tuple[Variant, ...]:
    return (
        Variant("2.2 5B", (Mark(first, 0, (3072,)),)),
        Variant("14B (2.1, or 2.2's high or low noise)", (Mark(first, 0, (5120,)),)),
        Variant("1.3B", (Mark(first, 0, (1536,)),)),
    )


SINGLE = Part(
    "denoiser",
    "single file",
    (Mark("patch_embedding.bias", 0, WIDTHS), Mark("head.modulation"), Mark("blocks.0.self_attn.norm_k.weight")),
    prefixes=("", COMFY),
    variants=_variants("patch_embedding.bias"),
)

SPLIT = Part(
    "denoiser",
    "diffusers",
    (
        Mark("patch_embedding.bias", 0, WIDTHS),
        Mark("condition_embedder.time_proj.bias"),
        Mark("blocks.0.attn1.norm_k.weight", 0, WIDTHS),
    ),
    variants=_variants("patch_embedding.bias"),
)

GGUF = Part("denoiser", "GGUF", (Mark("blocks.0.*"),), variants=_variants("patch_embedding.bias"), architecture="wan")
"""By what a file says of itself, whatever it keeps of its biases."""

PARTS = (SINGLE, SPLIT, GGUF)
