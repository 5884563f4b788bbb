"""How files of ESRGAN-class upscalers are known from their headers.

Numbers: RRDBNet has blocks of three dense blocks of five convolutions; its first naming
(`model.1.sub.0.RDB1`) is that of ESRGAN and 4x-UltraSharp, the later one (`body.0.rdb1`) that of
Real-ESRGAN. In the first naming each doubling of the size adds a convolution, so the last one tells
the scale; in the later one an input of 12 channels is one of 3 at half the size. Compact models have
plain convolutions with PReLU between them.

Sources: basicsr `archs/rrdbnet_arch.py`, `srvgg_arch.py`; spandrel's list of architectures.
"""

from __future__ import annotations

from sosie.files.signature import Mark, Part, Variant

HOLDERS = ("", "params_ema.", "params.", "state_dict.")
"""Prefixes under which training programs save the weights."""

OLD = Part(
    "upscaler",
    "esrgan",
    (Mark("model.0.weight", 1, (1, 3, 4, 12)), Mark("model.1.sub.0.RDB1.conv1.0.weight")),
    prefixes=HOLDERS,
    variants=(
        Variant("8x", (Mark("model.13.weight"),)),
        Variant("4x", (Mark("model.10.weight"),)),
        Variant("2x", (Mark("model.7.weight"),)),
        Variant("1x", (Mark("model.4.weight"),)),
    ),
    variant="scale not known",
)

NEW = Part(
    "upscaler",
    "real-esrgan",
    (Mark("conv_first.weight", 1, (1, 3, 4, 12, 48)), Mark("body.0.rdb1.conv1.weight"), Mark("conv_last.weight")),
    prefixes=HOLDERS,
    variants=(
        Variant("2x", (Mark("conv_first.weight", 1, (12,)),)),
        Variant("1x", (Mark("conv_first.weight", 1, (48,)),)),
    ),
    variant="4x",
)

COMPACT = Part(
    "upscaler",
    "compact",
    (Mark("body.0.weight", 1, (3,)), Mark("body.1.weight", 0, (64, 24, 32, 48)), Mark("body.2.weight")),
    absent=("conv_first.*",),
    prefixes=HOLDERS,
    variant="compact",
)

PARTS = (OLD, NEW, COMPACT)
