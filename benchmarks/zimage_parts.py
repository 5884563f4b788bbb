"""Z-Image with random weights, at full size or tiny: what the speed and memory benchmarks run on.

Sizes are those of the published configurations (6.15 B, 4.02 B and 0.08 B parameters). `tiny` is the same architecture,
narrow, for a rehearsal on a CPU.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

FULL_SIZE: dict[str, Any] = {
    "transformer": {},
    "vae": {"block_out_channels": (128, 256, 512, 512), "layers_per_block": 2, "sample_size": 1024},
    "encoder": {
        "vocab_size": 151936,
        "hidden_size": 2560,
        "intermediate_size": 9728,
        "num_hidden_layers": 36,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "head_dim": 128,
    },
}

TINY: dict[str, Any] = {
    "transformer": {
        "dim": 96,
        "n_layers": 3,
        "n_heads": 3,
        "n_kv_heads": 3,
        "cap_feat_dim": 32,
        "axes_dims": [8, 12, 12],
    },
    "vae": {"block_out_channels": (4, 4, 4, 4), "norm_num_groups": 2, "sample_size": 32},
    "encoder": {
        "vocab_size": 512,
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 3,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "head_dim": 16,
    },
}


@dataclass(frozen=True)
class Place:
    """Where and how weights are held."""

    sizes: dict[str, Any]
    device: str = "cpu"
    dtype: torch.dtype = torch.float32


def random(shape: tuple[int, ...], place: Place, seed: int) -> torch.Tensor:
    """Normal numbers, drawn on the CPU."""
    drawn = torch.randn(shape, generator=torch.Generator().manual_seed(seed))
    return drawn.to(place.device, place.dtype)


def made_there(place: Place, seed: int, make: Callable[[], Any]) -> Any:
    """A network made where and as it runs, never larger first."""
    torch.manual_seed(seed)
    with torch.device(place.device):
        before = torch.get_default_dtype()
        torch.set_default_dtype(place.dtype)
        try:
            made = make()
        finally:
            torch.set_default_dtype(before)
    return made.eval().requires_grad_(False)


def transformer(place: Place) -> Any:
    """A `ZImageTransformer2DModel`."""
    from diffusers import ZImageTransformer2DModel

    return made_there(place, 11, lambda: ZImageTransformer2DModel(**place.sizes["transformer"]))


def vae(place: Place) -> Any:
    """An `AutoencoderKL` with 16 channels and no quant convs."""
    from diffusers import AutoencoderKL

    torch.manual_seed(12)
    kinds = ("DownEncoderBlock2D",) * 4, ("UpDecoderBlock2D",) * 4
    made: Any = AutoencoderKL(
        latent_channels=16,
        down_block_types=kinds[0],
        up_block_types=kinds[1],
        scaling_factor=0.3611,
        shift_factor=0.1159,
        use_quant_conv=False,
        use_post_quant_conv=False,
        **place.sizes["vae"],
    )
    return made.to(place.device, place.dtype).eval().requires_grad_(False)


def encoder(place: Place) -> Any:
    """A `Qwen3Model`."""
    from transformers import Qwen3Config, Qwen3Model

    return made_there(place, 13, lambda: Qwen3Model(Qwen3Config(**place.sizes["encoder"])))


def pipeline(model: Any, decoder: Any = None) -> Any:
    """The stock pipeline around a transformer; it is given embeddings."""
    from diffusers import FlowMatchEulerDiscreteScheduler, ZImagePipeline

    made: Any = ZImagePipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0),
        vae=decoder,
        text_encoder=None,
        tokenizer=None,
        transformer=model,
    )
    made.set_progress_bar_config(disable=True)
    return made
