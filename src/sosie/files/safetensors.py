"""The header of a safetensors file, read without trusting a byte of it.

Format: 8 bytes little-endian length N, N bytes of JSON, then the tensors' bytes without gaps
(https://github.com/huggingface/safetensors, "Format"). So `8 + N + last offset` is the file's
size, which shows a download that stopped early without reading it.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

from sosie.core.errors import BadModelError, NotFoundError, nearest
from sosie.files.foreign import list_or_none, object_or_none
from sosie.files.json_bounds import parse
from sosie.files.regular import open_regular

MAX_TENSORS = 20_000
"""The largest models have some 3,000; parsing more would take memory and seconds."""

MAX_HEADER = 10_000_000
"""Longest header in bytes that is read; the largest known models have less than 1 MB."""

MEMORY = 48 * 2**20
"""Bytes that a header may take, read and parsed; the largest known one takes 2 MiB."""

MAX_AXES = 32

BITS = {
    **dict.fromkeys(("F4",), 4),
    **dict.fromkeys(("F6_E2M3", "F6_E3M2"), 6),
    **dict.fromkeys(("BOOL", "U8", "I8", "F8_E4M3", "F8_E5M2", "F8_E8M0", "F8_E4M3FNUZ", "F8_E5M2FNUZ"), 8),
    **dict.fromkeys(("U16", "I16", "F16", "BF16"), 16),
    **dict.fromkeys(("U32", "I32", "F32"), 32),
    **dict.fromkeys(("U64", "I64", "F64", "C64"), 64),
}
"""Bits of one element, by the format's name of the dtype."""

_AGAIN = "download the file again and compare its SHA-256 with the publisher's"


@dataclass(frozen=True)
class TensorInfo:
    """A tensor's dtype (a key of `BITS`), shape, and where its bytes start and end after the header."""

    dtype: str
    shape: tuple[int, ...]
    offsets: tuple[int, int]


@dataclass(frozen=True)
class Header:
    """What a file says of itself: its tensors by name, and its free text metadata."""

    tensors: Mapping[str, TensorInfo]
    metadata: Mapping[str, str]


def read_header(path: Path) -> Header:
    """Reads and checks the header of the safetensors file `path`; no tensor is read.

    Raises `NotFoundError` if there is no file, and `BadModelError` for one that is not whole and
    valid; that is the only other error, whatever the file holds.
    """
    try:
        with open_regular(path) as stream:
            size = os.fstat(stream.fileno()).st_size
            start = stream.read(8)
            length = int.from_bytes(start, "little")
            if len(start) < 8 or length < 2 or length > min(MAX_HEADER, size - 8):
                raise _not_safetensors(path, start + stream.read(1024), size)
            text = stream.read(length)
    except FileNotFoundError:
        raise NotFoundError(f"{path} does not exist") from None
    except OSError as error:
        raise BadModelError(f"{path} cannot be read: {error.strerror or error}") from None
    header = parse_header(text, str(path))
    _check_layout(header, str(path), size - 8 - length)
    return header


def parse_header(text: bytes, where: str) -> Header:
    """The header from its JSON bytes; `where` is named in errors. Offsets are checked one by one, not as a whole."""
    if text.count(b'"data_offsets"') > MAX_TENSORS:
        raise BadModelError(f"{where}: its header names more than {MAX_TENSORS:,} tensors; no known model has so many")
    try:
        table = parse(text, MEMORY, strict=True, object_pairs_hook=_unique)
    except ValueError as error:
        raise BadModelError(f"{where}: the header is not valid JSON: {str(error)[:200]}", _AGAIN) from None
    entries = object_or_none(table)
    if entries is None or not text.startswith(b"{"):
        raise BadModelError(f"{where}: the header is not a JSON object", _AGAIN)
    metadata = _texts(entries.pop("__metadata__", None))
    if metadata is None:
        raise BadModelError(f"{where}: __metadata__ in the header is not a table of texts", _AGAIN)
    tensors = {name: _tensor(name, entry, where) for name, entry in entries.items()}
    return Header(MappingProxyType(tensors), MappingProxyType(metadata))


def _texts(value: Any) -> dict[str, str] | None:
    """The value as a table of texts (null is an empty one), or None if it is something else."""
    table = object_or_none({} if value is None else value)
    return table if table is not None and all(isinstance(text, str) for text in table.values()) else None


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    table: dict[str, Any] = {}
    for name, value in pairs:
        if name in table:
            raise ValueError(f"key {name!r} is there twice")
        table[name] = value
    return table


