"""How files of Chroma are known from their headers.

Numbers: FLUX.1's blocks, 3072 wide, without modulation or pooled text; a *distilled guidance layer* of 5120 gives the
modulation. Chroma Radiance draws pixels: it has no input of latents.

Sources: diffusers `models/transformers/transformer_chroma.py`, ComfyUI `model_detection.py`.
"""

from __future__ import annotations

from sosie.files.signature import COMFY, Mark, Part, Variant

WIDTH, GUIDANCE = 3072, 5120
PARAMETERS = 8_899_983_424

SINGLE = Part(
    "denoiser",
    "single file",
    (
        Mark("distilled_guidance_layer.in_proj.bias", 0, (GUIDANCE,)),
        Mark("double_blocks.0.img_attn.norm.key_norm.*", 0, (128,)),
        Mark("txt_in.bias", 0, (WIDTH,)),
    ),
    prefixes=("", COMFY),
    variants=(Variant("Radiance (pixels)", (Mark("nerf_blocks.0.*"),)),),
)

SPLIT = Part(
    "denoiser",
    "diffusers",
    (
        Mark("distilled_guidance_layer.in_proj.bias", 0, (GUIDANCE,)),
        Mark("transformer_blocks.0.attn.norm_k.weight", 0, (128,)),
        Mark("x_embedder.bias", 0, (WIDTH,)),
    ),
    parameters=PARAMETERS,
)

GGUF = Part("denoiser", "GGUF", (Mark("distilled_guidance_layer.*"),), architecture="flux")
"""By what a file says of itself, whatever it keeps of its biases."""

PARTS = (SINGLE, SPLIT, GGUF)
