"""The header of a GGUF file, read without trusting a byte of it.

Format: `GGUF`, version (2 or 3, little-endian), number of tensors, number of metadata entries, the
entries, the tensors' names, shapes (innermost axis first), types and offsets, and from the next
multiple of `general.alignment` on their bytes
(https://github.com/ggml-org/ggml/blob/master/docs/gguf.md; block sizes: `ggml-common.h`).
"""

from __future__ import annotations

import math
import stat
import struct
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import IO, NoReturn

from sosie.core.errors import BadModelError, NotFoundError
from sosie.core.finding import Rule, RuleError
from sosie.files.regular import open_regular
from sosie.files.safetensors import Header, TensorInfo

G001 = Rule("SOS-G001", "error", "A file is not a GGUF file")
G002 = Rule("SOS-G002", "error", "A GGUF file has a version or byte order that is not read")
G003 = Rule("SOS-G003", "error", "A GGUF file's header is larger than any known")
G004 = Rule("SOS-G004", "error", "A GGUF file's header contradicts itself")
G005 = Rule("SOS-G005", "error", "A GGUF file is truncated")
G007 = Rule("SOS-G007", "error", "A GGUF file has a tensor of an unknown type")
G008 = Rule("SOS-G008", "error", "A GGUF file's tensors overlap or are not aligned")

ARCHITECTURE = "general.architecture"
"""The metadata by which a file names its kind of model."""

MAX_HEADER = 16 * 2**20
"""Most bytes of header that are read; a text encoder with 250,000 tokens has about 6 MB."""

MAX_TENSORS = 20_000
MAX_ENTRIES = 4_096
MAX_NAME = 256
MAX_AXES = 4

KEPT_TEXT = 1_024
"""Bytes of a metadata text that are kept; the rest is cut."""

KEPT_ARRAY = 16
"""Elements of the longest metadata array that is kept; longer ones (a tokenizer's) are skipped."""

KEPT_IN_ALL = 2 * 2**20
"""Bytes of all metadata texts that are kept; later ones are empty."""

Scalar = int | float | bool | str
Value = Scalar | tuple[Scalar, ...]

TYPES = {
    0: ("F32", 1, 4),
    1: ("F16", 1, 2),
    2: ("Q4_0", 32, 18),
    3: ("Q4_1", 32, 20),
    6: ("Q5_0", 32, 22),
    7: ("Q5_1", 32, 24),
    8: ("Q8_0", 32, 34),
    9: ("Q8_1", 32, 36),
    10: ("Q2_K", 256, 84),
    11: ("Q3_K", 256, 110),
    12: ("Q4_K", 256, 144),
    13: ("Q5_K", 256, 176),
    14: ("Q6_K", 256, 210),
    15: ("Q8_K", 256, 292),
    16: ("IQ2_XXS", 256, 66),
    17: ("IQ2_XS", 256, 74),
    18: ("IQ3_XXS", 256, 98),
    19: ("IQ1_S", 256, 50),
    20: ("IQ4_NL", 32, 18),
    21: ("IQ3_S", 256, 110),
    22: ("IQ2_S", 256, 82),
    23: ("IQ4_XS", 256, 136),
    24: ("I8", 1, 1),
    25: ("I16", 1, 2),
    26: ("I32", 1, 4),
    27: ("I64", 1, 8),
    28: ("F64", 1, 8),
    29: ("IQ1_M", 256, 56),
    30: ("BF16", 1, 2),
    34: ("TQ1_0", 256, 54),
    35: ("TQ2_0", 256, 66),
    39: ("MXFP4", 32, 17),
    40: ("NVFP4", 64, 36),
}
"""GGML type -> its name, elements in a block, bytes of a block."""

