"""The tensors of a model file by name, whatever they are stored as.

| storage | read as | kept packed |
| --- | --- | --- |
| bf16, fp16, fp32 in safetensors or GGUF | is | - |
| fp8 (e4m3, e5m2), plain or with a scale, or one a row (`scale_weight`, `weight_scale`) | number x scale | yes |
| int8 with such scales (`int8_tensorwise`) | number x scale | yes |
| GGUF's blocks | by ggml's formats | yes |
| DFloat11 | the same bits | - |

Everything else is refused before a tensor is read. Scales for activations (`input_scale`) are not used: products are
computed in 16 bits.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor

from sosie.core.errors import BadModelError
from sosie.diffusion.weights.dfloat11 import Stream, decode
from sosie.diffusion.weights.mapped import DTYPES, MappedFile
from sosie.diffusion.weights.packed import BLOCKS, FLOAT8, Packed, scale_of, unpacks
from sosie.diffusion.weights.sources import Members, Rows
from sosie.files.foreign import as_object, parse_json
from sosie.files.gguf import Gguf, GgufTensor, read_gguf
from sosie.files.model_file import MAX_MARK, read_any_header, weight_files
from sosie.files.pickles.pickled import is_pickled
from sosie.files.regular import open_regular
from sosie.files.safetensors import Header, TensorInfo
from sosie.files.storage import PLAIN, storage, unreadable

BESIDE = ("scale_weight", "weight_scale", "scale_input", "input_scale", "comfy_quant")
"""Tensors beside a weight that say how it is stored."""

MARKER = "scaled_fp8"
MARKS_ROOM = 2**24
"""Bytes that ComfyUI's metadata may take when parsed; those of 1,000 layers take under 1 MB."""

FORMATS: Mapping[str, str] = {"float8_e4m3fn": "F8_E4M3", "float8_e5m2": "F8_E5M2", "int8_tensorwise": "I8"}
"""Formats of `.comfy_quant` that are read -> the dtype that the weight must have."""

AGAIN = "download the file again and compare its SHA-256 with the publisher's"

PIECES = ("luts", "encoded_exponent", "sign_mantissa", "output_positions", "gaps")


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


class Weights:
    """The tensors of a model by name; each is read when it is asked for. `path` is a file, or a folder of shards."""

    def __init__(self, path: Path, tensors: Mapping[str, Stored]) -> None:
        self.path = path
        self._tensors = tensors

    @property
    def names(self) -> frozenset[str]:
        """The names of the model's tensors, without what describes their storage."""
        return frozenset(self._tensors)

    def shape(self, name: str) -> tuple[int, ...]:
        """As the model has it, outermost axis first."""
        return self._get(name).shape

    def storage(self, name: str) -> str:
        """What its numbers are stored as (`bf16`, `fp8_e4m3-scaled`, `gguf-Q4_K`, `dfloat11`)."""
        return self._get(name).storage

    def tensor(
        self,
        name: str,
        dtype: torch.dtype | None = None,
        device: str | torch.device = "cpu",
        rows: Rows | None = None,
    ) -> Tensor:
        """A tensor's numbers, or some of its rows. Where nothing is cast or moved it may be the file's own bytes.

        Raises `BadModelError` if the file does not have it or holds nonsense there.
        """
        return self._get(name).tensor(device, dtype, rows)

    def packed(self, name: str, rows: Rows | None = None) -> Packed | None:
        """A weight's bytes in main memory, for `layers.PackedLinear`; None if it is stored in 16 bits or more."""
        return self._get(name).packed(rows)

    def _get(self, name: str) -> Stored:
        found = self._tensors.get(name)
        if found is None:
            raise BadModelError(f"{self.path} has no tensor '{name}'", f"sosie model show {self.path}")
        return found


