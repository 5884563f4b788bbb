"""The tensors of one safetensors file, with what stands beside them: scales, ComfyUI's marks, DFloat11's streams."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import cast

import torch
from torch import Tensor

from sosie.core.errors import BadModelError
from sosie.diffusion.weights import kitchen
from sosie.diffusion.weights.dfloat11 import Stream
from sosie.diffusion.weights.mapped import DTYPES, MappedFile, expect_possible
from sosie.diffusion.weights.packed import FLOAT8, Packed, scale_of
from sosie.diffusion.weights.sources import Members
from sosie.diffusion.weights.stored import ComputedTensor, PackedTensor, PlainTensor, Stored, StreamBlock, StreamTensor
from sosie.files.foreign import as_object, parse_json
from sosie.files.model_file import MAX_MARK
from sosie.files.safetensors import Header, TensorInfo
from sosie.files.signature import COMFY
from sosie.files.storage import PLAIN, unreadable, way_out

BESIDE = frozenset(
    {"scale_weight", "weight_scale", "weight_scale_2", "scale_input", "input_scale", "comfy_quant", "scaled_fp8"}
)
"""Tensors beside a weight that say how it is stored."""

MARKS_ROOM = 2**24
"""Bytes that ComfyUI's metadata may take when parsed; those of 1,000 layers take under 1 MB."""

FORMATS: Mapping[str, str] = {"float8_e4m3fn": "F8_E4M3", "float8_e5m2": "F8_E5M2", "int8_tensorwise": "I8"}
"""Formats of `.comfy_quant` that are read -> the dtype that the weight must have."""

PIECES = ("luts", "encoded_exponent", "sign_mantissa", "output_positions", "gaps")


