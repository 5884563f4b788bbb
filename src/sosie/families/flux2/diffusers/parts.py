"""What is used of diffusers' and transformers' classes for FLUX.2 klein, and its parts together."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from sosie.diffusion.parts import ModelPart, TextEncoder, Tokenizer, Vae

if TYPE_CHECKING:
    from torch import Tensor, nn


class TransformerConfig(Protocol):
    """What is read of the transformer's configuration."""

    in_channels: int
    joint_attention_dim: int
    attention_head_dim: int
    axes_dims_rope: Sequence[int]
    rope_theta: float
    eps: float
    guidance_embeds: bool


class Transformer(ModelPart, Protocol):
    """A `Flux2Transformer2DModel`."""

    config: TransformerConfig
    time_guidance_embed: nn.Module
    double_stream_modulation_img: nn.Module
    double_stream_modulation_txt: nn.Module
    single_stream_modulation: nn.Module
    x_embedder: nn.Module
    context_embedder: nn.Module
    transformer_blocks: Sequence[Any]
    single_transformer_blocks: Sequence[Any]
    norm_out: Callable[[Tensor, Tensor], Tensor]
    proj_out: nn.Module
    parameters: Any
    __call__: Callable[..., Any]


@dataclass(eq=False)
class Parts:
    """A whole FLUX.2 klein; `components` are its modules by name."""

    transformer: Transformer
    text_encoder: TextEncoder
    vae: Vae
    tokenizer: Tokenizer
    components: Mapping[str, object] = field(init=False)

    def __post_init__(self) -> None:
        self.components = {"transformer": self.transformer, "text_encoder": self.text_encoder, "vae": self.vae}