FILE_TYPES = {
    0: "F32",
    1: "F16",
    2: "Q4_0",
    3: "Q4_1",
    7: "Q8_0",
    8: "Q5_0",
    9: "Q5_1",
    10: "Q2_K",
    11: "Q3_K_S",
    12: "Q3_K_M",
    13: "Q3_K_L",
    14: "Q4_K_S",
    15: "Q4_K_M",
    16: "Q5_K_S",
    17: "Q5_K_M",
    18: "Q6_K",
    32: "BF16",
}
"""`general.file_type` -> what people call it (`llama.h`, `LLAMA_FTYPE`)."""

_PLAIN = frozenset(("F32", "F16", "BF16", "F64", "I8", "I16", "I32", "I64"))

_FORMATS = {0: "<B", 1: "<b", 2: "<H", 3: "<h", 4: "<I", 5: "<i", 6: "<f", 7: "<?", 10: "<Q", 11: "<q", 12: "<d"}
"""Metadata type -> how `struct` reads it; 8 is a text and 9 an array."""

_TEXT, _ARRAY = 8, 9

_AGAIN = "download the file again and compare its SHA-256 with the publisher's"


class GgufError(RuleError, BadModelError):
    """A GGUF file that is refused."""


@dataclass(frozen=True)
class GgufTensor:
    """A tensor: shape as torch writes it (outermost axis first), GGML type, offset after the header, bytes."""

    shape: tuple[int, ...]
    type: str
    offset: int
    bytes: int


@dataclass(frozen=True)
class Gguf:
    """What a GGUF file says of itself.

    `start` is the byte from which tensors' offsets count. `metadata` holds scalars, texts (cut after
    `KEPT_TEXT` bytes) and short arrays; long ones (a tokenizer's) are skipped. `expected` is the size
    that the tensors need, `bytes` the real one; they differ in a truncated file.
    """

    path: Path
    version: int
    metadata: Mapping[str, Value]
    tensors: Mapping[str, GgufTensor]
    start: int
    expected: int
    bytes: int

    @property
    def architecture(self) -> str:
        """`general.architecture` (`lumina2`, `flux`, `qwen3`, ...), or empty."""
        value = self.metadata.get(ARCHITECTURE, "")
        return value if isinstance(value, str) else ""

    @property
    def storage(self) -> str:
        """The type that most of the tensors' bytes have (`Q4_K`, `Q8_0`, `F16`, `BF16`, ...)."""
        sizes: Counter[str] = Counter()
        for tensor in self.tensors.values():
            sizes[tensor.type] += tensor.bytes
        return sizes.most_common(1)[0][0] if sizes else ""

    @property
    def file_type(self) -> str:
        """What `general.file_type` says (`Q4_K_M`), or empty."""
        value = self.metadata.get("general.file_type")
        return FILE_TYPES.get(value, f"type {value}") if isinstance(value, int) else ""

    @property
    def parameters(self) -> int:
        """The number of the tensors' elements."""
        return sum(math.prod(tensor.shape) for tensor in self.tensors.values())

    @property
    def header(self) -> Header:
        """Names and shapes for `signature.claims`; a quantised tensor is a `U8` there, and `storage` says the truth.

        Of the metadata only the architecture, by `ARCHITECTURE`.

        Tensors that had more than 4 axes, or that were reshaped into blocks, get the shape that
        `comfy.gguf.orig_shape.NAME` records (ComfyUI-GGUF).
        """
        infos: dict[str, TensorInfo] = {}
        for name, tensor in self.tensors.items():
            original = self.metadata.get(f"comfy.gguf.orig_shape.{name}")
            right = isinstance(original, tuple) and all(type(n) is int and n >= 0 for n in original)
            shape = (
                tuple(n for n in original if type(n) is int) if isinstance(original, tuple) and right else tensor.shape
            )
            dtype = tensor.type if tensor.type in _PLAIN else "U8"
            infos[name] = TensorInfo(dtype, shape, (tensor.offset, tensor.offset + tensor.bytes))
        return Header(MappingProxyType(infos), MappingProxyType({ARCHITECTURE: self.architecture}))


