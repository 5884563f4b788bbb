"""Loads a Qwen3 text encoder, as a model uses it: without the head that predicts words."""

from __future__ import annotations

from typing import Any, cast

import transformers
from torch import nn

from sosie.diffusion.parts import TextEncoder
from sosie.diffusion.qwen3.config import text_encoder_config
from sosie.diffusion.weights.language import llama_cpp_sources
from sosie.diffusion.weights.part import Loading, Naming, PartWeights, Shapes, blocks, filled
from sosie.diffusion.weights.sources import Source

MARKS = ("layers.0.self_attn.q_norm.weight", "blk.0.attn_q_norm.weight")
"""A tensor of it by its own names, and by llama.cpp's."""

LAYER = (
    *(f"self_attn.{part}" for part in ("q_proj", "k_proj", "v_proj", "o_proj", "q_norm", "k_norm")),
    *(f"mlp.{part}" for part in ("gate_proj", "up_proj", "down_proj")),
    *("input_layernorm", "post_attention_layernorm"),
)
"""The modules of a layer."""

UNUSED = ("lm_head.weight",)

_language: Any = transformers


def load_qwen3(weights: PartWeights, how: Loading) -> TextEncoder:
    """The `Qwen3Model` of a part's weights. Raises `BadModelError` for tensors that make none."""

    def build(shapes: Shapes) -> nn.Module:
        table = weights.config if weights.config.get("model_type") == "qwen3" else text_encoder_config(shapes)
        return _language.Qwen3Model(_language.Qwen3Config(**{**table, "use_cache": False}))

    found = _under_model(weights)
    sources = _of_llama_cpp(found) if found.architecture else {name: Source(name) for name in found.shapes}
    sources = {name: source for name, source in sources.items() if name not in UNUSED}
    naming = Naming({name: found.shapes[source.name] for name, source in sources.items()}, sources)
    return cast(TextEncoder, filled(found, naming, build, how))


def _under_model(weights: PartWeights) -> PartWeights:
    """The weights without the prefix that a language model with its head gives all else."""
    inner = "model."
    if not any(name.startswith(inner) for name in weights.stored.names):
        return weights
    return PartWeights(weights.path, weights.stored.under(inner), weights.config, weights.kind, weights.architecture)


def _of_llama_cpp(weights: PartWeights) -> dict[str, Source]:
    """The parameters of `Qwen3Model` in a GGUF file."""
    layers = blocks("blk", weights.shapes)
    names = ["embed_tokens.weight", "norm.weight"]
    names += [f"layers.{layer}.{module}.weight" for layer in range(layers) for module in LAYER]
    found = llama_cpp_sources(weights.architecture, names, layers)
    return {name: source for name, source in found.items() if source.name in weights.shapes}
