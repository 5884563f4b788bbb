"""How files of Qwen3 are known from their headers.

Numbers: queries and keys are normed per head (128), which Qwen2 does not do; widths 1024 (0.6B), 2048
(1.7B), 2560 (4B), 4096 (8B). The 4B is Z-Image's text encoder.

Source: transformers `models/qwen3/modeling_qwen3.py`; llama.cpp `gguf-py/gguf/constants.py` (names in GGUF).
"""

from __future__ import annotations

from sosie.files.signature import Mark, Part, Variant

SIZES = (("0.6B", 1024, 0), ("1.7B", 2048, 0), ("4B", 2560, 4_022_468_096), ("8B", 4096, 0))

WIDTHS = tuple(width for _, width, _ in SIZES)

GGUF = Part(
    "text-encoder",
    "llama.cpp",
    (Mark("blk.0.attn_q_norm.weight", 0, (128,)), Mark("output_norm.weight", 0, WIDTHS), Mark("blk.0.ffn_gate.weight")),
    variants=tuple(Variant(name, (Mark("output_norm.weight", 0, (width,)),)) for name, width, _ in SIZES),
)

PARTS = (
    GGUF,
    Part(
        "text-encoder",
        "transformers",
        (
            Mark("layers.0.self_attn.q_norm.weight", 0, (128,)),
            Mark("layers.0.post_attention_layernorm.weight"),
            Mark("norm.weight", 0, WIDTHS),
        ),
        absent=("visual.*", "model.visual.*", "model.layers.0.pre_feedforward_layernorm.weight"),
        prefixes=("model.", ""),
        variants=tuple(Variant(name, (Mark("norm.weight", 0, (width,)),), whole) for name, width, whole in SIZES),
    ),
)
