"""A pickled model file (`.bin`, `.pth`, `.pt`, `.ckpt`), known from its opcodes; nothing in it is run.

What is found is given as a `Header`, as if the file were safetensors already, so that families know
both alike. Tables in tables are joined by '.': InstantID's `{'image_proj': {...}, 'ip_adapter':
{...}}` has names like `image_proj.latents`. A table that training scripts wrap around the model's
(`WRAPPERS`) is taken off, and what lies beside it is left out.
"""

from __future__ import annotations

import math
import re
import stat
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import IO, Literal, cast

from sosie.core.errors import NotFoundError
from sosie.files.pickles.archive import AGAIN, read_legacy, read_zip
from sosie.files.pickles.machine import PickleMachine
from sosie.files.pickles.records import K004, K008, K009, K010, K011, PickledTensor, PickleError
from sosie.files.regular import open_regular
from sosie.files.safetensors import BITS, Header, TensorInfo

SUFFIXES = (".bin", ".pth", ".pt", ".ckpt")
"""Endings that pickled model files have."""

WRAPPERS = ("state_dict", "params_ema", "params-ema", "params")
"""Keys of the outermost table that hold the model itself, the best first (training scripts, BasicSR)."""

MAX_DEPTH = 8
MAX_VALUES = 100_000
MAX_NAME = 500

_START = re.compile(rb"PK\x03\x04|\x80[\2-\5]|\(*[ci][\w.]+\n[\w.]+\n", re.ASCII)

Place = tuple[str | int, ...]


@dataclass(frozen=True)
class Pickled:
    """A pickled model that holds nothing but tensors and plain values.

    `header` is that of the safetensors file that `convert` writes, tensors in the file's order.
    `places` says for each tensor by which keys it is reached in the object. `left_out` counts
    tensors beside the model (an optimiser's), `protocol` is the pickle's, `bytes` the file's size.
    """

    path: Path
    container: Literal["zip", "legacy"]
    protocol: int
    header: Header
    places: Mapping[str, Place]
    left_out: int
    bytes: int


def is_pickled(start: bytes) -> bool:
    """True if a file that starts so is a zip archive or a pickle (protocol 2 to 5, or older and naming code)."""
    return _START.match(start) is not None


def read_pickled(path: Path) -> Pickled:
    """Reads the opcodes of `path`; the tensors' bytes are not read and nothing is run.

    Raises `NotFoundError` if there is no file and `PickleError`, a `BadModelError` with a code,
    for a file that is broken or holds anything but tensors; those are the only errors.
    """
    machine = PickleMachine(str(path))
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            raise PickleError(K008, f"{path} is not a file; a pickled model was expected")
        with open_regular(path) as stream:
            start = stream.read(512)
            if not is_pickled(start):
                raise PickleError(K008, f"{path} is not a pickled model: {_what(start)}", AGAIN)
            container = "zip" if start.startswith(b"PK") else "legacy"
            root = _read(stream, container, machine)
    except FileNotFoundError:
        raise NotFoundError(f"{path} does not exist") from None
    except OSError as error:
        raise PickleError(K008, f"{path} cannot be read: {error.strerror or error}") from None
    tensors, left_out = _model(root, machine)
    header = _header({name: tensor for name, (_, tensor) in tensors.items()}, status.st_size, machine)
    places = MappingProxyType({name: place for name, (place, _) in tensors.items()})
    return Pickled(path, container, machine.protocol, header, places, left_out, status.st_size)


def _read(stream: IO[bytes], container: str, machine: PickleMachine) -> object:
    root = read_zip(stream, machine) if container == "zip" else read_legacy(stream, machine)
    if machine.refused:
        raise machine.refusal()
    return root


def _what(start: bytes) -> str:
    if not start:
        return "it is empty"
    text = start.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if text.startswith((b"<!doctype", b"<html", b"<head", b"<?xml")):
        return "it is a web page (a log-in, licence or error page was saved)"
    if text.startswith(b"version https://git-lfs"):
        return "it is a Git LFS pointer (run git lfs pull)"
    if start.startswith(b"GGUF"):
        return "it is a GGUF file"
    if start[8:9] == b"{" and int.from_bytes(start[:8], "little") < 2**32:
        return "it is a safetensors file (give it that ending)"
    return "its first bytes are neither those of a zip archive nor of a pickle"


def _model(root: object, machine: PickleMachine) -> tuple[dict[str, tuple[Place, PickledTensor]], int]:
    """The model's tensors by name, and how many lie outside of it."""
    found = list(_tensors(root, (), machine))
    if not found:
        raise machine.bad(K009, "holds no table with tensors in it")
    skip, kept = 0, found
    for wrapper in WRAPPERS:
        inside = [item for item in found if len(item[0]) > 1 and item[0][0] == wrapper]
        if inside:
            skip, kept = 1, inside
            break
    tensors: dict[str, tuple[Place, PickledTensor]] = {}
    for place, tensor in kept:
        name = ".".join(map(str, place[skip:]))
        machine.spend(sys.getsizeof(name) + 600)
        if name in tensors:
            raise machine.bad(K010, f"has two tensors with the name {name[:200]!a}")
        tensors[name] = place, tensor
    return tensors, len(found) - len(kept)


def _tensors(root: object, place: Place, machine: PickleMachine) -> Iterator[tuple[Place, PickledTensor]]:
    """Every tensor below `root` and the keys that lead to it.

    Tables can hold themselves and be shared, so what is visited is counted and not how much there is.
    """
    waiting: list[tuple[Place, object]] = [(place, root)]
    visited = 0
    while waiting:
        place, value = waiting.pop()
        visited += 1
        if isinstance(value, PickledTensor) and place:
            yield place, value
        items = _items(value)
        if items and len(place) == MAX_DEPTH:
            raise machine.bad(K004, f"has tables in tables, more than {MAX_DEPTH} deep")
        if visited + len(waiting) + len(items) > MAX_VALUES:
            raise machine.bad(K004, f"has more than {MAX_VALUES:,} values in its tables")
        for key, item in reversed(items):
            if isinstance(item, PickledTensor | dict | list | tuple):
                waiting.append(((*place, _key(key, machine)), cast("object", item)))


def _items(value: object) -> list[tuple[str | int, object]]:
    if isinstance(value, dict):
        return list(cast("dict[str | int, object]", value).items())
    if isinstance(value, list | tuple):
        return list(enumerate(cast("list[object]", value)))
    return []


def _key(key: str | int, machine: PickleMachine) -> str | int:
    """The key, if it can be a part of a tensor's name: short, and valid Unicode."""
    text = str(key) if isinstance(key, str) or abs(key) < 2**63 else ""
    if not 0 < len(text) <= MAX_NAME or any("\ud800" <= letter <= "\udfff" for letter in text):
        raise machine.bad(K010, f"has a tensor with the name {text[:60]!a}, which is no name")
    return key


def _header(tensors: Mapping[str, PickledTensor], size: int, machine: PickleMachine) -> Header:
    """As `convert` will write it: the widest dtypes first, so that every tensor is aligned."""
    infos: dict[str, TensorInfo] = {}
    end = 0
    for name in sorted(tensors, key=lambda name: -BITS[tensors[name].dtype]):
        tensor = tensors[name]
        start, end = end, end + math.prod(tensor.shape) * BITS[tensor.dtype] // 8
        infos[name] = TensorInfo(tensor.dtype, tensor.shape, (start, end))
    if end > 4 * size + 2**20:
        raise machine.bad(K011, f"has {size:,} bytes and tensors that would take {end:,} when written out")
    return Header(MappingProxyType(infos), MappingProxyType({}))
