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

_PROJ = "image_proj.proj"
_RESAMPLED = "image_proj.perceiver_resampler.proj_in.weight"

IMAGE_ENCODERS = (
    # Adapters of one embedding take its projected width; those of many tokens take the width of its last layers.
    Variant("CLIP-H", (Mark(f"{_PROJ}.weight", 1, (1024,)),)),
    Variant("CLIP-bigG", (Mark(f"{_PROJ}.weight", 1, (1280,)),)),
    Variant("CLIP-L", (Mark(f"{_PROJ}.weight", 1, (768,)),)),
    Variant("CLIP-H", (Mark(f"{_PROJ}_in.weight", 1, (1280,)),)),
    Variant("CLIP-bigG", (Mark(f"{_PROJ}_in.weight", 1, (1664,)),)),
    Variant("CLIP-L", (Mark(f"{_PROJ}_in.weight", 1, (1024,)),)),
    Variant("CLIP-H", (Mark(f"{_PROJ}.0.weight", 1, (1280,)), Mark(f"{_PROJ}.3.weight"))),
    Variant("CLIP-H", (Mark(_RESAMPLED, 1, (1280,)),)),
    Variant("CLIP-L", (Mark(_RESAMPLED, 1, (1024,)),)),
)
"""The image encoder that an IP-Adapter was trained on, by the width that its projection takes.

Source: ComfyUI_IPAdapter_plus `IPAdapterPlus.py` (which output of the encoder each kind takes).
"""

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
        fed_by=IMAGE_ENCODERS,
    )
