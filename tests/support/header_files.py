"""Model files of a true header and no data: sparse, so that they take no space on the disk."""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Any

from places import ROOT

from sosie.files.safetensors import BITS, Header
from sosie.files.strip import read_stripped

Table = dict[str, tuple[str, list[int]]]

HEADERS = ROOT / "tests" / "fixtures" / "headers"
FACE: Table = {"ip_adapter.1.to_k_ip.weight": ("F16", [640, 2048])}
INSTANTID: Table = {
    **FACE,
    "image_proj.latents": ("F16", [1, 16, 1280]),
    "image_proj.proj_in.weight": ("F16", [1280, 512]),
}
FACEID_PLUS: Table = {
    **FACE,
    "image_proj.proj.0.weight": ("F16", [1024, 512]),
    "image_proj.perceiver_resampler.proj_in.weight": ("F16", [2048, 1280]),
}


def head(tensors: Table, metadata: dict[str, str] | None = None) -> tuple[bytes, int]:
    """The beginning of a safetensors file, and its whole size."""
    header: dict[str, Any] = {"__metadata__": metadata} if metadata else {}
    end = 0
    for name, (dtype, shape) in tensors.items():
        start, end = end, end + math.prod(shape) * BITS[dtype] // 8
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [start, end]}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text, 8 + len(text) + end


@cache
def stripped(name: str) -> tuple[Header, int]:
    return read_stripped(HEADERS / f"{name}.json.gz")


@cache
def fixture_head(fixture: str) -> tuple[bytes, int]:
    header, _ = stripped(fixture)
    return head({name: (info.dtype, list(info.shape)) for name, info in header.tensors.items()})


def lay(path: Path, begins: bytes, size: int) -> Path:
    """A sparse file: no bytes of data on the disk."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        file.write(begins)
        file.truncate(size)
    return path


def write(path: Path, tensors: Table, metadata: dict[str, str] | None = None, size: int | None = None) -> Path:
    """A safetensors file with a true header and no data; another `size` than the header's makes it a broken one."""
    begins, whole = head(tensors, metadata)
    return lay(path, begins, whole if size is None else size)


def model(path: Path, fixture: str) -> Path:
    """The file of a stripped header of the fixtures, at its full size."""
    return lay(path, *fixture_head(fixture))


def lora(path: Path, base: str = "") -> Path:
    """A rank-4 LoRA of Z-Image in ai-toolkit's layout; `base` is what its metadata says it was trained on."""
    tensors: Table = {}
    for layer in range(30):
        for module in ("to_q", "to_k", "to_v", "to_out.0"):
            name = f"diffusion_model.layers.{layer}.attention.{module}"
            tensors |= {f"{name}.lora_A.weight": ("BF16", [4, 3840]), f"{name}.lora_B.weight": ("BF16", [3840, 4])}
    return write(path, tensors, {"ss_sd_model_name": base} if base else None)


def hollow(path: Path, header: Header) -> Path:
    """A whole file with that header whose tensors are a hole: it takes no space on the disk."""
    table = {
        n: {"dtype": i.dtype, "shape": list(i.shape), "data_offsets": list(i.offsets)}
        for n, i in header.tensors.items()
    }
    text = json.dumps(table).encode()
    with path.open("wb") as stream:
        stream.write(len(text).to_bytes(8, "little") + text)
        stream.truncate(8 + len(text) + max(i.offsets[1] for i in header.tensors.values()))
    return path


def fill(path: Path, header: Header, names: Iterable[str], value: bytes = b"\x12\x34") -> None:
    """Writes `value`, again and again, over the beginning (64 KB at most) of some tensors."""
    with path.open("r+b") as stream:
        start = 8 + int.from_bytes(stream.read(8), "little")
        for name in names:
            begin, end = header.tensors[name].offsets
            stream.seek(start + begin)
            stream.write((value * (65_536 // len(value)))[: end - begin])


def zimage_lora(path: Path, layers: int = 30) -> Path:
    """A rank-4 LoRA in the layout that ai-toolkit writes."""
    shapes = {
        "attention.to_q": (3840, 3840),
        "attention.to_k": (3840, 3840),
        "attention.to_v": (3840, 3840),
        "attention.to_out.0": (3840, 3840),
        "feed_forward.w1": (3840, 10240),
        "feed_forward.w2": (10240, 3840),
        "feed_forward.w3": (3840, 10240),
        "adaLN_modulation.0": (256, 15360),
    }
    tensors: Table = {}
    for layer in range(layers):
        for module, (wide, high) in shapes.items():
            name = f"diffusion_model.layers.{layer}.{module}"
            tensors[f"{name}.lora_A.weight"] = ("BF16", [4, wide])
            tensors[f"{name}.lora_B.weight"] = ("BF16", [high, 4])
    return write(path, tensors)
