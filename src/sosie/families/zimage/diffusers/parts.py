"""What is used of diffusers' and transformers' classes for Z-Image, and its parts together."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from sosie.diffusion.parts import ModelPart, TextEncoder, Tokenizer

if TYPE_CHECKING:
    from torch import Tensor, nn

    from sosie.diffusion.parts import Vae


class Attention(Protocol):
    """diffusers' `Attention` as Z-Image sets it up: no biases, norms of queries and keys."""

    to_q: nn.Linear
    to_k: nn.Linear
    to_v: nn.Linear
    to_out: Sequence[nn.Linear]
    norm_q: nn.Module
    norm_k: nn.Module
    heads: int


class FeedForward(Protocol):
    """A gated feed-forward layer."""

    w1: nn.Linear
    w2: nn.Linear
    w3: nn.Linear


class Block(Protocol):
    """A `ZImageTransformerBlock`; one of the context refiner has no `adaLN_modulation`."""

    attention: Attention
    feed_forward: FeedForward
    attention_norm1: nn.Module
    attention_norm2: nn.Module
    ffn_norm1: nn.Module
    ffn_norm2: nn.Module
    modulation: bool
    adaLN_modulation: Sequence[nn.Linear]  # noqa: N815 - diffusers' name


class TransformerConfig(Protocol):
    """What is read of the transformer's configuration."""

    in_channels: int
    cap_feat_dim: int
    siglip_feat_dim: int | None
    rope_theta: float
    axes_dims: list[int]
    axes_lens: list[int]


class Transformer(ModelPart, Protocol):
    """A `ZImageTransformer2DModel`."""

    config: TransformerConfig
    t_scale: float
    t_embedder: nn.Module
    cap_embedder: nn.Module
    cap_pad_token: Tensor
    x_pad_token: Tensor
    all_x_embedder: Mapping[str, nn.Module]
    all_final_layer: Mapping[str, nn.Module]
    noise_refiner: Sequence[Block]
    context_refiner: Sequence[Block]
    layers: Sequence[Block]
    parameters: Any
    __call__: Callable[..., Any]


@dataclass(eq=False)
class Parts:
    """A whole Z-Image. `shift` is the timestep shift that it was made with; `components` are its modules by name."""

    transformer: Transformer
    text_encoder: TextEncoder
    vae: Vae
    tokenizer: Tokenizer
    shift: float
    components: Mapping[str, object] = field(init=False)

    def __post_init__(self) -> None:
        self.components = {"transformer": self.transformer, "text_encoder": self.text_encoder, "vae": self.vae}
