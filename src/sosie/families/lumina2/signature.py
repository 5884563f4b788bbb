"""How files of Lumina-Image 2.0 are known from their headers.

Numbers: width 2304 = 24 heads of 96; the captions come from Gemma 2 2B (2304 wide too). Z-Image has
the same building blocks, 3840 wide; NewBie's header is this one with CLIP's pooled text. Marks are biases and norms: no
quantisation touches them.

Sources: diffusers `models/transformers/transformer_lumina2.py`, ComfyUI `model_detection.py`.
"""

from __future__ import annotations

from sosie.files.signature import COMFY, Mark, Part, Variant, bundled

WIDTH = 2304
PARAMETERS = 2_609_769_152

SINGLE = Part(
    "denoiser",
    "single file",
    (
        Mark("cap_embedder.1.bias", 0, (WIDTH,)),
        Mark("noise_refiner.0.attention.k_norm.weight", 0, (96,)),
        Mark("layers.0.adaLN_modulation.1.bias", 0, (4 * WIDTH,)),
        Mark("x_embedder.bias", 0, (WIDTH,)),
    ),
    prefixes=("", COMFY),
    variants=(Variant("NewBie", (Mark("clip_text_pooled_proj.*"),)),),
    parameters=PARAMETERS,
)

SPLIT = Part(
    "denoiser",
    "diffusers",
    (
        Mark("time_caption_embed.caption_embedder.1.bias", 0, (WIDTH,)),
        Mark("layers.0.norm1.linear.bias", 0, (4 * WIDTH,)),
        Mark("x_embedder.bias", 0, (WIDTH,)),
    ),
    parameters=PARAMETERS,
)

GGUF = Part("denoiser", "GGUF", (Mark("cap_embedder.1.weight", 0, (WIDTH,)),), architecture="lumina2")
"""By what a file says of itself, whatever it keeps of its biases."""

PARTS = (bundled(SINGLE, Mark("text_encoders.*")), SINGLE, SPLIT, GGUF)
