"""Puts the parts of a pipeline where a memory mode wants them. The modes are described in `memory`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

import accelerate
import torch
from accelerate import hooks
from torch import nn

from sosie.core.errors import EngineError
from sosie.diffusion.memory import TILE, Mode
from sosie.diffusion.parts import ModelPart, Pipeline, Vae
from sosie.diffusion.weights.layers import packed_layers

OVERLAP = 0.25
"""Share of a VAE tile that it has in common with the next one."""

GROUPS: Mapping[str, str] = {"unet": "denoiser", "transformer": "denoiser", "controlnet": "denoiser", "vae": "vae"}
"""Parts that work at the same time; every other part is an encoder."""

_hooks: Any = hooks  # accelerate has no types


class Turn(_hooks.ModelHook):
    """Brings a part to the GPU before it works, and sends the parts of other groups away."""

    def __init__(self, device: str, others: Sequence[nn.Module]) -> None:
        self.execution_device = torch.device(device)
        self.others = others

    def pre_forward(self, module: nn.Module, *args: object, **kwargs: object) -> tuple[object, object]:
        """The arguments, on the GPU like the module."""
        leaving = [other for other in self.others if _device(other).type != "cpu"]
        for other in leaving:
            other.to("cpu")
        if leaving:
            torch.cuda.empty_cache()
        module.to(self.execution_device)
        send = _hooks.send_to_device
        return send(args, self.execution_device), send(kwargs, self.execution_device)

    def detach_hook(self, module: nn.Module) -> nn.Module:
        """The module, on the CPU."""
        return module.to("cpu")


def place(pipeline: Pipeline, mode: Mode, device: str, nets: Sequence[nn.Module] = ()) -> None:
    """Puts a pipeline's parts, and ControlNets that belong to other pipelines of the same parts, as `mode` says.

    Adapters and LoRAs must be loaded before; an accelerated pipeline must be restored. May be called
    again with another mode, but nothing comes back from `fp8`: its weights are rounded, so `EngineError`
    asks for them to be loaded anew.
    """
    parts = _parts(pipeline, nets)
    if mode != "fp8" and any(_cast(part) for _, part in parts):
        raise EngineError(f"weights held in 8 bits cannot be placed as '{mode}': load the model anew")
    for _, part in parts:
        _hooks.remove_hook_from_module(part, recurse=True)
        part.__dict__.pop("forward", None)
    tile(pipeline.vae, mode != "full")
    if mode in ("full", "tiled"):
        for _, part in parts:
            part.to(device)
        return
    for _, part in parts:
        part.to("cpu")
    if mode == "sequential":
        offload: Any = accelerate.cpu_offload
        for _, part in parts:
            offload(part, torch.device(device), offload_buffers=bool(list(part.parameters(recurse=False))))
        return
    if mode == "fp8":
        for group, part in parts:
            if group == "denoiser" and not _cast(part) and not packed_layers(part):
                model: Any = part
                model.enable_layerwise_casting(storage_dtype=torch.float8_e4m3fn, compute_dtype=model.dtype)
    for group, part in parts:
        others = [other for their, other in parts if their != group]
        _hooks.add_hook_to_module(part, Turn(device, others))


def to_main_memory(pipeline: Pipeline, nets: Sequence[nn.Module] = ()) -> None:
    """Takes all parts off the GPU, until `place` puts them back; an accelerated pipeline must be restored."""
    for _, part in _parts(pipeline, nets):
        if not any(tensor.is_meta for tensor in part.parameters()):  # a part that comes layer by layer is there
            part.to("cpu")


def device_of(part: nn.Module | ModelPart) -> torch.device:
    """Where a part works: not where it waits for its turn."""
    hooked = (getattr(module, "_hf_hook", None) for module in part.modules())
    devices = (getattr(hook, "execution_device", None) for hook in hooked)
    return next((torch.device(device) for device in devices if device is not None), _device(part))


def tile(vae: Vae, tiled: bool) -> None:
    """Tiles and images one by one, or a batch of whole images."""
    if not tiled:
        vae.disable_tiling()
        vae.disable_slicing()
        return
    shrink = 2 ** (len(vae.config.block_out_channels) - 1)
    vae.enable_tiling()
    vae.enable_slicing()
    vae.tile_sample_min_size, vae.tile_latent_min_size = TILE, TILE // shrink
    vae.tile_overlap_factor = OVERLAP


def _device(part: nn.Module | ModelPart) -> torch.device:
    """Where a part of diffusers or transformers is."""
    return cast(torch.device, part.device)


def _parts(pipeline: Pipeline, nets: Sequence[nn.Module]) -> list[tuple[str, nn.Module]]:
    """Every module with its group; a net of several ControlNets is taken apart."""
    parts: list[tuple[str, nn.Module]] = []
    for name, value in (*pipeline.components.items(), *(("controlnet", net) for net in nets)):
        if isinstance(value, nn.Module):
            members: Sequence[nn.Module] = getattr(value, "nets", [value])
            parts += [(GROUPS.get(name, "encoders"), member) for member in members]
    return list({id(part): (group, part) for group, part in parts}.values())


def _cast(part: nn.Module) -> bool:
    """Whether some weights are held in 8 bits."""
    return any(tensor.dtype == torch.float8_e4m3fn for tensor in part.parameters())
