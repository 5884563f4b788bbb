"""Weights as they stay in memory where they are smaller than 16 bits: their bytes, and how numbers are made of them.

| kind | bytes | the number |
| --- | --- | --- |
| `F8_E4M3`, `F8_E5M2` | one a number | cast, times the scale, both in the wanted dtype: as comfy-kitchen does |
| `I8` | one a number | times the scale in float32, then cast |
| a type of GGUF | blocks | by diffusers' port of ggml's formats, or the package `gguf`, in float32, then cast |

A scale is one number or one a row.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from sosie.core.errors import BadModelError, MissingExtraError
from sosie.files.gguf import TYPES

_torch: Any = torch  # partly without types

FLOAT8: Mapping[str, torch.dtype] = {"F8_E4M3": torch.float8_e4m3fn, "F8_E5M2": torch.float8_e5m2}

BLOCKS = {name: (numbers, size) for name, numbers, size in TYPES.values() if numbers > 1}
"""GGUF type -> numbers in a block, bytes of a block."""

ROWS_AT_ONCE = 2**24
"""Numbers that are dequantised at once in main memory: float32 copies of them take 64 MiB each."""


@dataclass(frozen=True, eq=False)
class Packed:
    """A weight of `shape` [rows, columns]: `data` is uint8 [rows, bytes of a row], `scale` float32 [] or [rows, 1]."""

    kind: str
    shape: tuple[int, int]
    data: Tensor
    scale: Tensor | None = None

    @property
    def bytes(self) -> int:
        """What it takes in memory."""
        return self.data.nbytes + (self.scale.nbytes if self.scale is not None else 0)

    def to(self, device: str | torch.device) -> Packed:
        """The same on a device."""
        scale = None if self.scale is None else self.scale.to(device)
        return Packed(self.kind, self.shape, self.data.to(device), scale)

    def rows(self, start: int, stop: int) -> Packed:
        """Some of the rows; they share the memory."""
        scale = self.scale[start:stop] if self.scale is not None and self.scale.ndim else self.scale
        return Packed(self.kind, (stop - start, self.shape[1]), self.data[start:stop], scale)

    def dequantised(self, dtype: torch.dtype) -> Tensor:
        """The weight's numbers, [rows, columns], where the bytes are."""
        return dequantise(self.kind, self.data, self.scale, dtype).reshape(self.shape)


def dequantise(kind: str, data: Tensor, scale: Tensor | None, dtype: torch.dtype) -> Tensor:
    """The numbers of rows of packed bytes (uint8 [rows, bytes of a row])."""
    if kind in FLOAT8:
        weight = data.view(FLOAT8[kind]).to(dtype)
        return weight if scale is None else weight * scale.to(dtype)
    if kind == "I8":
        whole = data.view(torch.int8).float()
        return (whole if scale is None else whole * scale.float()).to(dtype)
    return _from_blocks(kind, data, dtype)


def _from_blocks(kind: str, data: Tensor, dtype: torch.dtype) -> Tensor:
    numbers, size = BLOCKS[kind]
    columns = data.shape[1] // size * numbers
    if not data.numel():
        return torch.empty((len(data), columns), dtype=dtype, device=data.device)
    unpack = _unpacker(kind)
    at_once = max(1, ROWS_AT_ONCE // max(columns, 1)) if data.device.type == "cpu" else max(len(data), 1)
    out = torch.empty((len(data), columns), dtype=dtype, device=data.device)
    for start in range(0, len(data), at_once):
        part = data[start : start + at_once]
        out[start : start + at_once] = unpack(part).reshape(len(part), columns)
    return out


def _unpacker(kind: str) -> Callable[[Tensor], Tensor]:
    """What makes float32 of rows of blocks. Raises `MissingExtraError` without `gguf`."""
    library = _gguf()
    numbers, size = BLOCKS[kind]
    known = library.GGMLQuantizationType[kind]
    from diffusers.quantizers.gguf import utils

    ported: Any = utils
    if known in ported.dequantize_functions:  # equal to ggml's in float32, and at home on a GPU
        function = ported.dequantize_functions[known]
        return lambda data: function(data.reshape(-1, size), numbers, size, torch.float32)

    def by_numpy(data: Tensor) -> Tensor:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # of infinite scales, which stay infinite
            numbers: Tensor = _torch.from_numpy(library.dequantize(data.cpu().numpy(), known))
            return numbers.to(data.device)

    return by_numpy


def unpacks(kind: str) -> bool:
    """Whether blocks of a GGUF type can be read here."""
    if kind not in BLOCKS:
        return False
    library = _gguf()
    known: Any = getattr(library.GGMLQuantizationType, kind, None)
    return known is not None and known in library.quants._type_traits


def _gguf() -> Any:
    try:
        import gguf
    except ImportError:
        raise MissingExtraError("GGUF files are read with the package gguf", "pip install 'sosie[local]'") from None
    return gguf


def scale_of(name: str, scale: Tensor, rows: int) -> Tensor:
    """A scale as `Packed` has it, float32. Raises `BadModelError` for one of another shape."""
    if scale.numel() == 1:
        return scale.float().reshape(())
    if scale.numel() == rows and math.prod(scale.shape[:1]) == rows:
        return scale.float().reshape(rows, 1)
    shape = list(scale.shape)
    message = f"{name}: its scale has the shape {shape}; one number, or one for each of its {rows:,} rows, was expected"
    raise BadModelError(message, "take the bf16 file")
