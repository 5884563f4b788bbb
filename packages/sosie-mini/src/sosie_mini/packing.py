"""The packed format and its expansion to stock fp16 safetensors, without torch.

Packed: large tensors are int8, symmetric, one float32 scale per output channel (the first axis)
in a tensor beside them, `w = int8 * NAME_scale`; small ones are bfloat16.

Expanded: float16, `{"format": "pt"}`. The product is taken in float32 and rounded once, to
nearest even, which is what torch does: the values are equal bit for bit.

Both sides are read and written here and not by the safetensors library: to numpy it gives no
bfloat16, and the bytes of the header that it writes are free to change between its versions,
which the digests in the manifest must not. What is read has passed its SHA-256 before.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

Array = np.ndarray[Any, np.dtype[Any]]

Complete = Callable[[Mapping[str, Array]], Mapping[str, Array]]

_SCALE = "_scale"
_READ = {"I8": "<i1", "U8": "<u1", "BF16": "<u2", "I32": "<i4", "I64": "<i8", "F16": "<f2", "F32": "<f4"}
_WRITE = {"i1": "I8", "u1": "U8", "i4": "I32", "i8": "I64", "f2": "F16"}


def expand(packed: bytes, complete: Complete = dict) -> bytes:
    """The stock fp16 safetensors file for the bytes of a packed one.

    `complete` is given the tensors and returns them with what a package leaves out. Raises `ValueError` if the bytes
    are not a packed safetensors file.
    """
    arrays = _tensors(packed)
    return _stock_file(complete({name: _unpacked(arrays, name) for name in arrays if not name.endswith(_SCALE)}))


def _tensors(packed: bytes) -> dict[str, Array]:
    """Every tensor of a safetensors file; bfloat16 comes as float32 of the same value."""
    length = int.from_bytes(packed[:8], "little")
    header: dict[str, Any] = json.loads(packed[8 : 8 + length])
    header.pop("__metadata__", None)
    tensors: dict[str, Array] = {}
    for name, spec in header.items():
        if spec["dtype"] not in _READ:
            raise ValueError(f"tensor '{name}' has dtype {spec['dtype']}, which the packed format does not use")
        start, end = (8 + length + offset for offset in spec["data_offsets"])
        value: Array = np.frombuffer(packed[start:end], _READ[spec["dtype"]]).reshape(spec["shape"])
        if spec["dtype"] == "BF16":
            value = (value.astype("<u4") << np.uint32(16)).view("<f4")
        tensors[name] = value
    return tensors


def _unpacked(arrays: Mapping[str, Array], name: str) -> Array:
    """float16 for every floating or scaled tensor; other integers stay as they are."""
    value, scale = arrays[name], arrays.get(name + _SCALE)
    if scale is not None:
        value = value.astype("<f4") * scale.reshape(-1, *[1] * (value.ndim - 1))
    return value.astype("<f2") if value.dtype.kind == "f" else value


def _stock_file(tensors: Mapping[str, Array]) -> bytes:
    """A safetensors file: tensors by falling item size, then by name; the header padded to 8 bytes."""
    names = sorted(tensors, key=lambda name: (-tensors[name].itemsize, name))
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    end = 0
    for name in names:
        value = tensors[name]
        start, end = end, end + value.nbytes
        dtype = _WRITE[value.dtype.str.lstrip("<|")]
        header[name] = {"dtype": dtype, "shape": list(value.shape), "data_offsets": [start, end]}
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return b"".join([struct.pack("<Q", len(text)), text, *(tensors[name].tobytes() for name in names)])
