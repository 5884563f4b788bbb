"""An `AutoencoderKL` in a single file: names as CompVis gave them, and the configuration that its shapes tell."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Protocol, TypeVar

from sosie.diffusion.weights.part import Naming, Shapes, blocks
from sosie.diffusion.weights.sources import Source

Value = TypeVar("Value")


class Names(Protocol):
    """Renames the tensors of a single file to those of a class."""

    def __call__(self, values: Mapping[str, Value], /) -> Mapping[str, Value]:
        """What is known of each tensor, by the names of the class."""
        ...


_SHORT = {"norm": "group_norm", "q": "to_q", "k": "to_k", "v": "to_v", "proj_out": "to_out.0"}


def autoencoder_names(values: Mapping[str, Value]) -> dict[str, Value]:
    """Under diffusers' names; values that have them already stay."""
    levels = max((int(found[1]) for name in values if (found := re.match(r"decoder\.up\.(\d+)\.", name))), default=0)

    def up(found: re.Match[str]) -> str:
        return f"decoder.up_blocks.{levels - int(found[1])}."

    made: dict[str, Value] = {}
    for name, value in values.items():
        name = re.sub(r"^decoder\.up\.(\d+)\.", up, name)  # noqa: PLW2901
        name = re.sub(r"^encoder\.down\.(\d+)\.", r"encoder.down_blocks.\1.", name)  # noqa: PLW2901
        name = re.sub(r"(_blocks\.\d+)\.block\.", r"\1.resnets.", name)  # noqa: PLW2901
        name = re.sub(r"(_blocks\.\d+)\.downsample\.", r"\1.downsamplers.0.", name)  # noqa: PLW2901
        name = re.sub(r"(_blocks\.\d+)\.upsample\.", r"\1.upsamplers.0.", name)  # noqa: PLW2901
        name = name.replace(".nin_shortcut.", ".conv_shortcut.").replace(".norm_out.", ".conv_norm_out.")  # noqa: PLW2901
        name = re.sub(r"\.mid\.block_([12])\.", lambda it: f".mid_block.resnets.{int(it[1]) - 1}.", name)  # noqa: PLW2901
        name = re.sub(  # noqa: PLW2901
            r"\.mid\.attn_1\.(norm|q|k|v|proj_out)\.", lambda it: f".mid_block.attentions.0.{_SHORT[it[1]]}.", name
        )
        made[name] = value
    return made


def autoencoder_naming(shapes: Shapes, names: Names = autoencoder_names) -> Naming:
    """Of a part's own names and shapes: those of the class, its attention's projections being matrices."""
    renamed = names(shapes)
    flat = {name: shape[:2] if _is_projection(name) else shape for name, shape in renamed.items()}
    return Naming(flat, names({name: Source(name) for name in shapes}))


def autoencoder_config(shapes: Shapes) -> dict[str, Any]:
    """Of diffusers' names: the arguments that build it, but for the factors of its latents, which no shape tells."""
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
        "use_quant_conv": "quant_conv.weight" in shapes,
        "use_post_quant_conv": "post_quant_conv.weight" in shapes,
        "mid_block_add_attention": "decoder.mid_block.attentions.0.to_q.weight" in shapes,
    }


def _is_projection(name: str) -> bool:
    """Whether a weight is a projection of the attention, which single files hold as a convolution of 1x1."""
    return ".attentions.0.to_" in name and name.endswith(".weight")
