"""A file's bytes as tensors, without reading them first."""

from __future__ import annotations

import math
import mmap
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from sosie.core.errors import BadModelError, NotFoundError
from sosie.files.regular import open_regular

DTYPES: Mapping[str, torch.dtype] = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "F8_E4M3": torch.float8_e4m3fn,
    "F8_E5M2": torch.float8_e5m2,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}
"""Of the dtypes of safetensors and the plain types of GGUF, those that torch computes with."""


LONGEST = 2**48
"""Product of the axes of a tensor without numbers, zeros apart; torch multiplies them."""


def expect_possible(path: Path, name: str, shape: tuple[int, ...]) -> None:
    """Raises `BadModelError` for an empty tensor whose other axes no tensor can have."""
    if 0 in shape and math.prod(axis or 1 for axis in shape) > LONGEST:
        raise BadModelError(f"{path}: '{name[:200]}' has the shape {list(shape)}; no tensor is so long")


class MappedFile:
    """A file whose bytes come from the disk when a tensor of them is used, and go again where memory is short.

    Tensors are private: writing to one changes nothing in the file. They keep the map alive. Whoever cuts the
    file while it is mapped takes the ground from under the process, as with every mapped file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            with open_regular(path) as stream:
                self._bytes = mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_COPY)
        except FileNotFoundError:
            raise NotFoundError(f"{path} does not exist") from None
        except (OSError, ValueError) as error:  # an empty file is a ValueError
            raise BadModelError(f"{path} cannot be read: {error}") from None

    def read(self, offset: int, size: int) -> bytes:
        """Some of its bytes; fewer at its end."""
        return self._bytes[offset : offset + size]

    def tensor(self, dtype: torch.dtype, shape: tuple[int, ...], offset: int) -> Tensor:
        """The numbers that begin at byte `offset`. Raises `BadModelError` where the file has become too short."""
        count = math.prod(shape)
        if not count:
            return torch.empty(shape, dtype=dtype)
        size = count * dtype.itemsize
        if offset < 0 or offset + size > len(self._bytes):
            hint = "download the file again and compare its SHA-256 with the publisher's"
            raise BadModelError(f"{self.path} is shorter than its header says", hint)
        raw = torch.frombuffer(self._bytes, dtype=torch.uint8, count=size, offset=offset)
        return (raw.clone() if offset % dtype.itemsize else raw).view(dtype).reshape(shape)
