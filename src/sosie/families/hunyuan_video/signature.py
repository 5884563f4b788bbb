"""How files of HunyuanVideo are known from their headers.

Numbers: 24 heads of 128 make 3072, and the pooled text of CLIP-L enters (`vector_in`); 1.5 has 16 heads (2048), no
pooled text, and sees images by SigLIP (`vision_in`).

Sources: diffusers `models/transformers/transformer_hunyuan_video.py`, ComfyUI `model_detection.py`.
"""

from __future__ import annotations

from sosie.files.signature import COMFY, Mark, Part

REFINER = "txt_in.individual_token_refiner.blocks.0.norm1.bias"
PREFIXES = ("", COMFY, "model.model.")

ONE = Part(
    "denoiser",
    "single file",
    (Mark(REFINER, 0, (3072,)), Mark("img_in.proj.bias", 0, (3072,)), Mark("vector_in.*")),
    prefixes=PREFIXES,
    variant="1.0",
)

ONE_FIVE = Part(
    "denoiser",
    "single file",
    (Mark(REFINER, 0, (2048,)), Mark("img_in.proj.bias", 0, (2048,)), Mark("vision_in.*")),
    prefixes=PREFIXES,
    variant="1.5",
)

SPLIT = Part(
    "denoiser",
    "diffusers",
    (
        Mark("context_embedder.token_refiner.refiner_blocks.0.norm1.bias", 0, (3072,)),
        Mark("x_embedder.proj.bias", 0, (3072,)),
    ),
    variant="1.0",
)

GGUF = Part("denoiser", "GGUF", (Mark("double_blocks.0.*"),), variant="1.0", architecture="hyvid")
"""By what a file says of itself, whatever it keeps of its biases."""

PARTS = (ONE, ONE_FIVE, SPLIT, GGUF)
