"""The configuration of a Qwen3 text encoder, told from the shapes of its tensors."""

from __future__ import annotations

from typing import Any

from sosie.diffusion.weights.part import Shapes, blocks

THETA = 1_000_000.0
"""The base of rotation of Qwen3's published configurations, which no shape tells."""


def text_encoder_config(shapes: Shapes) -> dict[str, Any]:
    """Of the names of `Qwen3Model`: the arguments of `Qwen3Config`."""
    words, width = shapes["embed_tokens.weight"]
    first = "layers.0.self_attn."
    head = shapes[f"{first}q_norm.weight"][0]
    return {
        "vocab_size": words,
        "hidden_size": width,
        "intermediate_size": shapes["layers.0.mlp.gate_proj.weight"][0],
        "num_hidden_layers": blocks("layers", shapes),
        "num_attention_heads": shapes[f"{first}q_proj.weight"][0] // head,
        "num_key_value_heads": shapes[f"{first}k_proj.weight"][0] // head,
        "head_dim": head,
        "max_position_embeddings": 40_960,
        "rope_theta": THETA,
        "rms_norm_eps": 1e-6,
        "tie_word_embeddings": True,
    }
