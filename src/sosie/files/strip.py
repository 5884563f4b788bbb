"""A model file without its weights: what the header says, as a small JSON file for tests and reports.

Format: one JSON object, gzip'd if the name ends with `.gz`: `{"sosie": "header 1", "bytes": SIZE,
"metadata": {...}, "tensors": [[NAME, DTYPE, SHAPE], ...]}` in the order of the tensors' bytes. Values
of the metadata are cut at 80 characters; nothing else of the file is in it.
"""

from __future__ import annotations

import gzip
import io
import json
import math
import zlib
from pathlib import Path
from typing import Any

from sosie.core.errors import BadModelError, NotFoundError
from sosie.files.foreign import as_list, list_or_none, object_or_none, parse_json
from sosie.files.regular import open_regular
from sosie.files.safetensors import BITS, MAX_HEADER, Header, parse_header, read_header
from sosie.files.whole import write_whole

FORMAT = "header 1"
METADATA_LENGTH = 80


def strip(path: Path, out: Path) -> Header:
    """Writes the header of the safetensors file `path` to `out` and returns it.

    Raises `NotFoundError` or `BadModelError` for a file that is not there or not whole, and
    `OSError` if `out` cannot be written. `out` is replaced; the same file gives the same bytes.
    """
    header = read_header(path)
    write_stripped(header, path.stat().st_size, out)
    return header


def write_stripped(header: Header, size: int, out: Path) -> None:
    """Writes a header, of a file of `size` bytes, to `out`."""
    tensors = sorted(header.tensors.items(), key=lambda item: item[1].offsets)
    table = {
        "sosie": FORMAT,
        "bytes": size,
        "metadata": {key: value[:METADATA_LENGTH] for key, value in sorted(header.metadata.items())},
        "tensors": [[name, info.dtype, list(info.shape)] for name, info in tensors],
    }
    text = json.dumps(table, ensure_ascii=True, separators=(",", ":")).encode()
    write_whole(out, gzip.compress(text, mtime=0) if out.name.endswith(".gz") else text)


def read_stripped(path: Path) -> tuple[Header, int]:
    """The header that `strip` wrote, and the size in bytes of the file that it came from.

    Offsets follow from shapes. Raises `NotFoundError` if there is no file and `BadModelError` for
    one of another format; at most `MAX_HEADER` bytes are unpacked.
    """
    try:
        raw = open_regular(path)
    except FileNotFoundError:
        raise NotFoundError(f"{path} does not exist") from None
    except OSError as error:
        raise BadModelError(f"{path} cannot be read: {error.strerror or error}") from None
    with raw:
        table = _table(_text(raw, path), path)
    size, tensors = table.get("bytes"), list_or_none(table.get("tensors"))
    if table.get("sosie") != FORMAT or tensors is None or not isinstance(size, int):
        raise BadModelError(f"{path} is not a stripped header", "sosie model strip FILE")
    entries: dict[str, Any] = {"__metadata__": table.get("metadata")}
    end = 0
    for row in tensors:
        name, dtype, shape = _row(row, path)
        if name in entries:
            raise BadModelError(f"{path}: tensor {name[:200]!r} is there twice")
        start, end = end, end + math.prod(shape) * BITS[dtype] // 8
        entries[name] = {"dtype": dtype, "shape": shape, "data_offsets": [start, end]}
    return parse_header(json.dumps(entries).encode(), str(path)), size


def _text(raw: io.BufferedReader, path: Path) -> bytes:
    try:
        stream = gzip.GzipFile(fileobj=raw) if raw.peek(2)[:2] == b"\x1f\x8b" else raw
        text = stream.read(MAX_HEADER + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise BadModelError(f"{path} cannot be read: {error}") from None
    if len(text) > MAX_HEADER:
        raise BadModelError(f"{path} is longer than {MAX_HEADER:,} bytes when unpacked")
    return text


def _table(text: bytes, path: Path) -> dict[str, Any]:
    try:
        table = object_or_none(parse_json(text))
    except ValueError as error:
        raise BadModelError(f"{path} is not valid JSON: {str(error)[:200]}") from None
    if table is None:
        raise BadModelError(f"{path} is not a JSON object")
    return table


def _row(row: Any, path: Path) -> tuple[str, str, list[int]]:
    """A tensor's name, dtype and shape; the rest of their checks is `parse_header`'s."""
    cells = as_list(row)
    shape = list_or_none(cells[2]) if len(cells) == 3 and isinstance(cells[0], str) else None
    if shape is not None and isinstance(cells[1], str) and cells[1] in BITS and len(shape) <= 32:
        sizes = [size for size in shape if type(size) is int and 0 <= size < 2**63]
        if len(sizes) == len(shape):
            return cells[0], cells[1], sizes
    raise BadModelError(f"{path}: {str(row)[:200]} is not [name, dtype, shape]")
