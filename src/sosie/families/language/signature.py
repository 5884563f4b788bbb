"""How files of language models that encode text for models of images are known from their headers.

Numbers: the width of a token, and what a family has that others have not. Gemma norms behind its layers too (2304: the
2B of Gemma 2, which does not norm queries; 2560 and 3840: the 4B and 12B of Gemma 3). Llama 3.1 8B is 4096 wide,
Mistral Small 5120 (FLUX.2's copy is cut to its first 30 layers), Ministral 3 3B 3072; none of them norms queries.
Qwen2.5 has biases on its keys: 256 numbers in the 3B, 512 in the 7B.

In GGUF a model that sees keeps its eyes in a file of their own, its projector (`mmproj`).

Sources: transformers `models/{gemma2,gemma3,llama,mistral,qwen2_5_vl}`, ComfyUI `sd.py` (what tells one from another),
llama.cpp `gguf-py/gguf/constants.py` (names in GGUF).
"""

from __future__ import annotations

import dataclasses

from sosie.files.signature import Mark, Part, Variant

PREFIXES = ("model.", "model.language_model.", "language_model.model.", "")
AFTER = "layers.0.post_attention_layernorm.weight"
QUERY_NORM, KEY_BIAS = "layers.0.self_attn.q_norm.weight", "layers.0.self_attn.k_proj.bias"
BEHIND = "layers.0.post_feedforward_layernorm.weight"

SEES = "Qwen2.5-VL-7B"
BLIND = f"{SEES} without its eyes"
EYES = "mmproj"


def _everywhere(name: str) -> tuple[str, ...]:
    """The name under every prefix."""
    return tuple(prefix + name for prefix in PREFIXES)


def _model(variant: str, marks: tuple[Mark, ...], absent: tuple[str, ...], variants: tuple[Variant, ...] = ()) -> Part:
    none = tuple(full for name in absent for full in _everywhere(name))
    return Part("text-encoder", "transformers", marks, none, PREFIXES, variants, variant)


def _plain(variant: str, width: int, layer: int) -> Part:
    """A model that norms no queries and has no biases; `layer` is one that it has, whatever was cut off."""
    marks = (Mark(AFTER, 0, (width,)), Mark(f"layers.{layer}.self_attn.k_proj.weight"))
    return _model(variant, marks, (QUERY_NORM, KEY_BIAS, BEHIND))


def _gemma(variant: str, width: int, marks: tuple[Mark, ...] = (), absent: tuple[str, ...] = ()) -> Part:
    return _model(variant, (Mark(BEHIND, 0, (width,)), Mark(AFTER, 0, (width,)), *marks), absent)


def _qwen(variants: tuple[Variant, ...], variant: str, width: int, keys: int, layer: int) -> Part:
    marks = (
        Mark("norm.weight", 0, (width,)),
        Mark(KEY_BIAS, 0, (keys,)),
        Mark(f"layers.{layer}.input_layernorm.weight", 0, (width,)),
    )
    return dataclasses.replace(_model(variant, marks, (QUERY_NORM,), variants), blind=EYES if variants else "")


def _gguf(variant: str, architecture: str, width: int, blind: str = "") -> Part:
    marks = (Mark("output_norm.weight", 0, (width,)),)
    return Part("text-encoder", "llama.cpp", marks, variant=variant, architecture=architecture, blind=blind)


_EYES = tuple(Variant(SEES, (Mark(f"{prefix}*"),)) for prefix in ("visual.", "model.visual."))

TRANSFORMERS = (
    _gemma("Gemma-2-2B", 2304, absent=(QUERY_NORM,)),
    # Gemma 4 shares the widths: its 4B has more layers, its 12B layers without values.
    _gemma("Gemma-3-4B", 2560, (Mark(QUERY_NORM),), ("layers.41.*",)),
    _gemma("Gemma-3-12B", 3840, (Mark(QUERY_NORM), Mark("layers.5.self_attn.v_proj.*"))),
    _plain("Llama-3.1-8B", 4096, 31),
    _plain("Mistral-Small-24B", 5120, 20),
    _plain("Ministral-3-3B", 3072, 20),
    _qwen((), "Qwen2.5-VL-3B", 2048, 256, 35),
    _qwen(_EYES, BLIND, 3584, 512, 27),
)

PROJECTOR = Part(
    "projector",
    "llama.cpp",
    (Mark("v.patch_embd.weight"), Mark("mm.*")),
    variant=f"{EYES} (the eyes of a GGUF encoder)",
)

GGUF = (
    _gguf(BLIND, "qwen2vl", 3584, EYES),
    _gguf("Qwen2.5-VL-3B", "qwen2vl", 2048, EYES),
    _gguf("Llama-3.1-8B", "llama", 4096),
    _gguf("Mistral-Small-24B", "llama", 5120),
    _gguf("Ministral-3-3B", "mistral3", 3072),
    _gguf("Gemma-2-2B", "gemma2", 2304),
    _gguf("Gemma-3-4B", "gemma3", 2560),
    _gguf("Gemma-3-12B", "gemma3", 3840),
    Part(
        "text-encoder",
        "llama.cpp",
        (Mark("output_norm.weight", 0, (3584,)), Mark("blk.0.attn_k.bias", 0, (512,)), Mark("blk.27.attn_norm.weight")),
        variant=BLIND,
        blind=EYES,
    ),
)

PARTS = (PROJECTOR, *GGUF, *TRANSFORMERS)
