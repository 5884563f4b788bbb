"""How files of T5 encoders are known from their headers.

Numbers: XXL is 4096 wide with 24 blocks, and its version 1.1 has a gated feed-forward layer (1.0 has not). UMT5 has
another vocabulary and positions in every block, not in the first alone. XL is 2048 wide. ByT5 small reads bytes: 1472
wide, its queries 384.

Source: transformers `models/t5/modeling_t5.py`, `models/umt5/modeling_umt5.py`.
"""

from __future__ import annotations

from sosie.files.signature import Mark, Part, Variant

XXL = 4_762_310_656
OTHER = "of another size"

_BIAS = "encoder.block.{}.layer.0.SelfAttention.relative_attention_bias.weight"
_NORM, _GGUF_NORM = "encoder.final_layer_norm.weight", "enc.output_norm.weight"

GGUF = Part(
    "text-encoder",
    "llama.cpp",
    (Mark("enc.blk.0.attn_rel_b.weight"), Mark(_GGUF_NORM), Mark("enc.blk.0.ffn_gate.weight")),
    variants=(
        Variant("UMT5-XXL", (Mark(_GGUF_NORM, 0, (4096,)), Mark("enc.blk.1.attn_rel_b.weight"))),
        Variant("XXL", (Mark(_GGUF_NORM, 0, (4096,)),)),
    ),
    variant=OTHER,
)

GATED = Part(
    "text-encoder",
    "transformers",
    (Mark(_BIAS.format(0)), Mark(_NORM), Mark("encoder.block.0.layer.1.DenseReluDense.wi_0.weight")),
    variants=(
        Variant("UMT5-XXL", (Mark(_NORM, 0, (4096,)), Mark(_BIAS.format(1)))),
        Variant("XXL", (Mark(_NORM, 0, (4096,)),), XXL),
        Variant("ByT5-small", (Mark(_NORM, 0, (1472,)),)),
        Variant("Pile-XL", (Mark(_NORM, 0, (2048,)), Mark(_BIAS.format(1)))),
        Variant("XL", (Mark(_NORM, 0, (2048,)),)),
    ),
    variant=OTHER,
)

PLAIN = Part(
    "text-encoder",
    "transformers",
    (Mark(_BIAS.format(0)), Mark(_NORM), Mark("encoder.block.0.layer.1.DenseReluDense.wi.weight")),
    variants=(Variant("1.0 XXL", (Mark(_NORM, 0, (1024,)), Mark("encoder.block.23.*"))),),
    variant=OTHER,
)

NAMED = tuple(
    Part(
        "text-encoder",
        "llama.cpp",
        (Mark(_GGUF_NORM, 0, (4096,)),),
        variants=(Variant("UMT5-XXL", (Mark("token_embd.weight", 0, (256384,)),)),),
        variant="XXL",
        architecture=architecture,
    )
    for architecture in ("t5encoder", "t5")
)
"""In GGUF, by what the file says of itself."""

PARTS = (GGUF, *NAMED, GATED, PLAIN)
