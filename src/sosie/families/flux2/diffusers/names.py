"""The names of single files turned into those of diffusers' classes, and what shapes tell of the transformer.

| part         | single file                                   | class                                          |
|--------------|-----------------------------------------------|------------------------------------------------|
| transformer  | `double_blocks.N.img_attn.qkv`, rows of q, k, v | `transformer_blocks.N.attn.to_q`, `to_k`, `to_v` |
|              | `double_blocks.N.txt_attn.qkv`                | `... add_q_proj`, `add_k_proj`, `add_v_proj`    |
|              | `single_blocks.N.linear1`, `linear2`          | `single_transformer_blocks.N.attn...`          |
|              | `final_layer.adaLN_modulation.1`              | `norm_out.linear`, its halves the other way    |
| VAE          | as CompVis named it; `encoder.quant_conv`     | as diffusers names it; `quant_conv`            |

Sources: diffusers `convert_flux2_transformer_checkpoint_to_diffusers`, `scripts/convert_flux2_to_diffusers.py`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from sosie.diffusion.autoencoder import autoencoder_config, autoencoder_names
from sosie.diffusion.weights.part import Shapes, blocks

Value = TypeVar("Value")
Split = Callable[[Value, int, int], Value]

TURNED = "final_layer.adaLN_modulation.1.weight"
"""Shift and scale in single files; scale and shift in diffusers' class."""

ROPE_THETA = 2000
AXES = 4
"""Axes of a token's place: picture, row, column, word. Each turns as many of a head's numbers."""

_QKV = re.compile(r"double_blocks\.(\d+)\.(img|txt)_attn\.qkv\.(\w+)")
_PROJECTIONS = {"img": "to_{}", "txt": "add_{}_proj"}

_RENAMED = tuple(
    (re.compile(pattern), new)
    for pattern, new in (
        (r"^img_in\.", "x_embedder."),
        (r"^txt_in\.", "context_embedder."),
        (r"^time_in\.in_layer\.", "time_guidance_embed.timestep_embedder.linear_1."),
        (r"^time_in\.out_layer\.", "time_guidance_embed.timestep_embedder.linear_2."),
        (r"^guidance_in\.in_layer\.", "time_guidance_embed.guidance_embedder.linear_1."),
        (r"^guidance_in\.out_layer\.", "time_guidance_embed.guidance_embedder.linear_2."),
        (r"_modulation(_img|_txt|)\.lin\.", r"_modulation\1.linear."),
        (r"^final_layer\.linear\.", "proj_out."),
        (r"^final_layer\.adaLN_modulation\.1\.", "norm_out.linear."),
        (r"^double_blocks\.(\d+)\.img_attn\.norm\.query_norm\.scale$", r"transformer_blocks.\1.attn.norm_q.weight"),
        (r"^double_blocks\.(\d+)\.img_attn\.norm\.key_norm\.scale$", r"transformer_blocks.\1.attn.norm_k.weight"),
        (
            r"^double_blocks\.(\d+)\.txt_attn\.norm\.query_norm\.scale$",
            r"transformer_blocks.\1.attn.norm_added_q.weight",
        ),
        (r"^double_blocks\.(\d+)\.txt_attn\.norm\.key_norm\.scale$", r"transformer_blocks.\1.attn.norm_added_k.weight"),
        (r"^double_blocks\.(\d+)\.img_attn\.proj\.", r"transformer_blocks.\1.attn.to_out.0."),
        (r"^double_blocks\.(\d+)\.txt_attn\.proj\.", r"transformer_blocks.\1.attn.to_add_out."),
        (r"^double_blocks\.(\d+)\.img_mlp\.0\.", r"transformer_blocks.\1.ff.linear_in."),
        (r"^double_blocks\.(\d+)\.img_mlp\.2\.", r"transformer_blocks.\1.ff.linear_out."),
        (r"^double_blocks\.(\d+)\.txt_mlp\.0\.", r"transformer_blocks.\1.ff_context.linear_in."),
        (r"^double_blocks\.(\d+)\.txt_mlp\.2\.", r"transformer_blocks.\1.ff_context.linear_out."),
        (r"^single_blocks\.(\d+)\.linear1\.", r"single_transformer_blocks.\1.attn.to_qkv_mlp_proj."),
        (r"^single_blocks\.(\d+)\.linear2\.", r"single_transformer_blocks.\1.attn.to_out."),
        (r"^single_blocks\.(\d+)\.norm\.query_norm\.scale$", r"single_transformer_blocks.\1.attn.norm_q.weight"),
        (r"^single_blocks\.(\d+)\.norm\.key_norm\.scale$", r"single_transformer_blocks.\1.attn.norm_k.weight"),
    )
)


def transformer_names(values: Mapping[str, Value], split: Split[Value]) -> dict[str, Value]:
    """Under the names of `Flux2Transformer2DModel`; values that have them already stay.

    `split(value, parts, part)` gives one of the equal parts of a value's rows.
    """
    made: dict[str, Value] = {}
    for name, value in values.items():
        if fused := _QKV.fullmatch(name):
            block, stream, what = fused.groups()
            for place, letter in enumerate("qkv"):
                projection = _PROJECTIONS[stream].format(letter)
                made[f"transformer_blocks.{block}.attn.{projection}.{what}"] = split(value, 3, place)
            continue
        for pattern, new in _RENAMED:
            name = pattern.sub(new, name)  # noqa: PLW2901
        made[name] = value
    return made


def transformer_config(shapes: Shapes) -> dict[str, Any]:
    """Of diffusers' names: the arguments that build the class."""
    width, channels = shapes["x_embedder.weight"]
    head = shapes["transformer_blocks.0.attn.norm_q.weight"][0]
    return {
        "in_channels": channels,
        "num_layers": blocks("transformer_blocks", shapes),
        "num_single_layers": blocks("single_transformer_blocks", shapes),
        "attention_head_dim": head,
        "num_attention_heads": width // head,
        "joint_attention_dim": shapes["context_embedder.weight"][1],
        "timestep_guidance_channels": shapes["time_guidance_embed.timestep_embedder.linear_1.weight"][1],
        "mlp_ratio": shapes["transformer_blocks.0.ff.linear_out.weight"][1] / width,
        "axes_dims_rope": (head // AXES,) * AXES,
        "rope_theta": ROPE_THETA,
        "guidance_embeds": "time_guidance_embed.guidance_embedder.linear_1.weight" in shapes,
    }


def vae_names(values: Mapping[str, Value]) -> dict[str, Value]:
    """Under the names of `AutoencoderKLFlux2`; values that have them already stay."""
    outer = {"encoder.quant_conv.": "quant_conv.", "decoder.post_quant_conv.": "post_quant_conv."}
    made = autoencoder_names(values)
    for inside, outside in outer.items():
        made = {name.replace(inside, outside): value for name, value in made.items()}
    return made


def vae_config(shapes: Shapes) -> dict[str, Any]:
    """Of diffusers' names: the arguments that build the class."""
    config = autoencoder_config(shapes)
    levels = len(config["block_out_channels"])
    widths = [shapes[f"decoder.up_blocks.{level}.resnets.0.conv2.weight"][0] for level in range(levels)]
    return config | {"decoder_block_out_channels": widths[::-1]}
