"""Tensors of a safetensors file as raw numbers, and the atomic writing of a new file.

Nothing here rounds: bf16 is held as uint16 and fp8 as uint8, to be moved, not computed with.
`as_float32` and `scaled` are exact or they refuse.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sosie.core.errors import BadModelError, UsageError
from sosie.files.regular import open_regular
from sosie.files.safetensors import BITS, MAX_HEADER, Header
from sosie.files.whole import whole_stream

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Array = NDArray[np.generic]
    Floats = NDArray[np.float32]

CARRIERS = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "<u2", "F8_E4M3": "u1", "F8_E5M2": "u1"}
"""Dtype in the file -> numpy's dtype that carries its bits."""


@dataclass(frozen=True)
class Tensor:
    """A tensor that can be read: dtype as the file names it, shape, and `load` for its raw numbers.

    Loading happens when the tensor is written or computed with, so that a conversion holds one
    tensor in memory at a time.
    """

    dtype: str
    shape: tuple[int, ...]
    load: Callable[[], Array]


def open_tensor(path: Path, header: Header, start: int, name: str) -> Tensor:
    """Tensor `name` of a file whose tensors' bytes begin at `start`."""
    info = header.tensors[name]
    if info.dtype not in CARRIERS:
        message = f"{path}: tensor {name[:200]!r} is {info.dtype}; one of {', '.join(CARRIERS)} was expected"
        raise BadModelError(message, "get the LoRA unquantised")

    def load() -> Array:
        import numpy as np

        count = math.prod(info.shape)
        with open_regular(path) as stream:
            stream.seek(start + info.offsets[0])
            data = stream.read(info.offsets[1] - info.offsets[0])
        if len(data) != info.offsets[1] - info.offsets[0]:
            raise BadModelError(f"{path} became shorter while it was read")
        return np.frombuffer(data, CARRIERS[info.dtype], count).reshape(info.shape)

    return Tensor(info.dtype, info.shape, load)


def number(value: float) -> Tensor:
    """A scalar: F32 where that is exact, otherwise F64."""
    import numpy as np

    dtype = "F32" if float(np.float32(value)) == value else "F64"
    return Tensor(dtype, (), lambda: np.array(value, CARRIERS[dtype]))


def as_float32(values: Array, dtype: str) -> Floats:
    """Numbers as float32, exactly. Raises `UsageError` for dtypes that do not fit (F64, fp8)."""
    import numpy as np

    if dtype == "BF16":
        return (values.astype(np.uint32) << 16).view(np.float32)
    if dtype in ("F16", "F32"):
        return values.astype(np.float32)
    raise UsageError(f"{dtype} is not computed with exactly in float32", "give a LoRA in F32, F16 or BF16")


def scaled(values: Array, dtype: str, factor: float) -> Array:
    """Numbers times a power of two, in the same dtype. Raises `UsageError` if one of them would be rounded."""
    import numpy as np

    wide = values.astype(np.float64) if dtype == "F64" else as_float32(values, dtype)
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        product = wide * wide.dtype.type(factor)
        if dtype == "BF16":
            bits = product.view(np.uint32)
            narrow: Array = (bits >> 16).astype("<u2")
            back = (narrow.astype(np.uint32) << 16).view(np.float32)
        else:
            narrow = product.astype(CARRIERS[dtype])
            back = narrow.astype(wide.dtype)
        exact = np.array_equal(back / wide.dtype.type(factor), wide, equal_nan=True)
    if not exact:
        raise UsageError(f"times {factor:g}, numbers of this LoRA do not fit {dtype} exactly", "sosie lora show FILE")
    return narrow


def write(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str], overwrite: bool = False) -> None:
    """Writes a safetensors file, all of it or nothing.

    Without `overwrite` an existing `path` is a `UsageError`, also if it appears meanwhile.
    """
    names = sorted(tensors, key=lambda name: (-BITS[tensors[name].dtype], name))
    head = _header_bytes(names, tensors, metadata)
    try:
        with whole_stream(path, overwrite) as stream:
            stream.write(head)
            for name in names:
                tensor = tensors[name]
                array = tensor.load()
                if array.shape != tensor.shape or array.dtype != CARRIERS[tensor.dtype]:
                    raise AssertionError(f"{name}: {array.dtype} {array.shape} is not {tensor.dtype} {tensor.shape}")
                stream.write(array.tobytes())
    except FileExistsError:
        raise UsageError(f"{path} exists already", "choose another output file, or add --overwrite") from None
    except OSError as error:
        raise UsageError(f"{path} cannot be written: {error.strerror or error}", "choose another output file") from None


def _header_bytes(names: Sequence[str], tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> bytes:
    table: dict[str, Any] = {"__metadata__": dict(metadata)} if metadata else {}
    end = 0
    for name in names:
        tensor = tensors[name]
        begin, end = end, end + math.prod(tensor.shape) * BITS[tensor.dtype] // 8
        table[name] = {"dtype": tensor.dtype, "shape": list(tensor.shape), "data_offsets": [begin, end]}
    text = json.dumps(table, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    if len(text) > MAX_HEADER:
        raise UsageError(f"the header of the new file would have {len(text):,} bytes, more than {MAX_HEADER:,}")
    return len(text).to_bytes(8, "little") + text
