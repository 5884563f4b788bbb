"""FLUX.2 klein with random weights, at full size or tiny: what its benchmarks run on.

Sizes are those of the published configurations (klein 4B: 3.88 B, 4.02 B and 0.08 B parameters). `tiny` is the same
architecture, narrow, for a rehearsal on a CPU.
"""

from __future__ import annotations

from typing import Any

import torch
import zimage_parts
from zimage_parts import Place, random

__all__ = ["FULL_SIZE", "NINE", "TINY", "Place", "encoder", "pipeline", "random", "transformer", "vae"]

_KLEIN = {"num_layers": 5, "num_single_layers": 20, "num_attention_heads": 24, "joint_attention_dim": 7680}

FULL_SIZE: dict[str, Any] = {
    "transformer": _KLEIN,
    "vae": {"sample_size": 1024},
    "encoder": zimage_parts.FULL_SIZE["encoder"],
}

NINE: dict[str, Any] = {
    **FULL_SIZE,
    "transformer": {
        "num_layers": 8,
        "num_single_layers": 24,
        "num_attention_heads": 32,
        "joint_attention_dim": 12288,
    },
}

TINY: dict[str, Any] = {
    "transformer": {
        "num_layers": 2,
        "num_single_layers": 2,
        "attention_head_dim": 32,
        "num_attention_heads": 2,
        "joint_attention_dim": 96,
        "axes_dims_rope": (8, 8, 8, 8),
    },
    "vae": {"block_out_channels": (4, 4, 4, 4), "norm_num_groups": 2, "sample_size": 32},
    "encoder": {**zimage_parts.TINY["encoder"], "num_hidden_layers": 4},
}

encoder = zimage_parts.encoder


def transformer(place: Place) -> Any:
    """A `Flux2Transformer2DModel` of a klein."""
    from diffusers import Flux2Transformer2DModel

    sizes = place.sizes["transformer"]
    return zimage_parts.made_there(place, 11, lambda: Flux2Transformer2DModel(guidance_embeds=False, **sizes))


def vae(place: Place) -> Any:
    """An `AutoencoderKLFlux2`."""
    from diffusers import AutoencoderKLFlux2

    torch.manual_seed(12)
    made: Any = AutoencoderKLFlux2(**place.sizes["vae"])
    return made.to(place.device, place.dtype).eval().requires_grad_(False)


def pipeline(model: Any, decoder: Any, distilled: bool = True) -> Any:
    """The stock pipeline around a transformer and a VAE; it is given embeddings."""
    from diffusers import FlowMatchEulerDiscreteScheduler, Flux2KleinPipeline

    made: Any = Flux2KleinPipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0, use_dynamic_shifting=True),
        vae=decoder,
        text_encoder=None,  # pyright: ignore
        tokenizer=None,  # pyright: ignore
        transformer=model,
        is_distilled=distilled,
    )
    made.set_progress_bar_config(disable=True)
    return made
