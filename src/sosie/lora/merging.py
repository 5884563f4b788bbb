"""Proof of a conversion: two LoRA files, merged into the same weights, compared number by number."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from sosie.core.errors import BadModelError, UsageError
from sosie.files.regular import open_regular
from sosie.files.safetensors import read_header
from sosie.lora.algebra import Change, delta, parts_of
from sosie.lora.convert import change_of, part_rows
from sosie.lora.coverage import BASE_PREFIXES
from sosie.lora.lora import Lora
from sosie.lora.modules import Module
from sosie.lora.tensors import as_float32, open_tensor

if TYPE_CHECKING:
    from sosie.lora.tensors import Floats


@dataclass(frozen=True)
class Merged:
    """The weights that were compared (diffusers' names), the numbers in them, and the largest difference."""

    modules: tuple[str, ...]
    numbers: int
    error: float


def merge_check(one: Lora, other: Lora, base: Path | None = None, weights: int = 3) -> Merged:
    """Merges both LoRAs into the first `weights` weights that they change, in float32, and compares.

    `base` is the model's safetensors file in either layout; without it the changes alone are
    compared. Attention comes first, where layouts differ. An error of 0.0 means equal to the last bit.
    Raises `UsageError` if they change different weights or the base lacks one.
    """
    first, second = _changes(one), _changes(other)
    if set(first) != set(second):
        odd = min(set(first) ^ set(second), key=lambda module: module.name)
        raise UsageError(f"{one.path} and {other.path} change different weights: only one of them changes {odd.name}")
    if not first:
        raise UsageError(f"{one.path} changes no known weight", "sosie lora show FILE")
    chosen = sorted(
        first, key=lambda module: (module.component, module.part is None, first_number(module), module.name)
    )
    numbers, error = 0, 0.0
    for module in chosen[:weights]:
        weight = None
        if base is not None and module.component == "denoiser":
            parts = one.table.wholes.get((module.component, module.single)) if one.table else None
            weight = _weight(base, module, parts or (module,))
        size, difference = _compare(module, first[module], second[module], weight)
        numbers += size
        error = max(error, difference)
    return Merged(tuple(module.name for module in chosen[:weights]), numbers, error)


def first_number(module: Module) -> int:
    """The first number in a module's name: its layer."""
    return next((int(piece) for piece in module.name.split(".") if piece.isdigit()), 0)


def _changes(lora: Lora) -> Mapping[Module, Change]:
    changes: dict[Module, Change] = {}
    for adapter in lora.adapters:
        if adapter.problem or not adapter.targets:
            continue
        whole = change_of(lora, adapter)
        parts = parts_of(whole, part_rows(whole, adapter.targets)) if len(adapter.targets) > 1 else (whole,)
        for module, change in zip(adapter.targets, parts, strict=True):
            if module in changes:
                raise UsageError(f"{lora.path}: {module.name} is changed twice", "sosie lora show FILE")
            changes[module] = change
    return changes


def _compare(module: Module, one: Change, other: Change, weight: Floats | None) -> tuple[int, float]:
    import numpy as np

    left, right = _merged(one, weight), _merged(other, weight)
    if left.shape != right.shape:
        raise UsageError(f"{module.name}: {left.shape} in one file, {right.shape} in the other")
    same = np.array_equal(left, right, equal_nan=True)
    difference = 0.0 if same else float(np.max(np.abs(left.astype(np.float64) - right)))
    return left.size, difference


def _merged(change: Change, weight: Floats | None) -> Floats:
    """W + change, with DoRA's magnitudes if there are any (arXiv:2402.09353, eq. 5)."""
    import numpy as np

    added = delta(change)
    if weight is None:
        return added
    if weight.shape != added.shape:
        raise UsageError(f"{change.name} is {added.shape}, the base's weight {weight.shape}")
    merged = weight + added
    if "dora" in change.tensors:
        tensor = change.tensors["dora"]
        sizes = as_float32(tensor.load(), tensor.dtype)
        by_row = tensor.shape[:1] == (change.rows,)
        norm = np.linalg.norm(merged, axis=1 if by_row else 0, keepdims=True)
        merged = merged * (sizes.reshape(norm.shape) / norm)
    return merged


def _weight(base: Path, module: Module, parts: Sequence[Module]) -> Floats:
    """A module's weight from the base in float32, (rows, columns); `parts` are those that are fused with it."""
    header = read_header(base)
    with open_regular(base) as stream:
        start = 8 + int.from_bytes(stream.read(8), "little")
    for prefix in (*BASE_PREFIXES, ""):
        for name in (module.name, module.single):
            key = f"{prefix}{name}.weight"
            if key not in header.tensors:
                continue
            tensor = open_tensor(base, header, start, key)
            values = as_float32(tensor.load(), tensor.dtype).reshape(tensor.shape[0], -1)
            if name == module.name or module.part is None:
                return values
            unit = values.shape[0] / sum(each.shape[0] for each in parts)
            begin = round(unit * sum(each.shape[0] for each in parts[: module.part]))
            return values[begin : begin + round(unit * module.shape[0])]
    raise BadModelError(f"{base} has no weight {module.name}", "give the base that the LoRA is for")
