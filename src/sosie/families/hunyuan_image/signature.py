"""How files of HunyuanImage 2.1 are known from their headers.

Numbers: 28 heads of 128 make 3584; HunyuanVideo's refiner of text tokens, without its pooled text. ByT5 reads the words
that are to be written in the picture.

Sources: diffusers `models/transformers/transformer_hunyuanimage.py`, ComfyUI `model_detection.py`.
"""

from __future__ import annotations

from sosie.files.signature import COMFY, Mark, Part

WIDTH = 3584

SINGLE = Part(
    "denoiser",
    "single file",
    (
        Mark("txt_in.individual_token_refiner.blocks.0.norm1.bias", 0, (WIDTH,)),
        Mark("img_in.proj.bias", 0, (WIDTH,)),
    ),
    absent=("vector_in.*", f"{COMFY}vector_in.*"),
    prefixes=("", COMFY, "model.model."),
)

SPLIT = Part(
    "denoiser",
    "diffusers",
    (
        Mark("context_embedder.token_refiner.refiner_blocks.0.norm1.bias", 0, (WIDTH,)),
        Mark("x_embedder.proj.bias", 0, (WIDTH,)),
    ),
)

PARTS = (SINGLE, SPLIT)
