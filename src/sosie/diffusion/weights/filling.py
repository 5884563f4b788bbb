"""Puts a file's weights into a model that was made without any."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

from sosie.core.errors import BadModelError
from sosie.diffusion.weights.layers import PackedLinear
from sosie.diffusion.weights.reading import Weights
from sosie.diffusion.weights.sources import Sources
from sosie.files.storage import PLAIN


def fill(
    model: nn.Module,
    weights: Weights,
    sources: Sources,
    dtype: torch.dtype,
    keep: Callable[[str], bool] | None = None,
    through: str = "cpu",
) -> nn.Module:
    """Gives every parameter of a model on the device `meta` its numbers in `dtype`, in main memory; returns the model.

    What is packed and does not stay so becomes numbers on the device `through`: DFloat11 takes minutes on a CPU.

    Linear layers whose module's name `keep` accepts stay as they are stored, where that is smaller than 16 bits. Raises
    `BadModelError` for a parameter that the file does not have, or has in another shape; buffers keep what they have.
    """
    wanted = {name: tuple(tensor.shape) for name, tensor in model.named_parameters()}
    _check(weights, sources, wanted)
    for name in sorted(wanted, key=lambda name: sources[name].name):  # a file's blocks one after the other
        source = sources[name]
        module_name, _, own = name.rpartition(".")
        module = model.get_submodule(module_name)
        if keep is not None and own == "weight" and type(module) is nn.Linear and keep(module_name):
            packed = weights.packed(source.name, source.rows)
            if packed is not None:
                _replace(model, module_name, PackedLinear(packed, getattr(module, "bias", None), dtype))
                continue
        device = "cpu" if weights.storage(source.name) in PLAIN.values() else through
        value = weights.tensor(source.name, dtype, device, source.rows).to("cpu")
        _set(model, name, value.reshape(wanted[name]))
    return model


def _check(weights: Weights, sources: Sources, wanted: Mapping[str, tuple[int, ...]]) -> None:
    lost = [name for name in wanted if name not in sources or sources[name].name not in weights.names]
    if lost:
        raise BadModelError(
            f"{weights.path} lacks {len(lost)} of {len(wanted)} tensors, first {lost[0]}; expected all of them",
            f"sosie model show {weights.path}",
        )
    for name, shape in wanted.items():
        source = sources[name]
        found = weights.shape(source.name)
        if source.rows is not None:
            start, stop = source.rows
            found = (min(stop, found[0]) - start, *found[1:]) if found else found
        if found != shape and _without_ones(found) != _without_ones(shape):
            message = f"{weights.path}: '{source.name}' has the shape {list(found)}; {list(shape)} was expected"
            raise BadModelError(message, f"sosie model show {weights.path}")


def _without_ones(shape: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(axis for axis in shape if axis != 1)


def _set(model: nn.Module, name: str, value: Tensor) -> None:
    module_name, _, own = name.rpartition(".")
    module = model.get_submodule(module_name)
    setattr(module, own, torch.nn.Parameter(value, requires_grad=False))


def _replace(model: nn.Module, name: str, layer: nn.Module) -> None:
    parent, _, own = name.rpartition(".")
    setattr(model.get_submodule(parent), own, layer)
