"""One tensor in a file, by how its numbers are stored."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from sosie.diffusion.weights.dfloat11 import Stream, decode
from sosie.diffusion.weights.mapped import DTYPES, MappedFile
from sosie.diffusion.weights.packed import Packed
from sosie.diffusion.weights.sources import Rows
from sosie.files.safetensors import TensorInfo
from sosie.files.storage import PLAIN


class Stored(Protocol):
    """One tensor in a file."""

    @property
    def shape(self) -> tuple[int, ...]:
        """As the model has it."""
        ...

    @property
    def storage(self) -> str:
        """What its numbers are stored as (`bf16`, `fp8_e4m3-scaled`, `gguf-Q4_K`, `dfloat11`)."""
        ...

    def tensor(self, device: str | torch.device, dtype: torch.dtype | None, rows: Rows | None) -> Tensor:
        """Its numbers; a `dtype` of None is the stored one, bfloat16 for what is packed."""
        ...

    def packed(self, rows: Rows | None) -> Packed | None:
        """Its bytes in main memory, or None for what is not smaller than 16 bits."""
        ...


@dataclass(frozen=True, eq=False)
class PlainTensor:
    """A tensor of numbers as torch has them."""

    file: MappedFile
    info: TensorInfo
    start: int

    @property
    def shape(self) -> tuple[int, ...]:
        """As the model has it."""
        return self.info.shape

    @property
    def storage(self) -> str:
        """By its dtype."""
        return PLAIN.get(self.info.dtype, self.info.dtype.lower())

    def tensor(self, device: str | torch.device, dtype: torch.dtype | None, rows: Rows | None) -> Tensor:
        """The numbers, cast; where nothing is to be cast or moved, the file's own bytes."""
        whole = self.file.tensor(DTYPES[self.info.dtype], self.shape, self.start)
        return (whole if rows is None else whole[rows[0] : rows[1]]).to(device, dtype)

    def packed(self, rows: Rows | None) -> Packed | None:
        """Nothing: what is not a weight of two axes in 8 bits is read as it is."""
        del rows


@dataclass(frozen=True, eq=False)
class PackedTensor:
    """A weight that stays smaller than 16 bits, if wanted."""

    read: Callable[[], Packed]
    shape: tuple[int, ...]
    storage: str

    def tensor(self, device: str | torch.device, dtype: torch.dtype | None, rows: Rows | None) -> Tensor:
        """Its numbers: the bytes go to the device, and become numbers there."""
        packed = self.packed(rows).to(device)
        shape = self.shape if rows is None else (rows[1] - rows[0], *self.shape[1:])
        return packed.dequantised(dtype or torch.bfloat16).reshape(shape)

    def packed(self, rows: Rows | None) -> Packed:
        """Its bytes."""
        whole = self.read()
        return whole if rows is None else whole.rows(*rows)


@dataclass(frozen=True, eq=False)
class ComputedTensor:
    """A weight that a library makes numbers of, whole, on the device that it is given."""

    read: Callable[[str | torch.device], Tensor]
    shape: tuple[int, ...]
    storage: str

    def tensor(self, device: str | torch.device, dtype: torch.dtype | None, rows: Rows | None) -> Tensor:
        """Its numbers."""
        whole = self.read(device).reshape(self.shape)
        return (whole if rows is None else whole[rows[0] : rows[1]]).to(dtype or torch.bfloat16)

    def packed(self, rows: Rows | None) -> Packed | None:
        """Nothing: it does not stay packed."""
        del rows


class StreamBlock:
    """A block in DFloat11, decoded when the first of its weights is asked for, and forgotten after another block."""

    def __init__(self, read: Callable[[], Stream], last: list[tuple[object, Tensor]]) -> None:
        self._read = read
        self._last = last

    def numbers(self, device: str | torch.device) -> Tensor:
        """All weights of the block, flat, bfloat16."""
        key = (self, torch.device(device))
        if not self._last or self._last[0][0] != key:
            self._last.clear()  # before more is made: one block may be 0.4 GB
            self._last.append((key, decode(self._read(), device)))
        return self._last[0][1]


@dataclass(frozen=True, eq=False)
class StreamTensor:
    """A weight in a DFloat11 block, from number `first` on."""

    block: StreamBlock
    first: int
    shape: tuple[int, ...]
    storage: str = "dfloat11"

    def tensor(self, device: str | torch.device, dtype: torch.dtype | None, rows: Rows | None) -> Tensor:
        """Its numbers, in memory of their own."""
        flat = self.block.numbers(device)[self.first : self.first + math.prod(self.shape)]
        whole = flat.reshape(self.shape)
        return (whole if rows is None else whole[rows[0] : rows[1]]).to(dtype or torch.bfloat16, copy=True)

    def packed(self, rows: Rows | None) -> Packed | None:
        """Nothing: a stream has no weights one by one."""
        del rows
