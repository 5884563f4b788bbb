"""What is used of diffusers' UNet, ControlNet and attention layers where they are made fast."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn


class Processor(Protocol):
    """How an attention layer computes: the layer, then its hidden states."""

    __call__: Callable[..., Tensor]


class LinearLayer(Protocol):
    """A linear layer."""

    weight: nn.Parameter
    bias: nn.Parameter | None
    __call__: Callable[[Tensor], Tensor]


class Attention(Protocol):
    """An `Attention` layer. Its processor may have `scale`, `to_k_ip` and `to_v_ip`, one an identity guide."""

    to_q: LinearLayer
    to_k: LinearLayer
    to_v: LinearLayer
    to_out: Sequence[nn.Module]
    heads: int
    processor: Processor
    residual_connection: bool
    rescale_output_factor: float
    set_processor: Callable[[Processor], None]


class Denoiser(Protocol):
    """A `UNet2DConditionModel` or `ControlNetModel`; a ControlNet alone has `controlnet_cond_embedding`."""

    dtype: torch.dtype
    forward: Callable[..., Any]
    process_encoder_hidden_states: Callable[..., Any]
    controlnet_cond_embedding: Any
    to: Callable[..., object]

    def parameters(self) -> Iterator[Tensor]:
        """Every weight."""
        ...

    def modules(self) -> Iterator[nn.Module]:
        """Every module."""
        ...

    def named_modules(self) -> Iterator[tuple[str, nn.Module]]:
        """Every module with its name."""
        ...

    def get_submodule(self, target: str) -> nn.Module:
        """The module of a name."""
        ...


class HasDenoisers(Protocol):
    """A pipeline, or its UNet beside any of its ControlNets (`controlnet`: one, or several as its `nets`)."""

    @property
    def unet(self) -> Denoiser:
        """The UNet."""
        ...