class _Reader:
    """The header's bytes one after another, read as far as they are needed and never beyond `MAX_HEADER`."""

    def __init__(self, stream: IO[bytes], path: Path) -> None:
        self._stream = stream
        self._data = bytearray()
        self.path = path
        self.position = 0
        self.kept = 0

    def fail(self, rule: Rule, why: str) -> NoReturn:
        """Raises the error for this file."""
        raise GgufError(rule, f"{self.path} {why}", _AGAIN)

    def _need(self, end: int) -> None:
        """Makes the first `end` bytes be there."""
        if end > MAX_HEADER:
            self.fail(G003, f"has a header of more than {MAX_HEADER:,} bytes")
        while len(self._data) < end:
            more = self._stream.read(max(2**16, len(self._data)))
            if not more:
                self.fail(G005, f"is truncated: it ends inside its header, at {len(self._data):,} bytes")
            self._data += more

    def take(self, size: int) -> bytes:
        """The next `size` bytes."""
        self.skip(size)
        return bytes(self._data[self.position - size : self.position])

    def skip(self, size: int) -> None:
        """Passes over `size` bytes, which count as read."""
        self._need(self.position + size)
        self.position += size

    def skip_texts(self, count: int) -> None:
        """Passes over `count` texts; a tokenizer has some 300,000."""
        length, at = struct.Struct("<Q").unpack_from, self.position
        while count:
            if at + 8 > len(self._data):
                self._need(at + 8)
            at += 8 + length(self._data, at)[0]
            count -= 1
        self.skip(at - self.position)

    def number(self, layout: str) -> int | float | bool:
        """The next number, by the `struct` format `layout`."""
        return struct.unpack(layout, self.take(struct.calcsize(layout)))[0]

    def natural(self, layout: str = "<Q") -> int:
        """The next whole number from 0."""
        return int(self.number(layout))

    def name(self) -> str:
        """The next text, a name of at most `MAX_NAME` bytes."""
        length = self.natural()
        if length > MAX_NAME:
            self.fail(G003, f"has a name of {length:,} bytes in its header (limit {MAX_NAME})")
        return self.take(length).decode("utf-8", errors="replace")

    def text(self) -> str:
        """The next text of the metadata, cut after `KEPT_TEXT` bytes."""
        length = self.natural()
        keep = min(length, KEPT_TEXT, KEPT_IN_ALL - self.kept)
        self.kept += keep
        start = self.position
        self.skip(length)
        return bytes(self._data[start : start + keep]).decode("utf-8", errors="replace")


def read_gguf(path: Path) -> Gguf:
    """Reads the header of the GGUF file `path`; no tensor is read. A truncated file is an answer, not an error.

    Raises `NotFoundError` if there is no file and `GgufError`, a `BadModelError` with a code, for
    one whose header is not valid; those are the only errors.
    """
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            raise GgufError(G001, f"{path} is not a file; a .gguf file was expected")
        with open_regular(path) as stream:
            return _read(_Reader(stream, path), status.st_size)
    except FileNotFoundError:
        raise NotFoundError(f"{path} does not exist") from None
    except OSError as error:
        raise GgufError(G001, f"{path} cannot be read: {error.strerror or error}") from None