def read_weights(path: Path, prefix: str = "", members: Members | None = None) -> Weights:
    """The weights in a safetensors or GGUF file, or in the folder of a component.

    Only names that begin with `prefix` are taken, and lose it. `members` says what is in DFloat11's streams. Raises
    `NotFoundError`, and `BadModelError` for what is broken or stored in a way that is not read here.
    """
    tensors: dict[str, Stored] = {}
    for file in weight_files(path) if path.is_dir() else (path,):
        tensors |= _of_file(file, members)
    chosen = {name.removeprefix(prefix): stored for name, stored in tensors.items() if name.startswith(prefix)}
    if not chosen:
        raise BadModelError(f"{path} has no tensors" + (f" that begin with '{prefix}'" if prefix else ""))
    return Weights(path, chosen)


def _of_file(path: Path, members: Members | None) -> dict[str, Stored]:
    _refuse_pickle(path)
    header, kind = read_any_header(path)
    if kind.startswith("gguf-"):
        return _of_gguf(path, read_gguf(path))
    if refused := unreadable(storage(header)):
        raise BadModelError(f"{path} {refused}", "take the file in bf16 instead")
    return _Safetensors(path, header, members).tensors()


def _refuse_pickle(path: Path) -> None:
    try:
        with open_regular(path) as stream:
            pickled = is_pickled(stream.read(512))
    except OSError:
        return  # said by whoever reads the header
    if pickled:
        raise BadModelError(f"{path} is a pickle, which is never run", f"sosie model convert {path}")


class _Safetensors:
    """The tensors of one safetensors file."""

    def __init__(self, path: Path, header: Header, members: Members | None) -> None:
        self.path = path
        self.header = header
        self.file = MappedFile(path)
        self.start = 8 + int.from_bytes(self.file.read(0, 8), "little")
        self.members = members
        self.formats = self._formats()

    def tensors(self) -> dict[str, Stored]:
        """By name, without those that say how others are stored."""
        found: dict[str, Stored] = {}
        last: list[tuple[object, Tensor]] = []
        for name, info in self.header.tensors.items():
            stem, _, end = name.rpartition(".")
            if end in BESIDE or end == MARKER or end in PIECES or end == "split_positions":
                if end == "encoded_exponent":
                    found |= self._stream(stem, last)
            elif info.dtype in FLOAT8 or (info.dtype == "I8" and self._scale(name) is not None):
                found[name] = self._in_8_bits(name, info)
            elif info.dtype in DTYPES:
                found[name] = PlainTensor(self.file, info, self.start + info.offsets[0])
            else:
                raise self._bad(name, f"is stored as {info.dtype}, which is not read here")
        return found

    def _raw(self, name: str) -> Tensor:
        info = self.header.tensors.get(name)
        if info is None or info.dtype not in DTYPES:
            raise self._bad(name, "is missing" if info is None else f"is stored as {info.dtype}, which is not read")
        return self.file.tensor(DTYPES[info.dtype], info.shape, self.start + info.offsets[0])

    def _scale(self, name: str) -> str | None:
        """The name of a weight's scale."""
        stem = name.removesuffix("weight")
        names = (f"{stem}scale_weight", f"{stem}weight_scale") if stem != name else ()
        return next((scale for scale in names if scale in self.header.tensors), None)

    def _in_8_bits(self, name: str, info: TensorInfo) -> PackedTensor:
        stem = name.removesuffix(".weight")
        told = FORMATS.get(self.formats.get(stem, ""), info.dtype)
        if told != info.dtype:
            raise self._bad(name, f"is said to be {self.formats[stem]}, but is {info.dtype}")
        rows = info.shape[0] if info.shape else 1
        columns = math.prod(info.shape[1:])
        scale = self._scale(name)

        def read() -> Packed:
            data = self.file.tensor(torch.uint8, (rows, columns), self.start + info.offsets[0])
            factor = None if scale is None else scale_of(f"{self.path}: {name}", self._raw(scale), rows)
            return Packed(info.dtype, (rows, columns), data, factor)

        kind = PLAIN[info.dtype] + ("" if scale is None else "-scaled")
        return PackedTensor(read, info.shape, kind)

    def _formats(self) -> dict[str, str]:
        """What ComfyUI's own metadata says of the modules that it speaks of: their format, which must be read here."""
        told: dict[str, object] = {}
        if text := self.header.metadata.get("_quantization_metadata"):
            told |= as_object(as_object(self._json("_quantization_metadata", text.encode())).get("layers"))
        for name, info in self.header.tensors.items():
            if name.endswith(".comfy_quant"):
                size = min(MAX_MARK, info.offsets[1] - info.offsets[0])
                mark = self.file.read(self.start + info.offsets[0], size)
                told[name.removesuffix(".comfy_quant")] = self._json(name, mark)
        return {module: self._format(module, as_object(entry)) for module, entry in told.items()}

    def _format(self, module: str, entry: Mapping[str, object]) -> str:
        name = entry.get("format")
        if not isinstance(name, str) or name not in FORMATS or entry.get("convrot"):
            kind = f"{str(name)[:40]}{', rotated (convrot)' if entry.get('convrot') else ''}"
            raise self._bad(module, f"is stored as {kind}, which is not read here")
        return name

    def _json(self, name: str, text: bytes) -> object:
        try:
            return parse_json(text, MARKS_ROOM)
        except ValueError:
            raise self._bad(name, "is not valid JSON") from None

    def _stream(self, block: str, last: list[tuple[object, Tensor]]) -> dict[str, Stored]:
        """The weights of a DFloat11 block."""
        pieces = {piece: self._raw(f"{block}.{piece}") for piece in PIECES}
        if any(tensor.dtype != torch.uint8 for tensor in pieces.values()):
            raise self._bad(block, "has a DFloat11 stream that is not of bytes")
        numbers = pieces["sign_mantissa"].numel()
        splits = self._splits(f"{block}.split_positions")
        ends = [*splits, numbers]
        sizes = [end - start for start, end in zip([0, *splits], ends, strict=True)]
        if any(size < 0 for size in sizes):
            raise self._bad(block, "has DFloat11 split positions that do not rise")
        shapes = self.members(block, sizes, self.header) if self.members else ()
        if [math.prod(shape) for _, shape in shapes] != sizes:
            raise self._bad(block, f"joins {len(sizes)} weights in a DFloat11 stream in a way that is not known")
        shared = StreamBlock(lambda: Stream(f"{self.path}: {block}", *pieces.values()), last)
        firsts = [0, *splits]
        return {name: StreamTensor(shared, first, shape) for (name, shape), first in zip(shapes, firsts, strict=True)}

    def _splits(self, name: str) -> list[int]:
        if name not in self.header.tensors:
            return []
        values = self._raw(name)
        if values.dtype not in (torch.int64, torch.int32) or values.numel() > 1000:
            raise self._bad(name, "is no list of positions")
        return [int(value) for value in values.flatten()]

    def _bad(self, name: str, what: str) -> BadModelError:
        return BadModelError(f"{self.path}: '{name[:200]}' {what}", "take the file in bf16 instead")


