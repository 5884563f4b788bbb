"""How files of Qwen3 are known from their headers.

Numbers: queries and keys are normed per head (128), which Qwen2 does not do; widths 1024 (0.6B), 2048
(1.7B), 2560 (4B), 4096 (8B). The 4B is Z-Image's text encoder. Qwen3-VL (`VL-4B`, `VL-8B`) has the same language model
and eyes whose layers feed it at several depths (`deepstack`); in GGUF its eyes are another file, so only the
architecture tells it from Qwen3.

Source: transformers `models/qwen3/modeling_qwen3.py`, `models/qwen3_vl/modeling_qwen3_vl.py`; llama.cpp
`gguf-py/gguf/constants.py` (names in GGUF).
"""

from __future__ import annotations

import dataclasses

from sosie.files.signature import Mark, Part, Variant

SIZES = (("0.6B", 1024, 0), ("1.7B", 2048, 0), ("4B", 2560, 4_022_468_096), ("8B", 4096, 0))

WIDTHS = tuple(width for _, width, _ in SIZES)


def _gguf(architecture: str, prefix: str, marks: tuple[Mark, ...] = ()) -> Part:
    sizes = tuple(Variant(prefix + name, (Mark("output_norm.weight", 0, (width,)),)) for name, width, _ in SIZES)
    wide = Mark("output_norm.weight", 0, WIDTHS)
    return Part("text-encoder", "llama.cpp", (wide, *marks), variants=sizes, architecture=architecture)


_NAMED = (Mark("blk.0.attn_q_norm.weight", 0, (128,)), Mark("blk.0.ffn_gate.weight"))

GGUF = (_gguf("qwen3vl", "VL-"), _gguf("qwen3", ""), _gguf("", "", _NAMED))

_LANGUAGE = (
    Mark("layers.0.self_attn.q_norm.weight", 0, (128,)),
    Mark("layers.0.post_attention_layernorm.weight"),
    Mark("norm.weight", 0, WIDTHS),
)

ABSENT = ("visual.*", "model.visual.*", "model.layers.0.pre_feedforward_layernorm.weight")

SEEING = tuple(
    Part(
        "text-encoder",
        "transformers",
        (
            *(dataclasses.replace(mark, name=prefix + mark.name) for mark in _LANGUAGE),
            Mark(f"{eyes}deepstack_merger_list.0.norm.weight"),
        ),
        variants=tuple(Variant(f"VL-{name}", (Mark(f"{prefix}norm.weight", 0, (width,)),)) for name, width, _ in SIZES),
        variant="VL",
    )
    for prefix, eyes in (("model.language_model.", "model.visual."), ("model.", "visual."))
)

REDUCED = Part(
    "text-encoder",
    "transformers",
    (
        Mark("layers.0.self_attn.q_norm.weight", 0, below=129),
        Mark("layers.0.post_attention_layernorm.weight"),
        Mark("layers.0.mlp.gate_proj.weight"),
        Mark("norm.weight", 0, below=min(WIDTHS)),
    ),
    absent=ABSENT,
    prefixes=("model.", ""),
    variant="reduced",
)
"""The same language model with smaller widths, as small models have it."""

PARTS = (
    *GGUF,
    *SEEING,
    Part(
        "text-encoder",
        "transformers",
        _LANGUAGE,
        absent=ABSENT,
        prefixes=("model.", ""),
        variants=tuple(Variant(name, (Mark("norm.weight", 0, (width,)),), whole) for name, width, whole in SIZES),
    ),
    REDUCED,
)