class SafetensorsFile:
    """The tensors of one safetensors file."""

    def __init__(self, path: Path, header: Header, members: Members | None) -> None:
        self.path = path
        self.header = header
        self.file = MappedFile(path)
        self.start = 8 + int.from_bytes(self.file.read(0, 8), "little")
        self.members = members
        self.marks = self._marks()

    def tensors(self) -> dict[str, Stored]:
        """By name, without those that say how others are stored."""
        found: dict[str, Stored] = {}
        last: list[tuple[object, Tensor]] = []
        for name, info in self.header.tensors.items():
            stem, _, end = name.rpartition(".")
            expect_possible(self.path, name, info.shape)
            if end in PIECES or end == "split_positions":
                if end == "encoded_exponent":
                    found |= self._stream(stem, last)
            elif end == "weight" and stem in self.marks:
                found[name] = self._marked(name, info, self.marks[stem])
            elif end not in BESIDE:
                found[name] = self._unmarked(name, info)
        return found

    def _unmarked(self, name: str, info: TensorInfo) -> Stored:
        if f"{name}_scale_inv" in self.header.tensors:
            raise self._bad(name, "has scales for blocks of it, which are not read")
        if info.dtype in FLOAT8 or (info.dtype == "I8" and self._scale(name) is not None):
            return self._in_8_bits(name, info)
        if f"{name}_scale_2" in self.header.tensors:
            raise self._bad(name, "is NVFP4 without ComfyUI's metadata: how its numbers lie is not known")
        if info.dtype not in DTYPES:
            raise self._bad(name, f"is stored as {info.dtype}, which is not read here")
        return PlainTensor(self.file, info, self.start + info.offsets[0])

    def _marked(self, name: str, info: TensorInfo, mark: Mapping[str, object]) -> Stored:
        """A weight of which ComfyUI's metadata says how it is stored."""
        kind = str(mark.get("format"))[:40]
        if kind == "nvfp4":
            return self._nvfp4(name, info)
        if kind not in FORMATS:
            raise self._bad(name, f"is stored as {kind}, which is not read here")
        if FORMATS[kind] != info.dtype:
            raise self._bad(name, f"is said to be {kind}, but is {info.dtype}")
        return self._rotated(name, info, mark) if mark.get("convrot") else self._in_8_bits(name, info)

    def _rotated(self, name: str, info: TensorInfo, mark: Mapping[str, object]) -> ComputedTensor:
        group, scale = mark.get("convrot_groupsize"), self._scale(name)
        if info.dtype != "I8" or len(info.shape) != 2 or scale is None or not kitchen.is_group(group, info.shape[1]):
            raise self._bad(name, f"was rotated (convrot) in groups of {str(group)[:20]}, which its shape forbids")
        self._expect_library("int8-convrot")

        def read(device: str | torch.device) -> Tensor:
            factor = scale_of(f"{self.path}: {name}", self._raw(scale), info.shape[0]).to(device)
            return kitchen.turned_back(self._raw(name).to(device), factor, cast(int, group))

        return ComputedTensor(read, info.shape, "int8-convrot")

    def _nvfp4(self, name: str, info: TensorInfo) -> ComputedTensor:
        blocks, whole = f"{name}_scale", f"{name}_scale_2"
        tensors = self.header.tensors
        if info.dtype != "U8" or len(info.shape) != 2 or not {blocks, whole} <= tensors.keys():
            raise self._bad(name, "is said to be NVFP4, and lacks its scales")
        shape = (info.shape[0], 2 * info.shape[1])
        lines, groups = -(-shape[0] // 128) * 128, -(-(shape[1] // 16) // 4) * 4
        counts = (math.prod(tensors[blocks].shape), math.prod(tensors[whole].shape))
        if shape[1] % 16 or counts != (lines * groups, 1) or tensors[blocks].dtype != "F8_E4M3":
            raise self._bad(name, f"has {counts[0]:,} scales; NVFP4 of {list(shape)} has {lines * groups:,}")
        self._expect_library("nvfp4")

        def read(device: str | torch.device) -> Tensor:
            scales = self._raw(blocks).reshape(lines, groups).to(device)
            return kitchen.from_nvfp4(self._raw(name).to(device), scales, self._raw(whole).reshape(()).to(device))

        return ComputedTensor(read, shape, "nvfp4")

    def _expect_library(self, kind: str) -> None:
        if refused := unreadable(kind):
            raise BadModelError(f"{self.path} {refused.holds}, which is not read here", way_out(refused))

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
        rows = info.shape[0] if info.shape else 1
        columns = math.prod(info.shape[1:])
        scale = self._scale(name)

        def read() -> Packed:
            data = self.file.tensor(torch.uint8, (rows, columns), self.start + info.offsets[0])
            factor = None if scale is None else scale_of(f"{self.path}: {name}", self._raw(scale), rows)
            return Packed(info.dtype, (rows, columns), data, factor)

        kind = PLAIN[info.dtype] + ("" if scale is None else "-scaled")
        return PackedTensor(read, info.shape, kind)

    def _marks(self) -> dict[str, Mapping[str, object]]:
        """What ComfyUI's own metadata says of modules, by their names in the file."""
        told: dict[str, object] = {}
        if text := self.header.metadata.get("_quantization_metadata"):
            layers = as_object(as_object(self._json("_quantization_metadata", text.encode())).get("layers"))
            told |= {self._module(name): entry for name, entry in layers.items()}
        for name, info in self.header.tensors.items():
            if name.endswith(".comfy_quant"):
                size = min(MAX_MARK, info.offsets[1] - info.offsets[0])
                mark = self.file.read(self.start + info.offsets[0], size)
                told[self._module(name.removesuffix(".comfy_quant"))] = self._json(name, mark)
        return {module: as_object(entry) for module, entry in told.items()}

    def _module(self, name: str) -> str:
        """A module as its tensors are named; the metadata may have left out a checkpoint's prefix."""
        for module in (name, COMFY + name, name.removeprefix(COMFY)):
            if f"{module}.weight" in self.header.tensors:
                return module
        raise self._bad(name, "is spoken of in the metadata, but has no weight")

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