def _of_gguf(path: Path, gguf: Gguf) -> dict[str, Stored]:
    file = MappedFile(path)
    header = gguf.header
    return {name: _gguf_tensor(file, gguf, header.tensors[name], tensor) for name, tensor in gguf.tensors.items()}


def _gguf_tensor(file: MappedFile, gguf: Gguf, info: TensorInfo, tensor: GgufTensor) -> Stored:
    start = gguf.start + tensor.offset
    if math.prod(info.shape) != math.prod(tensor.shape):
        shapes = f"{list(tensor.shape)} and {list(info.shape)}"
        raise BadModelError(f"{gguf.path}: the shapes {shapes} of one tensor contradict each other", AGAIN)
    if tensor.type in DTYPES:
        return PlainTensor(file, TensorInfo(tensor.type, info.shape, info.offsets), start)
    if not unpacks(tensor.type):
        message = f"{gguf.path} has tensors of GGUF's type {tensor.type}, which is not read here"
        raise BadModelError(message, "take a file in Q8_0, Q6_K, Q5_K, Q4_K or bf16")
    numbers, size = BLOCKS[tensor.type]
    columns = tensor.shape[-1]
    rows = math.prod(tensor.shape[:-1])

    def read() -> Packed:
        data = file.tensor(torch.uint8, (rows, columns // numbers * size), start)
        return Packed(tensor.type, (rows, columns), data)

    return PackedTensor(read, info.shape, f"gguf-{tensor.type}")
