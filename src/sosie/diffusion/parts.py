"""What is used of the classes of diffusers, as far as every family uses it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import torch


class ModelPart(Protocol):
    """A model of diffusers or transformers. Methods are the library's own."""

    dtype: torch.dtype
    device: torch.device
    to: Any
    modules: Any
    requires_grad_: Any


class VaeConfig(Protocol):
    """What is read of a VAE's configuration.

    `scaling_factor`, `shift_factor`, `latents_mean` and `latents_std` may be missing or None.
    """

    scaling_factor: float
    block_out_channels: Sequence[int]


class Vae(ModelPart, Protocol):
    """An `AutoencoderKL`."""

    config: VaeConfig
    tile_sample_min_size: int
    tile_latent_min_size: int
    tile_overlap_factor: float
    encode: Any
    decode: Any
    enable_tiling: Any
    disable_tiling: Any
    enable_slicing: Any
    disable_slicing: Any


class TextEncoder(ModelPart, Protocol):
    """A language model of transformers without its head, such as `Qwen3Model`."""

    config: Any
    __call__: Callable[..., Any]


class Tokenizer(Protocol):
    """A `tokenizers.Tokenizer`."""

    encode: Callable[..., Any]
    token_to_id: Callable[[str], int | None]


class Pipeline(Protocol):
    """A pipeline: `components` are its parts by name, torch modules and others."""

    vae: Vae
    components: Mapping[str, object]
