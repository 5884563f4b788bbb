"""How files of T5 encoders are known from their headers.

Numbers: XXL is 4096 wide with 24 blocks, and its version 1.1 has a gated feed-forward layer.

Source: transformers `models/t5/modeling_t5.py`.
"""

from __future__ import annotations

from sosie.files.signature import Mark, Part, Variant

XXL = 4_762_310_656

GGUF = Part(
    "text-encoder",
    "llama.cpp",
    (Mark("enc.blk.0.attn_rel_b.weight"), Mark("enc.output_norm.weight"), Mark("enc.blk.0.ffn_gate.weight")),
    variants=(Variant("XXL", (Mark("enc.output_norm.weight", 0, (4096,)),)),),
    variant="of another size",
)

PARTS = (
    GGUF,
    Part(
        "text-encoder",
        "transformers",
        (
            Mark("encoder.block.0.layer.0.SelfAttention.relative_attention_bias.weight"),
            Mark("encoder.final_layer_norm.weight"),
            Mark("encoder.block.0.layer.1.DenseReluDense.wi_0.weight"),
        ),
        variants=(Variant("XXL", (Mark("encoder.final_layer_norm.weight", 0, (4096,)),), XXL),),
        variant="of another size",
    ),
)
