"""How files of Stable Diffusion 2 are known from their headers.

Numbers: as Stable Diffusion 1, but the states of its text encoder (OpenCLIP-H) are 1024 wide. Models
that predict noise (512 base) and velocity (768) share a header: only the configuration tells.
Stable Video Diffusion is 1024 wide too; it has an added embedding, which SD2 has not.

Sources: diffusers `loaders/single_file_utils.py`, `models/controlnets/`.
"""

from __future__ import annotations

from sosie.files.signature import COMFY, Mark, Part, Variant, bundled

TEXT = 1024
IMAGE_CHANNELS = (4, 5, 7, 9)
"""Latent; latent + depth; latent + low-resolution image (x4 upscaler); latent + masked latent + mask."""

UNET_PARAMETERS = 865_910_724
PREDICTS = "base or v-prediction (the same header)"


def _variants(conv_in: str) -> tuple[Variant, ...]:
    return Variant("inpaint", (Mark(conv_in, 1, (9,)),)), Variant("depth", (Mark(conv_in, 1, (5,)),))


SINGLE = Part(
    "denoiser",
    "single file",
    (
        Mark("input_blocks.1.1.transformer_blocks.0.attn2.to_k.weight", 1, (TEXT,)),
        Mark("input_blocks.0.0.weight", 1, IMAGE_CHANNELS),
        Mark("output_blocks.11.0.skip_connection.weight", 0, (320,)),
    ),
    absent=("conditioner.*", "label_emb.*", f"{COMFY}label_emb.*"),
    prefixes=("", COMFY),
    variants=_variants("input_blocks.0.0.weight"),
    variant=PREDICTS,
    parameters=UNET_PARAMETERS,
)

UNET = Part(
    "denoiser",
    "diffusers",
    (
        Mark("down_blocks.0.attentions.0.transformer_blocks.0.attn2.to_k.weight", 1, (TEXT,)),
        Mark("conv_in.weight", 1, IMAGE_CHANNELS),
        Mark("up_blocks.3.attentions.2.*"),
    ),
    absent=(
        *("add_embedding.*", "encoder_hid_proj.*", "controlnet_cond_embedding.*"),
        # Of video: AnimateDiff, and text-to-video with convolutions over time.
        *("down_blocks.0.motion_modules.*", "transformer_in.*", "down_blocks.0.temp_convs.*"),
    ),
    variants=_variants("conv_in.weight"),
    variant=PREDICTS,
    parameters=UNET_PARAMETERS,
)

CONTROLNETS = (
    Part(
        "controlnet",
        "diffusers",
        (
            Mark("controlnet_cond_embedding.conv_in.weight"),
            Mark("down_blocks.0.attentions.0.transformer_blocks.0.attn2.to_k.weight", 1, (TEXT,)),
        ),
        absent=("add_embedding.*",),
    ),
    Part(
        "controlnet",
        "single file",
        (
            Mark("input_hint_block.0.weight"),
            Mark("input_blocks.1.1.transformer_blocks.0.attn2.to_k.weight", 1, (TEXT,)),
        ),
        absent=("label_emb.*", "control_model.label_emb.*"),
        prefixes=("control_model.", ""),
    ),
)

PARTS = (bundled(SINGLE, Mark("cond_stage_model.*")), SINGLE, UNET, *CONTROLNETS)
