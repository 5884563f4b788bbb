"""What is used of diffusers' and transformers' classes for SDXL."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from sosie.diffusion.parts import ModelPart

if TYPE_CHECKING:
    from torch import Tensor

    from sosie.diffusion.parts import Vae
    from sosie.diffusion.schedulers import Scheduler


class UNetConfig(Protocol):
    """What is read of the UNet's configuration."""

    in_channels: int
    cross_attention_dim: int
    block_out_channels: Sequence[int]
    layers_per_block: int
    projection_class_embeddings_input_dim: int
    time_cond_proj_dim: int | None
    items: Callable[[], Any]


class UNet(ModelPart, Protocol):
    """A `UNet2DConditionModel`."""

    config: UNetConfig
    attn_processors: Mapping[str, object]
    encoder_hid_proj: Any
    get_submodule: Callable[[str], Any]
    enable_gradient_checkpointing: Callable[..., None]


class Projection(Protocol):
    """What makes identity tokens of an embedding; FaceID Plus' has `clip_embeds`, `shortcut` and `shortcut_scale`."""

    clip_embeds: Tensor
    shortcut: bool
    shortcut_scale: float
    __call__: Callable[[Tensor], Tensor]

    def parameters(self) -> Iterator[Tensor]:
        """Its weights."""
        ...


class PipelineConfig(Protocol):
    """What is read of a pipeline's configuration."""

    force_zeros_for_empty_prompt: bool


class SdxlPipeline(Protocol):
    """One of SDXL's pipelines; those of a model share their parts."""

    config: PipelineConfig
    components: Mapping[str, object]
    unet: UNet
    vae: Vae
    text_encoder: TextEncoder
    text_encoder_2: TextEncoder
    tokenizer: Tokenizer
    tokenizer_2: Tokenizer
    scheduler: Scheduler
    num_timesteps: int
    __call__: Callable[..., Any]
    to: Callable[[str], object]
    set_progress_bar_config: Callable[..., None]
    load_ip_adapter: Callable[..., None]
    unload_ip_adapter: Callable[[], None]
    set_ip_adapter_scale: Callable[[list[float]], None]


class Tokenizer(Protocol):
    """CLIP's tokenizer."""

    model_max_length: int
    bos_token_id: int
    eos_token_id: int
    pad_token_id: int
    __call__: Callable[..., Any]
    convert_ids_to_tokens: Callable[[list[int]], list[str]]


class TextEncoder(ModelPart, Protocol):
    """One of CLIP's text encoders, of transformers."""

    __call__: Callable[..., Any]