def _tensor(name: str, entry: Any, where: str) -> TensorInfo:
    """One entry of the header, every field checked for type, range and agreement."""

    def bad(why: str) -> BadModelError:
        return BadModelError(f"{where}: tensor {name[:200]!r} {why}", _AGAIN)

    fields = object_or_none(entry)
    if fields is None:
        raise bad("is not described by a JSON object")
    if not fields.keys() >= _FIELDS:
        raise bad(f"has no {min(_FIELDS - fields.keys())}")
    dtype, shape, offsets = fields["dtype"], _naturals(fields["shape"]), _naturals(fields["data_offsets"])
    if not isinstance(dtype, str) or dtype not in BITS:
        raise bad(f"has the unknown dtype {str(dtype)[:40]!r}{nearest(str(dtype)[:40], BITS)}")
    if shape is None or len(shape) > MAX_AXES:
        raise bad(f"has a shape that is not a list of at most {MAX_AXES} sizes")
    if offsets is None or len(offsets) != 2 or offsets[0] > offsets[1]:
        raise bad("has data_offsets that are not [start, end]")
    bits, found = math.prod(shape) * BITS[dtype], offsets[1] - offsets[0]
    if bits != 8 * found:
        needed = f"{-(-bits // 8):,}" if bits < 2**66 else "more than any file holds"
        raise bad(f"has {found:,} bytes; {dtype} {list(shape)} takes {needed}")
    return TensorInfo(dtype, shape, (offsets[0], offsets[1]))


_FIELDS = frozenset({"data_offsets", "dtype", "shape"})


def _naturals(value: Any) -> tuple[int, ...] | None:
    """The value as whole numbers from 0 to 2^63 - 1, or None if it is not a list of such."""
    numbers = list_or_none(value)
    if numbers is None:
        return None
    for number in numbers:  # a loop: this is most of the time that a header takes
        if type(number) is not int or not 0 <= number < 2**63:
            return None
    return tuple(numbers)


def _check_layout(header: Header, where: str, available: int) -> None:
    """The tensors follow one another without gap or overlap and fill the `available` bytes."""
    end, before = 0, ""
    for name, info in sorted(header.tensors.items(), key=lambda item: item[1].offsets):
        if info.offsets[0] != end:
            what = "overlaps" if info.offsets[0] < end else "leaves a gap after"
            place = f"tensor {before[:200]!r}" if before else "the header"
            raise BadModelError(f"{where}: tensor {name[:200]!r} {what} {place}", _AGAIN)
        end, before = info.offsets[1], name
    if available < end:
        raise BadModelError(
            f"{where} is truncated: {available:,} of {end:,} bytes of tensors are there ({available / end:.0%})", _AGAIN
        )
    if available > end:
        raise BadModelError(f"{where} has {available - end:,} bytes after its last tensor", _AGAIN)


def _not_safetensors(path: Path, start: bytes, size: int) -> BadModelError:
    """What a file is that does not begin as safetensors, told from its first kilobyte."""
    text = start.decode("utf-8", errors="replace").lstrip("\ufeff \t\r\n").lower()
    if text.startswith(("<!doctype", "<html", "<head", "<?xml")):
        return BadModelError(
            f"{path} is a web page, not a model: the download saved a log-in, licence or error page",
            "open the link in a browser, then download the file itself with a token",
        )
    if text.startswith("version https://git-lfs"):
        found = re.search(r"^size (\d{1,15})$", text, re.MULTILINE)
        real = f" (of {int(found[1]):,} bytes)" if found else ""
        return BadModelError(f"{path} is a Git LFS pointer, not the file{real} that it points to", "git lfs pull")
    for magic, name in _OTHER_FORMATS.items():
        if start.startswith(magic):
            return BadModelError(f"{path} is {name}, not safetensors", "get the model as a .safetensors file")
    if not start.strip(b"\0"):
        return BadModelError(f"{path} begins with zeros: {size:,} bytes that were never written", _AGAIN)
    length = int.from_bytes(start[:8], "little")
    if len(start) >= 8 and size - 8 < length <= MAX_HEADER:
        return BadModelError(f"{path} is truncated: {size:,} bytes, and its header alone has {length:,}", _AGAIN)
    return BadModelError(f"{path} is not a safetensors file: its first bytes are no header length", _AGAIN)


_OTHER_FORMATS = {
    b"GGUF": "a GGUF file",
    b"PK\x03\x04": "a PyTorch checkpoint (.bin, .ckpt or .pt; a pickle can run code)",
    b"\x80": "a Python pickle (it can run code)",
    b"{": "a JSON file",
}


def read_tensor(path: Path, offsets: tuple[int, int], limit: int) -> bytes:
    """The first bytes, at most `limit`, of what stands at `offsets` after the header of a safetensors file."""
    try:
        with open_regular(path) as stream:
            start = 8 + int.from_bytes(stream.read(8), "little") + offsets[0]
            stream.seek(start)
            return stream.read(min(limit, offsets[1] - offsets[0]))
    except (OSError, OverflowError, ValueError) as error:
        raise BadModelError(f"{path} cannot be read: {error}") from None
