"""A LoRA that acts while another is trained, and not when that one is used.

A model that was distilled to few steps forgets them if it is trained as it is: the LoRA learns the way back. A
training adapter has made that way already; with it in the weights only the character is left to learn (ostris' adapters
for Z-Image Turbo). It is merged in float32 before anything else touches the weights; samples are drawn without it.
"""

from __future__ import annotations

import contextlib
import importlib
from collections.abc import Generator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from sosie.core.errors import BadModelError
from sosie.diffusion.lora_merge import lora_changes, merged
from sosie.families import families
from sosie.lora import read_lora
from sosie.training.storage import Linear8


class Assistant:
    """The LoRA in `path` in the weights of a denoiser, which must lie in main memory and have no adapters yet.

    Raises `BadModelError`, with nothing changed, if it is not for this family, or does not fit.
    """

    def __init__(self, denoiser: nn.Module, path: Path, family: str) -> None:
        lora = read_lora(path, families())
        hint = f"sosie lora show {path}; sosie lora convert {path} --to comfy"
        joined = [adapter.name for adapter in lora.adapters if len(adapter.targets) > 1]
        if joined:
            raise BadModelError(f"{path}: {joined[0]} changes several modules of the model at once", hint)
        changes = [change for change in lora_changes(lora, family, {"denoiser": ""}) if change.algorithm == "lora"]
        if len(changes) != len(lora.adapters):
            raise BadModelError(f"{path} is not a plain LoRA: {', '.join(lora.algorithms)}", hint)
        whole: Any = denoiser
        modules = dict(whole.named_modules())
        for change in changes:
            if change.place[1] not in modules:
                raise BadModelError(f"{path} changes {change.place[1]}, which the model does not have", hint)
        self._denoiser = denoiser
        self._plain: dict[str, tuple[Tensor, ...]] = {}
        safetensors: Any = importlib.import_module("safetensors")
        with safetensors.safe_open(path, "pt") as file:
            for change in changes:
                weight: Tensor = modules[change.place[1]].weight.data
                tensors = {role: file.get_tensor(key).float() for role, key in change.keys.items()}
                self._plain[change.place[1]] = (weight.clone(),)
                weight.copy_(merged(weight.float(), change, tensors, 1.0))

    def settle(self) -> None:
        """Once the denoiser's weights lie as they stay, in 8 bits or not."""
        for name, plain in self._plain.items():
            layer = _layer(self._denoiser, name)
            if isinstance(layer, Linear8):
                self._plain[name] = Linear8.stored(plain[0])

    @contextlib.contextmanager
    def absent(self) -> Generator[None]:
        """Within, the weights are those that the model came with."""
        self._exchange()
        try:
            yield
        finally:
            self._exchange()

    def _exchange(self) -> None:
        for name, others in self._plain.items():
            mine = _held(_layer(self._denoiser, name))
            kept = tuple(tensor.to("cpu", copy=True) for tensor in mine)
            for tensor, other in zip(mine, others, strict=True):
                tensor.copy_(other)
            self._plain[name] = kept


def _layer(denoiser: nn.Module, name: str) -> Any:
    """The layer itself, also where peft has wrapped it."""
    module: Any = denoiser.get_submodule(name)
    return getattr(module, "base_layer", module)


def _held(layer: Any) -> Sequence[Tensor]:
    return (layer.weight, layer.scale) if isinstance(layer, Linear8) else (layer.weight.data,)


def assistant_of(denoiser: torch.nn.Module, path: Path | None, family: str) -> Assistant | None:
    """The assistant in a file, merged; None without one."""
    return None if path is None else Assistant(denoiser, path, family)
