"""How files of SDXL are known from their headers.

Numbers: the text encoders' states are 768 + 1280 = 2048 wide, the pooled text and six size
embeddings of 256 make 1280 + 1536 = 2816 inputs of the added embedding ("adm"); the refiner has
one text encoder (1280) and five embeddings (2560). A *reduced* SDXL has every part under the same
names with smaller widths. Pony, Illustrious and other fine-tunes have the very same header.

Its VAE and text encoders are those of other families too and belong to `autoencoders` and `clip`.

Sources: diffusers `loaders/single_file_utils.py`, `loaders/unet.py`, `models/controlnets/`.
"""

from __future__ import annotations

import dataclasses

from sosie.files.signature import COMFY, Mark, Part, Variant
from sosie.files.unet import ip_adapter

TEXT, ADM = 2048, 2816
REFINER_TEXT, REFINER_ADM = 1280, 2560
SD15_TEXT = 768
IMAGE_CHANNELS = (4, 8, 9)
"""Latent; latent + edited latent (pix2pix); latent + masked latent + mask (inpaint)."""


UNET_PARAMETERS, REFINER_PARAMETERS = 2_567_463_684, 2_259_526_660


def _variants(conv_in: str) -> tuple[Variant, ...]:
    """What the first convolution and marker keys tell; single files carry the latter."""
    return (
        Variant("inpaint", (Mark(conv_in, 1, (9,)),)),
        Variant("pix2pix", (Mark(conv_in, 1, (8,)),)),
        Variant("v-prediction", (Mark("v_pred"),)),
        Variant("v-prediction", (Mark("edm_vpred.sigma_max"),)),
        Variant("edm", (Mark("edm_mean"),)),
    )


_SGM = COMFY
_BIG_G = "conditioner.embedders.{}.model.transformer.resblocks.9.mlp.c_proj.bias"

_REFINER = (
    Mark("label_emb.0.0.weight", 1, (REFINER_ADM,)),
    Mark("input_blocks.0.0.weight", 0, (384,)),
)

CHECKPOINTS = (
    Part(
        "checkpoint",
        "single file",
        (
            Mark(_BIG_G.format(1)),
            Mark(f"{_SGM}label_emb.0.0.weight", 1, (ADM,)),
            Mark(f"{_SGM}input_blocks.0.0.weight", 1, IMAGE_CHANNELS),
            Mark(f"{_SGM}input_blocks.4.1.transformer_blocks.0.attn2.to_k.weight", 1, (TEXT,)),
        ),
        variants=_variants(f"{_SGM}input_blocks.0.0.weight"),
    ),
    Part(
        "checkpoint",
        "single file",
        (
            Mark(_BIG_G.format(0)),
            *(dataclasses.replace(mark, name=_SGM + mark.name) for mark in _REFINER),
        ),
        variant="refiner",
    ),
)

SGM_UNET = Part(
    "denoiser",
    "single file",
    (
        Mark("label_emb.0.0.weight", 1, (ADM,)),
        Mark("input_blocks.0.0.weight", 1, IMAGE_CHANNELS),
        Mark("input_blocks.4.1.transformer_blocks.0.attn2.to_k.weight", 1, (TEXT,)),
        Mark("output_blocks.*"),
    ),
    absent=("conditioner.*", "cond_stage_model.*"),
    prefixes=("", _SGM),
    variants=_variants("input_blocks.0.0.weight"),
    parameters=UNET_PARAMETERS,
)


SGM_REFINER = Part(
    "denoiser",
    "single file",
    _REFINER,
    absent=("conditioner.*", "cond_stage_model.*"),
    prefixes=("", _SGM),
    variant="refiner",
    parameters=REFINER_PARAMETERS,
)


def _unet(to_k: Mark, adm: Mark, variants: tuple[Variant, ...], variant: str, parameters: int = 0) -> Part:
    marks = (to_k, adm, Mark("conv_in.weight", 1, IMAGE_CHANNELS), Mark("up_blocks.*"))
    # Kolors projects its own text encoder; SVD has attention in its first block.
    absent = ("controlnet_cond_embedding.*", "encoder_hid_proj.*", "down_blocks.0.attentions.*")
    return Part("denoiser", "diffusers", marks, absent, variants=variants, variant=variant, parameters=parameters)


_TO_K = "down_blocks.1.attentions.0.transformer_blocks.0.attn2.to_k.weight"
_ADM = "add_embedding.linear_1.weight"

UNETS = (
    _unet(Mark(_TO_K, 1, (TEXT,)), Mark(_ADM, 1, (ADM,)), _variants("conv_in.weight"), "base", UNET_PARAMETERS),
    _unet(Mark(_TO_K, 1, (REFINER_TEXT,)), Mark(_ADM, 1, (REFINER_ADM,)), (), "refiner", REFINER_PARAMETERS),
    _unet(Mark(_TO_K, 1, below=TEXT), Mark(_ADM, 1, below=ADM), (), "reduced"),
)


def _controlnet(adm: Mark, variant: str) -> Part:
    marks = (Mark("controlnet_cond_embedding.conv_in.weight"), adm, Mark("conv_in.weight", 1, (4,)))
    union = Variant("union", (Mark("control_add_embedding.linear_1.weight"),))
    return Part("controlnet", "diffusers", marks, variants=(union,), variant=variant)


CONTROLNETS = (
    _controlnet(Mark(_ADM, 1, (ADM,)), "base"),
    _controlnet(Mark(_ADM, 1, below=ADM), "reduced"),
)

IP_ADAPTERS = (
    ip_adapter(Mark("", sizes=(TEXT,))),
    # An adapter for SD 1.5 is 768 wide, so a reduced one is known only below that.
    ip_adapter(Mark("", below=SD15_TEXT), ", reduced"),
)

INSTANTID = Part(
    "instantid",
    "ip-adapter",
    (
        Mark("ip_adapter.1.to_k_ip.weight", 1, (TEXT,)),
        Mark("image_proj.latents"),
        Mark("image_proj.proj_in.weight", 1, (512,)),
    ),
)
"""InstantID's adapter takes a face embedding of 512 numbers where IP-Adapter Plus takes an image's tokens."""

GGUF = Part("denoiser", "GGUF", (Mark("input_blocks.0.0.weight"),), architecture="sdxl")
"""By what a file says of itself, whatever it keeps of its biases."""

PARTS = (*CHECKPOINTS, SGM_UNET, SGM_REFINER, *UNETS, *CONTROLNETS, INSTANTID, *IP_ADAPTERS, GGUF)
