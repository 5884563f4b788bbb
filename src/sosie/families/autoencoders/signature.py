"""How files of autoencoders are known from their headers.

Numbers: the decoder's first convolution takes the latent channels: 4 (SD 1, SD 2 and SDXL: the same
shapes, so no header tells which; SDXL's overflows in fp16), 16 (FLUX.1's `ae` and SD3: the same
shapes), 32 (FLUX.2). Wan's and Qwen-Image's are one video autoencoder with the same shapes. A
*reduced* autoencoder has the parts of SDXL's with smaller widths.

Sources: diffusers `models/autoencoders/`, ComfyUI `sd.py`.
"""

from __future__ import annotations

import dataclasses

from sosie.files.signature import COMFY, Mark, Part

LAYOUTS = (("diffusers", "mid_block.resnets.0"), ("single file", "mid.block_1"))
IN_CHECKPOINTS = "first_stage_model."

FOUR = "4 channels: SD 1, SD 2 or SDXL (the same header)"
SIXTEEN = "16 channels: FLUX.1 or SD3 (the same header)"
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


def _reduced(layout: str, block: str) -> Part:
    whole = _flat(layout, block, 4, "4 channels, reduced")
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
        _flat(layout, block, 32, "32 channels: FLUX.2"),
        _reduced(layout, block),
    )
)

VIDEO = (
    Part(
        "vae",
        "diffusers",
        (Mark("decoder.conv_in.weight", 1, (16,)), Mark("decoder.mid_block.resnets.0.norm1.gamma", 0, (384,))),
        variant=WAN,
        parameters=WAN_PARAMETERS,
    ),
    Part(
        "vae",
        "single file",
        (Mark("decoder.conv1.weight", 1, (16,)), Mark("decoder.middle.0.residual.0.gamma", 0, (384,))),
        variant=WAN,
        parameters=WAN_PARAMETERS,
    ),
)

TINY = Part(
    "vae",
    "single file",
    (Mark("taesd_decoder.1.weight", 1, (4, 16)), Mark("taesd_encoder.0.weight")),
    variant="tiny (TAESD)",
)

PARTS = (*FLAT, *VIDEO, TINY)
