"""What is used of diffusers' and transformers' classes for Z-Image, and its parts together."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from sosie.diffusion.parts import ModelPart

if TYPE_CHECKING:
    from sosie.diffusion.parts import Vae


class TransformerConfig(Protocol):
    """What is read of the transformer's configuration."""

    in_channels: int
    cap_feat_dim: int
    axes_lens: list[int]


class Transformer(ModelPart, Protocol):
    """A `ZImageTransformer2DModel`."""

    config: TransformerConfig
    __call__: Callable[..., Any]


class TextEncoder(ModelPart, Protocol):
    """A `Qwen3Model` of transformers."""

    config: Any
    __call__: Callable[..., Any]


class Tokenizer(Protocol):
    """A `tokenizers.Tokenizer`."""

    encode: Callable[..., Any]


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
