"""What a pickled model file may name, and the records that its opcodes make.

Source of what is allowed: torch `_weights_only_unpickler.py` and `_utils.py`, of which only what
rebuilds a plain tensor is here. Classes that could be harmless but hold no plain tensor (quantised,
sparse and nested tensors, numpy objects) are not.
"""

from __future__ import annotations

from dataclasses import dataclass

from sosie.core.errors import BadModelError
from sosie.core.finding import Rule, RuleError

K001 = Rule("SOS-K001", "error", "A pickled model names something that is not a tensor; loading it can run code")
K002 = Rule("SOS-K002", "error", "A pickled model uses an opcode or an argument that torch.save never writes")
K003 = Rule("SOS-K003", "error", "A pickled model refers to an object outside of it that is no storage of a tensor")
K004 = Rule("SOS-K004", "error", "A pickled model is larger, in its pickle or its objects, than any table of tensors")
K005 = Rule("SOS-K005", "error", "A pickled model is truncated or damaged")
K006 = Rule("SOS-K006", "error", "A pickled model's zip archive is not what torch.save writes")
K007 = Rule("SOS-K007", "error", "A pickled model has bytes after its end, where something can hide")
K008 = Rule("SOS-K008", "error", "A file is not a pickled table of tensors")
K009 = Rule("SOS-K009", "error", "A pickled file holds no tensors")
K010 = Rule("SOS-K010", "error", "A pickled model holds a tensor that cannot be read or named")
K011 = Rule("SOS-K011", "error", "A pickled model's tensors take far more bytes than the file has")

DTYPES = {
    "float64": "F64",
    "float32": "F32",
    "float16": "F16",
    "bfloat16": "BF16",
    "float8_e4m3fn": "F8_E4M3",
    "float8_e5m2": "F8_E5M2",
    "float8_e4m3fnuz": "F8_E4M3FNUZ",
    "float8_e5m2fnuz": "F8_E5M2FNUZ",
    "float8_e8m0fnu": "F8_E8M0",
    "int64": "I64",
    "int32": "I32",
    "int16": "I16",
    "int8": "I8",
    "uint64": "U64",
    "uint32": "U32",
    "uint16": "U16",
    "uint8": "U8",
    "bool": "BOOL",
    "complex64": "C64",
}
"""torch's name of a dtype -> the name in safetensors; others cannot be stored there."""

STORAGES = {
    "torch.DoubleStorage": "F64",
    "torch.FloatStorage": "F32",
    "torch.HalfStorage": "F16",
    "torch.BFloat16Storage": "BF16",
    "torch.LongStorage": "I64",
    "torch.IntStorage": "I32",
    "torch.ShortStorage": "I16",
    "torch.CharStorage": "I8",
    "torch.ByteStorage": "U8",
    "torch.BoolStorage": "BOOL",
    "torch.ComplexFloatStorage": "C64",
    "torch.storage.UntypedStorage": "U8",
}
"""Class of a storage -> dtype of its elements; an untyped one is counted in bytes."""

CALLABLE = {
    "collections.OrderedDict": "table",
    "torch._utils._rebuild_tensor": "tensor",
    "torch._utils._rebuild_tensor_v2": "tensor",
    "torch._utils._rebuild_tensor_v3": "tensor",
    "torch._utils._rebuild_parameter": "parameter",
    "torch._utils._rebuild_parameter_with_state": "parameter",
    "torch.Size": "size",
    "torch.device": "other",
    "_codecs.encode": "other",
    "builtins.set": "other",
    "builtins.bytearray": "other",
    "builtins.complex": "other",
}
"""Names that REDUCE may mean, and which record stands for what they make."""

ALLOWED = frozenset({*CALLABLE, *STORAGES, *(f"torch.{name}" for name in DTYPES)})


class PickleError(RuleError, BadModelError):
    """A pickled file that is refused."""


@dataclass(frozen=True, slots=True)
class Global:
    """An allowed name, `module.name`; nothing was imported."""

    name: str


@dataclass(frozen=True, slots=True)
class Refused:
    """What a name outside of the allow-list, or a call of it, would have made."""

    name: str


@dataclass(frozen=True, slots=True)
class Other:
    """A value that is no tensor and that nobody needs (a set, bytes, a device)."""

    kind: str


@dataclass(frozen=True, slots=True)
class Storage:
    """A run of bytes outside the pickle: its key in the file, its dtype and its number of elements."""

    key: str
    dtype: str
    elements: int


@dataclass(frozen=True, slots=True)
class PickledTensor:
    """A view of a storage; `offset` and `stride` are in elements of `dtype` (a key of `BITS`)."""

    storage: Storage
    offset: int
    shape: tuple[int, ...]
    stride: tuple[int, ...]
    dtype: str


class Ordered(dict[str | int, object]):
    """A `collections.OrderedDict`, the one object whose BUILD (it sets `_metadata`) is allowed."""


def shown(name: object) -> str:
    """A hostile text, safe to print: ASCII, at most 120 characters."""
    return ascii(str(name)[:120])[1:-1][:120]
