"""A stock SDXL pipeline made fast in place: the same numbers up to rounding, fewer and larger kernels.

- UNet and ControlNet run as one CUDA graph each: a step is thousands of kernels, and launching them one
  by one takes longer than running them.
- Keys and values of text and identity tokens, and a ControlNet's condition, are computed once an image.
- Queries, keys and values of self-attention come from one product.
- The blocks that repeat are compiled by Inductor, in channels-last memory.

The pipeline keeps its loop, scheduler, adapters and callbacks. What each of it gives: `docs/speed.md`.
"""

from __future__ import annotations

import os
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch

from sosie.core.errors import EngineError
from sosie.diffusion.cuda_graph import new_pool
from sosie.families.sdxl.diffusers.fast.compiling import Compiled, room_to_compile
from sosie.families.sdxl.diffusers.fast.constant_context import SelfAttention, attentions
from sosie.families.sdxl.diffusers.fast.parts import Attention, Denoiser, HasDenoisers
from sosie.families.sdxl.diffusers.fast.replay import Making, Replayed, ReplayedControlNet, ReplayedUNet


@dataclass(frozen=True)
class Levers:
    """What is used, apart from what always is. On a CPU both are off.

    On an H100 compiling costs the first image of a size about 40 s, or 5 s with what a former process
    left on disk; without it the first image takes half a second longer than the next ones.
    """

    compile: Literal["off", "blocks"] = "blocks"
    graph: bool = True


class Accelerated:
    """A pipeline that was made fast, to be undone by `restore`."""

    def __init__(self, models: Sequence[_Fast]) -> None:
        self._models = list(models)

    @property
    def programs(self) -> int:
        """How many calls were prepared: one a model and shape."""
        return sum(one.replayed.prepared for one in self._models)

    @property
    def stock_calls(self) -> int:
        """Calls that ran as stock diffusers runs them because their form is not known here."""
        return sum(one.replayed.stock_calls for one in self._models)

    def restore(self) -> None:
        """The pipeline as it was; to be called before adapters or LoRAs are loaded or weights move."""
        for one in self._models:
            one.restore()
        self._models.clear()


class _Fast:
    """One model made fast, and the way back."""

    def __init__(self, model: Denoiser, levers: Levers, making: Making) -> None:
        self.model = model
        self._compiled = None if levers.compile == "off" else Compiled(model)
        kind = ReplayedControlNet if hasattr(model, "controlnet_cond_embedding") else ReplayedUNet
        self.replayed: Replayed = kind(model, making, list(_joined(model)))
        self.replayed.install()

    def restore(self) -> None:
        """Takes everything back."""
        self.replayed.remove()
        if self._compiled is not None:
            self._compiled.undo()
        for _, layer in attentions(self.model):
            _separate(layer)


def why_not(pipeline: HasDenoisers, levers: Levers = Levers()) -> str:
    """Why this pipeline cannot be accelerated, or nothing."""
    for model in _models(pipeline):
        name = type(model).__name__
        tensors = list(model.parameters())
        if levers.graph and {tensor.device.type for tensor in tensors} != {"cuda"}:
            return f"the {name} is not on a GPU as a whole"
        if len({tensor.dtype for tensor in tensors}) != 1:
            return f"the {name}'s weights have more than one type"
        if hasattr(model, "_hf_hook"):
            return f"the {name} leaves the GPU when it is not its turn"
        if isinstance(getattr(model.forward, "__self__", None), Replayed):
            return f"the {name} is accelerated already"
        if any(hasattr(module, "base_layer") for module in model.modules()):
            return f"the {name} has LoRA layers beside its weights; merged into them they would not stand in the way"
        for path, layer in attentions(model):
            if reason := _odd(layer):
                return f"the {name}'s {path} {reason}"
    nets = [id(model) for model in _models(pipeline)]
    return "a ControlNet is there twice" if len(set(nets)) < len(nets) else ""


def accelerate(pipeline: HasDenoisers, levers: Levers = Levers(), cache: Path | None = None) -> Accelerated:
    """Makes a stock SDXL pipeline fast in place, with any of its ControlNets and identity adapters.

    Adapters must be loaded before. Their scales, embeddings, prompts, sizes, samplers and callbacks may
    change at will; weights may change in place between images (LoRAs merged into them) if the text is
    then given in another tensor. Compiled code is kept in the folder `cache` for the next process; what the
    environment names wins. Raises `EngineError` with the reason if it cannot be done.
    """
    if reason := why_not(pipeline, levers):
        raise EngineError(f"the pipeline cannot be accelerated: {reason}")
    if cache is not None:
        os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(cache))
    making = Making(new_pool() if levers.graph else None, lambda: _kernels(levers))
    return Accelerated([_Fast(model, levers, making) for model in _models(pipeline)])


def _models(pipeline: HasDenoisers) -> list[Denoiser]:
    """The UNet and the ControlNets of a pipeline."""
    control: Denoiser | None = getattr(pipeline, "controlnet", None)
    nets: Sequence[Denoiser] = [] if control is None else getattr(control, "nets", [control])
    return [pipeline.unet, *nets]


def _odd(layer: Attention) -> str:
    """What an attention layer has that the replaced processors would not honour, or nothing."""
    if (kind := type(layer.processor).__name__) not in ("AttnProcessor2_0", "IPAdapterAttnProcessor2_0"):
        return f"uses {kind}"
    given = [name for name in ("spatial_norm", "group_norm", "norm_q", "norm_k", "norm_cross") if getattr(layer, name)]
    if given:
        return f"has a {given[0]}"
    return "is not plain" if layer.residual_connection or layer.rescale_output_factor != 1 else ""


def _joined(model: Denoiser) -> Iterator[tuple[Attention, SelfAttention]]:
    """Self-attention layers with processors for the joined projections.

    The layer's own weights become views of the joined one, so nothing is held twice.
    """
    for path, layer in attentions(model):
        parts = (layer.to_q, layer.to_k, layer.to_v)
        if not path.endswith("attn1") or any(part.bias is not None for part in parts):
            continue
        joined = torch.cat([part.weight.data for part in parts])
        for part, rows in zip(parts, joined.chunk(3), strict=True):
            part.weight.data = rows
        yield layer, SelfAttention(joined)


def _separate(layer: Attention) -> None:
    """Weights of their own again, where they are views of a joined one."""
    for part in (layer.to_q, layer.to_k, layer.to_v):
        if part.weight.untyped_storage().nbytes() > part.weight.nbytes:
            part.weight.data = part.weight.data.clone()


@contextmanager
def _kernels(levers: Levers) -> Generator[None]:
    """Around a run: cuDNN tries its convolutions for a new shape instead of guessing the fastest."""
    before = torch.backends.cudnn.benchmark
    torch.backends.cudnn.benchmark = before or levers.graph
    try:
        with room_to_compile():
            yield
    finally:
        torch.backends.cudnn.benchmark = before
