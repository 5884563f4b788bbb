"""How files of autoencoders are known from their headers.

Numbers: the decoder's first convolution takes the latent channels: 4 (SD 1, SD 2 and SDXL: the same
shapes, so no header tells which; SDXL's overflows in fp16), 16 (FLUX.1's `ae` and SD3: the same
shapes), 32 (FLUX.2, whose decoder may be smaller), 64 (HunyuanImage 2.1). Wan 2.1's and Qwen-Image's are one video
autoencoder with the same shapes; Wan 2.2's of 48 channels and Qwen-Image 2.1's of 64 are named as that. Convolutions
of HunyuanVideo's and LTX-Video's are wrapped (`conv`). A *reduced* autoencoder has the parts of SDXL's or
FLUX.1's with smaller widths.

The text of a variant up to its colon says what latents it is for: what families name as their VAE.

Sources: diffusers `models/autoencoders/`, ComfyUI `sd.py`.
"""

from __future__ import annotations

import dataclasses

from sosie.files.signature import COMFY, Mark, Part

LAYOUTS = (("diffusers", "mid_block.resnets.0"), ("single file", "mid.block_1"))
IN_CHECKPOINTS = "first_stage_model."

FOUR = "4 channels: SD 1, SD 2 or SDXL (the same header)"
SIXTEEN = "16 channels: FLUX.1 or SD3 (the same header)"
THIRTY_TWO = "32 channels: FLUX.2"
WAN = "16 channels, video: Wan 2.1 or Qwen-Image (the same header)"
FOUR_PARAMETERS, SIXTEEN_PARAMETERS, WAN_PARAMETERS = 83_653_863, 83_819_683, 126_892_531


def _flat(layout: str, block: str, channels: int, variant: str, parameters: int = 0) -> Part:
    """A 2-D autoencoder 512 wide in the middle."""
    quantised = (Mark("post_quant_conv.weight", 0, (channels,)),) if channels == 4 else ()
    marks = (
        Mark("decoder.conv_in.weight", 1, (channels,)),
        Mark("decoder.conv_in.bias", 0, (512,)),
        Mark(f"decoder.{block}.norm1.weight"),
        *quantised,
    )
    prefixes = ("", IN_CHECKPOINTS)
    # Autoencoders of video have convolutions over time.
    absent = (f"{COMFY}*", "decoder.temp_conv_in.*", "decoder.time_conv_out.*")
    return Part("vae", layout, marks, absent, prefixes, variant=variant, parameters=parameters)


def _reduced(layout: str, block: str, channels: int) -> Part:
    whole = _flat(layout, block, channels, f"{channels} channels, reduced")
    narrow = tuple(
        dataclasses.replace(mark, sizes=(), below=512) if mark.name == "decoder.conv_in.bias" else mark
        for mark in whole.marks
    )
    return dataclasses.replace(whole, marks=narrow)


FLAT = tuple(
    part
    for layout, block in LAYOUTS
    for part in (
        _flat(layout, block, 4, FOUR, FOUR_PARAMETERS),
        _flat(layout, block, 16, SIXTEEN, SIXTEEN_PARAMETERS),
        _flat(layout, block, 32, THIRTY_TWO),
        _reduced(layout, block, 4),
        _reduced(layout, block, 16),
    )
)

SMALL = tuple(
    Part(
        "vae",
        layout,
        (
            Mark("decoder.conv_in.weight", 1, (32,)),
            Mark("bn.running_mean", 0, (128,)),
            Mark(f"decoder.{block}.norm1.*"),
        ),
        variant=THIRTY_TWO,
    )
    for layout, block in LAYOUTS
)
"""FLUX.2's with a smaller decoder."""

HUNYUAN_IMAGE = Part(
    "vae",
    "single file",
    (Mark("decoder.conv_in.weight", 1, (64,)), Mark("decoder.conv_in.bias", 0, (1024,)), Mark("decoder.mid.block_1.*")),
    variant="64 channels: HunyuanImage 2.1",
)


def _wan(variant: str, single: tuple[Mark, ...], split: tuple[Mark, ...], parameters: int = 0) -> tuple[Part, Part]:
    """An autoencoder named as Wan's, in both layouts."""
    return (
        Part("vae", "diffusers", split, variant=variant, parameters=parameters),
        Part("vae", "single file", single, variant=variant, parameters=parameters),
    )


_MIDDLE, _MID = "decoder.middle.0.residual.0.gamma", "decoder.mid_block.resnets.0.norm1.gamma"

VIDEO = (
    *_wan(
        WAN,
        (Mark("decoder.conv1.weight", 1, (16,)), Mark(_MIDDLE, 0, (384,))),
        (Mark("decoder.conv_in.weight", 1, (16,)), Mark(_MID, 0, (384,))),
        WAN_PARAMETERS,
    ),
    *_wan(
        "48 channels, video: Wan 2.2 5B",
        (Mark("decoder.conv1.weight", 1, (48,)), Mark(_MIDDLE)),
        (Mark("decoder.conv_in.weight", 1, (48,)), Mark(_MID)),
    ),
    *_wan(
        "64 channels, Qwen's: Qwen-Image 2.1",
        (Mark("decoder.conv1.weight", 1, (64,)), Mark(_MIDDLE)),
        (Mark("decoder.conv_in.weight", 1, (64,)), Mark(_MID)),
    ),
    *(
        Part("vae", layout, (Mark(wrapped, 1, (channels,)), Mark(mark)), variant=variant)
        for variant, wrapped, channels, blocks in (
            (
                "16 channels, Hunyuan's video: HunyuanVideo",
                "decoder.conv_in.conv.weight",
                16,
                (
                    ("single file", "decoder.mid.block_1.norm1.weight"),
                    ("diffusers", "decoder.mid_block.resnets.0.norm1.weight"),
                ),
            ),
            (
                "32 channels, video: HunyuanVideo 1.5",
                "decoder.conv_in.conv.weight",
                32,
                (("single file", "decoder.mid.*"), ("diffusers", "decoder.mid_block.*")),
            ),
            (
                "128 channels, video: LTX-Video",
                "decoder.conv_in.conv.weight",
                128,
                (("single file", "decoder.up_blocks.0.res_blocks.*"), ("diffusers", "decoder.mid_block.resnets.*")),
            ),
        )
        for layout, mark in blocks
    ),
)

TINY = Part(
    "vae",
    "single file",
    (Mark("taesd_decoder.1.weight", 1, (4, 16)), Mark("taesd_encoder.0.weight")),
    variant="tiny (TAESD)",
)

PARTS = (*FLAT, *SMALL, HUNYUAN_IMAGE, *VIDEO, TINY)
