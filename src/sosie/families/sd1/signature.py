"""How files of Stable Diffusion 1 are known from their headers.

Numbers: the states of its one text encoder (CLIP-L) are 768 wide and meet cross-attention already in
the first block; the UNet has twelve output blocks (SDXL: nine). Its VAE and text encoder are those of
other families too and belong to `autoencoders` and `clip`.

Sources: diffusers `loaders/single_file_utils.py`, `models/controlnets/`, `loaders/ip_adapter.py`.
"""

from __future__ import annotations

from sosie.files.signature import COMFY, Mark, Part, Variant, bundled

TEXT = 768
IMAGE_CHANNELS = (4, 8, 9)
"""Latent; latent + edited latent (pix2pix); latent + masked latent + mask (inpaint)."""

UNET_PARAMETERS = 859_520_964


def _variants(conv_in: str) -> tuple[Variant, ...]:
    return Variant("inpaint", (Mark(conv_in, 1, (9,)),)), Variant("pix2pix", (Mark(conv_in, 1, (8,)),))


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

FACES = (
    ("faceid-plus", "image_proj.perceiver_resampler.proj_in.weight"),
    ("full", "image_proj.proj.3.weight"),
    ("faceid", "image_proj.proj.0.weight"),
    ("plus", "image_proj.latents"),
)
"""Kinds of IP-Adapter by a tensor of their projection, as diffusers tells them apart."""

IP_ADAPTER = Part(
    "ip-adapter",
    "ip-adapter",
    (Mark("ip_adapter.1.to_k_ip.weight", 1, (TEXT,)), Mark("image_proj.*")),
    variants=tuple(Variant(kind, (Mark(name),)) for kind, name in FACES),
)

PARTS = (bundled(SINGLE, Mark("cond_stage_model.*")), SINGLE, UNET, *CONTROLNETS, IP_ADAPTER)
