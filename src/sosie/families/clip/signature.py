"""How files of CLIP encoders are known from their headers.

Numbers: text states are 768 (L), 1024 (H, of SD2) or 1280 (bigG) wide; those of images 1024 (L),
1280 (H) or 1664 (bigG). SigLIP encoders of images have no class token but an attention pool. A
*reduced* text encoder is narrower than any published one. Text encoders that SDXL, SD3 and FLUX.1
share have one header, so they belong to no family of denoisers.

Sources: transformers `models/clip/modeling_clip.py`, `models/siglip/modeling_siglip.py`.
"""

from __future__ import annotations

import dataclasses

from sosie.files.signature import Mark, Part, Variant


def _text(width: Mark, variant: str) -> Part:
    marks = (
        dataclasses.replace(width, name="embeddings.token_embedding.weight", axis=1),
        dataclasses.replace(width, name="final_layer_norm.weight"),
        Mark("embeddings.position_embedding.weight", 0, (77, 248)),
        Mark("encoder.layers.0.self_attn.q_proj.weight"),
    )
    projected = Variant(f"{variant}, projected", (Mark("text_projection.weight"),))
    return Part(
        "text-encoder",
        "transformers",
        marks,
        absent=("vision_model.*",),
        prefixes=("text_model.", ""),
        variants=(projected,) if variant == "reduced" else (),
        variant=variant,
    )


TEXTS = (
    _text(Mark("", sizes=(768,)), "CLIP-L"),
    _text(Mark("", sizes=(1024,)), "CLIP-H"),
    _text(Mark("", sizes=(1280,)), "CLIP-bigG"),
    _text(Mark("", below=768), "reduced"),
)

IMAGES = (
    Part(
        "image-encoder",
        "transformers",
        (
            Mark("vision_model.embeddings.class_embedding", 0, (1024, 1280, 1664)),
            Mark("vision_model.pre_layrnorm.weight"),
        ),
        variants=tuple(
            Variant(name, (Mark("vision_model.embeddings.class_embedding", 0, (width,)),))
            for name, width in (("CLIP-L", 1024), ("CLIP-H", 1280), ("CLIP-bigG", 1664))
        ),
    ),
    Part(
        "image-encoder",
        "transformers",
        (Mark("vision_model.head.probe"), Mark("vision_model.embeddings.patch_embedding.weight")),
        variant="SigLIP",
    ),
)

PARTS = (*TEXTS, *IMAGES)