def _read(reader: _Reader, size: int) -> Gguf:
    if size < 24 or reader.take(4) != b"GGUF":
        reader.fail(G001, "is not a GGUF file: it does not begin with GGUF and a header")
    version = reader.natural("<I")
    if version not in (2, 3):
        swapped = version.to_bytes(4, "little") in (b"\0\0\0\2", b"\0\0\0\3")
        what = "big-endian" if swapped else f"version {version}"
        reader.fail(G002, f"is a {what} GGUF file; little-endian version 2 or 3 was expected")
    tensor_count, entry_count = reader.natural(), reader.natural()
    if tensor_count > MAX_TENSORS or entry_count > MAX_ENTRIES:
        found = f"{tensor_count:,} tensors and {entry_count:,} metadata entries"
        reader.fail(G003, f"claims {found} (limits {MAX_TENSORS:,} and {MAX_ENTRIES:,})")
    metadata = _metadata(reader, entry_count)
    tensors: dict[str, GgufTensor] = {}
    for _ in range(tensor_count):
        name, tensor = _tensor(reader)
        if name in tensors:
            reader.fail(G004, f"has two tensors with the name {name!a}")
        tensors[name] = tensor
    alignment = metadata.get("general.alignment", 32)
    if type(alignment) is not int or not 0 < alignment <= 2**16 or alignment & (alignment - 1):
        reader.fail(G004, f"has the alignment {str(alignment)[:40]!a}; a power of two was expected")
    start = -(-reader.position // alignment) * alignment
    end = _check_offsets(reader, tensors, alignment)
    return Gguf(
        path=reader.path,
        version=version,
        metadata=MappingProxyType(metadata),
        tensors=MappingProxyType(tensors),
        start=start,
        expected=start + end if tensors else reader.position,
        bytes=size,
    )


def _metadata(reader: _Reader, count: int) -> dict[str, Value]:
    metadata: dict[str, Value] = {}
    for _ in range(count):
        key = reader.name()
        if key in metadata:
            reader.fail(G004, f"has the metadata {key!a} twice")
        value = _value(reader, reader.natural("<I"))
        metadata[key] = "" if value is None else value
    return metadata


def _value(reader: _Reader, kind: int) -> Value | None:
    """The next value; None for an array that is not kept."""
    if kind in _FORMATS:
        return reader.number(_FORMATS[kind])
    if kind == _TEXT:
        return reader.text()
    if kind != _ARRAY:
        reader.fail(G004, f"has metadata of the unknown type {kind}")
    kind, count = reader.natural("<I"), reader.natural()
    if kind in _FORMATS:
        if count <= KEPT_ARRAY:
            return tuple(reader.number(_FORMATS[kind]) for _ in range(count))
        reader.skip(count * struct.calcsize(_FORMATS[kind]))
        return None
    if kind != _TEXT:
        reader.fail(G004, "has arrays in arrays in its metadata, which no reader takes")
    if count <= KEPT_ARRAY:
        return tuple(reader.text() for _ in range(count))
    reader.skip_texts(count)
    return None


def _tensor(reader: _Reader) -> tuple[str, GgufTensor]:
    name = reader.name()
    axes = reader.natural("<I")
    if axes > MAX_AXES:
        reader.fail(G004, f"has a tensor {name!a} of {axes} axes (at most {MAX_AXES})")
    inner_first = [reader.natural() for _ in range(axes)]
    kind, offset = reader.natural("<I"), reader.natural()
    if kind not in TYPES:
        reader.fail(G007, f"has a tensor {name!a} of the unknown or removed GGML type {kind}")
    elements = math.prod(inner_first)
    if elements >= 2**63 or offset >= 2**63:
        reader.fail(G004, f"has a tensor {name!a} that is larger than any file")
    title, block, size = TYPES[kind]
    if (inner_first[0] if inner_first else 1) % block:
        row = inner_first[0] if inner_first else 1
        reader.fail(G004, f"has a tensor {name!a} with rows of {row} elements; {title} packs {block} at a time")
    return name, GgufTensor(tuple(reversed(inner_first)), title, offset, elements // block * size)


def _check_offsets(reader: _Reader, tensors: Mapping[str, GgufTensor], alignment: int) -> int:
    """Every tensor starts aligned after the one before; returns where the last one ends."""
    end, before = 0, ""
    for name, tensor in sorted(tensors.items(), key=lambda item: (item[1].offset, item[1].bytes)):
        if tensor.offset % alignment:
            reader.fail(G008, f"has a tensor {name!a} at {tensor.offset}, no multiple of {alignment}")
        if tensor.offset < end:
            reader.fail(G008, f"has a tensor {name!a} that overlaps tensor {before!a}")
        end, before = tensor.offset + tensor.bytes, name
    return end
