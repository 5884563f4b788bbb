"""The configurations of Z-Image's parts, told from the shapes of their tensors.

So a single file needs nothing beside it, and small models load as the published ones do. What no shape tells is
constant here: theta and the scale of time are those of Tongyi-MAI's configuration, the base of rotation is Qwen3's,
the factors of the latents are FLUX.1's. A config.json beside the weights goes before.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from sosie.families.zimage.diffusers.weights import Shapes

POSITIONS = (1536, 512, 512)
"""Largest positions of text, rows and columns (of 16 pixels)."""

ROPE_SHARES = (2, 3, 3)
"""Eighths of a head's numbers that turn with text, rows and columns."""

QWEN3_THETA = 1_000_000.0
FLUX_SCALE, FLUX_SHIFT = 0.3611, 0.1159


def transformer_config(shapes: Shapes) -> dict[str, Any]:
    """Of the names of `ZImageTransformer2DModel`: the arguments that build it."""
    width, text = shapes["cap_embedder.1.weight"]
    head = shapes["layers.0.attention.norm_q.weight"][0]
    patches = shapes["all_x_embedder.2-1.weight"][1]
    return {
        "in_channels": patches // 4,
        "dim": width,
        "n_layers": blocks("layers", shapes),
        "n_refiner_layers": blocks("noise_refiner", shapes),
        "n_heads": width // head,
        "n_kv_heads": width // head,
        "cap_feat_dim": text,
        "siglip_feat_dim": shapes.get("siglip_embedder.0.weight", (None,))[0],
        "axes_dims": [head * share // 8 for share in ROPE_SHARES],
        "axes_lens": list(POSITIONS),
        "rope_theta": 256.0,
        "t_scale": 1000.0,
    }


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
        "rope_theta": QWEN3_THETA,
        "rms_norm_eps": 1e-6,
        "tie_word_embeddings": True,
    }


def vae_config(shapes: Shapes) -> dict[str, Any]:
    """Of the names of `AutoencoderKL`: the arguments that build it."""
    levels = blocks("encoder.down_blocks", shapes)
    widths = [shapes[f"encoder.down_blocks.{level}.resnets.0.conv2.weight"][0] for level in range(levels)]
    return {
        "in_channels": shapes["encoder.conv_in.weight"][1],
        "out_channels": shapes["decoder.conv_out.weight"][0],
        "latent_channels": shapes["decoder.conv_in.weight"][1],
        "block_out_channels": widths,
        "layers_per_block": blocks("encoder.down_blocks.0.resnets", shapes),
        "down_block_types": ["DownEncoderBlock2D"] * levels,
        "up_block_types": ["UpDecoderBlock2D"] * levels,
        "norm_num_groups": min(32, *widths),
        "scaling_factor": FLUX_SCALE,
        "shift_factor": FLUX_SHIFT,
        "use_quant_conv": "quant_conv.weight" in shapes,
        "use_post_quant_conv": "post_quant_conv.weight" in shapes,
        "mid_block_add_attention": "decoder.mid_block.attentions.0.to_q.weight" in shapes,
    }


def own_config(config: Mapping[str, Any], known: Iterable[str]) -> dict[str, Any]:
    """What of a config.json is one of the `known` arguments."""
    names = set(known)
    return {name: value for name, value in config.items() if name in names}


def blocks(list_of: str, shapes: Iterable[str]) -> int:
    """How many blocks a list has: as many as there are numbers, however large they are."""
    pattern = re.compile(re.escape(list_of) + r"\.(\d{1,4})\.")
    return len({int(found[1]) for name in shapes if (found := pattern.match(name))})
