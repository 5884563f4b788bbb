"""How files of FLUX.2 are known from their headers.

Numbers: no biases; one modulation for all double blocks and one for all single blocks. dev is 6144
wide (48 heads of 128), klein 9B 4096, klein 4B 3072; klein has no guidance input. The distilled klein
and its base share a header.

Sources: diffusers `models/transformers/transformer_flux2.py`, `loaders/single_file_utils.py`.
"""

from __future__ import annotations

from sosie.files.signature import COMFY, Mark, Part, Variant, bundled

DEV, KLEIN_4B = 32_223_281_152, 3_875_544_576


def _variants(image: str) -> tuple[Variant, ...]:
    return (
        Variant("dev", (Mark(image, 0, (6144,)),), DEV),
        Variant("klein 9B, base, distilled or KV (the same header)", (Mark(image, 0, (4096,)),)),
        Variant("klein 4B, base or distilled (the same header)", (Mark(image, 0, (3072,)),), KLEIN_4B),
    )


SINGLE = Part(
    "denoiser",
    "single file",
    (
        Mark("double_stream_modulation_img.lin.weight"),
        Mark("single_stream_modulation.lin.weight"),
        Mark("double_blocks.0.img_attn.norm.key_norm.scale", 0, (128,)),
        Mark("img_in.weight", 1, (128,)),
    ),
    prefixes=("", COMFY),
    variants=_variants("img_in.weight"),
    variant="of another size",
)

SPLIT = Part(
    "denoiser",
    "diffusers",
    (
        Mark("double_stream_modulation_img.linear.weight"),
        Mark("single_stream_modulation.linear.weight"),
        Mark("transformer_blocks.0.attn.norm_k.weight", 0, (128,)),
        Mark("x_embedder.weight", 1, (128,)),
    ),
    variants=_variants("x_embedder.weight"),
    variant="of another size",
)

GGUF = Part(
    "denoiser",
    "GGUF",
    (Mark("double_stream_modulation_img.lin.weight"),),
    variants=_variants("img_in.weight"),
    variant="of another size",
    architecture="flux",
)
"""By what a file says of itself, whatever it keeps of its biases."""

PARTS = (bundled(SINGLE, Mark("text_encoders.*")), SINGLE, SPLIT, GGUF)
