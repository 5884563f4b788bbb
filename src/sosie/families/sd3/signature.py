"""How files of Stable Diffusion 3 are known from their headers.

Numbers: 24 blocks of 24 heads of 64 (2B, 3.5 medium) or 38 of 38 (3.5 large); a block's modulation has
six vectors of the width, 9216 or 14592. 3.5 medium has a second attention in its first 13 blocks.
Marks are biases and norms: no quantisation touches them.

Sources: diffusers `models/transformers/transformer_sd3.py`, ComfyUI `model_detection.py`.
"""

from __future__ import annotations

from sosie.files.signature import COMFY, Mark, Part, Variant, bundled

WIDTHS = (1536, 2432)
MODULATION = (6 * 1536, 6 * 2432)
MEDIUM, MEDIUM_35, LARGE_35 = 2_084_951_104, 2_469_663_936, 8_146_280_768

SINGLE = Part(
    "denoiser",
    "single file",
    (
        Mark("joint_blocks.0.context_block.adaLN_modulation.1.bias", 0, MODULATION),
        Mark("x_embedder.proj.bias", 0, WIDTHS),
        Mark("context_embedder.bias", 0, WIDTHS),
    ),
    prefixes=("", COMFY),
    variants=(
        Variant("3.5 medium", (Mark("joint_blocks.0.x_block.attn2.*"),), MEDIUM_35),
        Variant("3.5 large or large turbo (the same header)", (Mark("joint_blocks.37.*"),), LARGE_35),
    ),
    variant="3 medium",
    parameters=MEDIUM,
)

SPLIT = Part(
    "denoiser",
    "diffusers",
    (
        Mark("transformer_blocks.0.norm1_context.linear.bias", 0, MODULATION),
        Mark("pos_embed.proj.bias", 0, WIDTHS),
        Mark("context_embedder.bias", 0, WIDTHS),
    ),
    absent=("single_transformer_blocks.*", "controlnet_blocks.*"),
    variants=(
        Variant("3.5 medium", (Mark("transformer_blocks.0.attn2.*"),), MEDIUM_35),
        Variant("3.5 large or large turbo (the same header)", (Mark("transformer_blocks.37.*"),), LARGE_35),
    ),
    variant="3 medium",
    parameters=MEDIUM,
)

CONTROLNET = Part(
    "controlnet",
    "diffusers",
    (Mark("controlnet_blocks.0.bias", 0, WIDTHS), Mark("pos_embed_input.proj.bias", 0, WIDTHS)),
    absent=("single_transformer_blocks.*",),
)

CHECKPOINTS = (bundled(SINGLE, Mark("first_stage_model.*")), bundled(SINGLE, Mark("text_encoders.*")))

GGUF = Part(
    "denoiser",
    "GGUF",
    (Mark("joint_blocks.0.*"),),
    variants=SINGLE.variants,
    variant=SINGLE.variant,
    architecture="sd3",
)
"""By what a file says of itself, whatever it keeps of its biases."""

PARTS = (*CHECKPOINTS, SINGLE, SPLIT, CONTROLNET, GGUF)
