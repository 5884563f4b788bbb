"""How UNets with one text encoder and attention in their first block are known: the same names, in other widths.

Sources: diffusers `loaders/single_file_utils.py`, `models/controlnets/`, `loaders/ip_adapter.py`.
"""

from __future__ import annotations

from sosie.files.signature import COMFY, Mark, Part, Variant, bundled

FACES = (
    ("faceid-plus", "image_proj.perceiver_resampler.proj_in.weight"),
    ("full", "image_proj.proj.3.weight"),
    ("faceid", "image_proj.proj.0.weight"),
    ("plus", "image_proj.latents"),
)
"""Kinds of IP-Adapter by a tensor of their projection, as diffusers tells them apart."""

_SINGLE = "input_blocks.1.1.transformer_blocks.0.attn2.to_k.weight"
_DIFFUSERS = "down_blocks.0.attentions.0.transformer_blocks.0.attn2.to_k.weight"


def unet(
    text: int, channels: tuple[int, ...], variants: dict[str, int], parameters: int, variant: str = "base"
) -> tuple[Part, ...]:
    """The checkpoint, the UNet in either layout, and its ControlNets.

    `text` is the width of the text's states, `channels` those that its images may have, `variants` those by which a
    variant is known.
    """

    def known_by(conv_in: str) -> tuple[Variant, ...]:
        return tuple(Variant(name, (Mark(conv_in, 1, (count,)),)) for name, count in variants.items())

    single = Part(
        "denoiser",
        "single file",
        (
            Mark(_SINGLE, 1, (text,)),
            Mark("input_blocks.0.0.weight", 1, channels),
            Mark("output_blocks.11.0.skip_connection.weight", 0, (320,)),
        ),
        absent=("conditioner.*", "label_emb.*", f"{COMFY}label_emb.*"),
        prefixes=("", COMFY),
        variants=known_by("input_blocks.0.0.weight"),
        variant=variant,
        parameters=parameters,
    )
    split = Part(
        "denoiser",
        "diffusers",
        (Mark(_DIFFUSERS, 1, (text,)), Mark("conv_in.weight", 1, channels), Mark("up_blocks.3.attentions.2.*")),
        absent=(
            *("add_embedding.*", "encoder_hid_proj.*", "controlnet_cond_embedding.*"),
            # Of video: AnimateDiff, and text-to-video with convolutions over time.
            *("down_blocks.0.motion_modules.*", "transformer_in.*", "down_blocks.0.temp_convs.*"),
        ),
        variants=known_by("conv_in.weight"),
        variant=variant,
        parameters=parameters,
    )
    return (bundled(single, Mark("cond_stage_model.*")), single, split, *_controlnets(text))


def _controlnets(text: int) -> tuple[Part, ...]:
    split = (Mark("controlnet_cond_embedding.conv_in.weight"), Mark(_DIFFUSERS, 1, (text,)))
    single = (Mark("input_hint_block.0.weight"), Mark(_SINGLE, 1, (text,)))
    none = ("label_emb.*", "control_model.label_emb.*")
    return (
        Part("controlnet", "diffusers", split, absent=("add_embedding.*",)),
        Part("controlnet", "single file", single, absent=none, prefixes=("control_model.", "")),
    )


def ip_adapter(width: Mark, suffix: str = "") -> Part:
    """An IP-Adapter whose keys (`to_k_ip`) have the columns of `width`; `suffix` ends the variants' names."""
    return Part(
        "ip-adapter",
        "ip-adapter",
        (Mark("ip_adapter.1.to_k_ip.weight", 1, width.sizes, width.below), Mark("image_proj.*")),
        variants=tuple(Variant(kind + suffix, (Mark(name),)) for kind, name in FACES),
        variant="base" + suffix,
    )
