"""Variants that share a header, told apart by the bytes of one small tensor.

The table is a JSON file that users extend: `{"FAMILY": {"SHA-256": "VARIANT"}}`. The digest is over the
tensor's dtype and bytes, so a copy in another dtype is another entry. At most `MAX_TENSOR` bytes of a
model are read.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from sosie.core.errors import BadModelError, ConfigError, NotFoundError
from sosie.files.foreign import object_or_none, read_json
from sosie.files.safetensors import Header, read_tensor
from sosie.files.whole import make_folder, write_json

MAX_TENSOR = 65_536
"""Bytes; the fingerprint of Z-Image, a norm of 3840 numbers, has 7,680 in bf16."""

MAX_TABLE = 4_000_000
"""Bytes of the longest table that is read."""

Table = dict[str, dict[str, str]]


def fingerprint(path: Path, header: Header, tensor: str) -> str:
    """The digest, 64 hex digits, of one tensor of the safetensors file `path`.

    Raises `BadModelError` if the tensor is not there, is larger than `MAX_TENSOR` or cannot be read.
    """
    info = header.tensors.get(tensor)
    if info is None:
        raise BadModelError(f"{path} has no tensor {tensor!r}")
    data = read_tensor(path, info.offsets, MAX_TENSOR)
    if len(data) != info.offsets[1] - info.offsets[0]:
        raise BadModelError(f"{path}: tensor {tensor!r} is larger than {MAX_TENSOR:,} bytes or not all there")
    return hashlib.sha256(info.dtype.encode() + b"\0" + data).hexdigest()


def read_known(table: Path) -> Table:
    """The table in the file `table`; a missing file is an empty one. Raises `ConfigError` for a damaged one."""
    try:
        found = object_or_none(read_json(table, MAX_TABLE, strict=True))
    except NotFoundError:
        return {}
    if found is None or not all(map(_is_texts, found.values())):
        raise ConfigError(f"{table} is not a table of families, each with digests and variants")
    return found


def remember(table: Path, family: str, digest: str, variant: str) -> None:
    """Adds one entry to the file `table`, which is made or replaced as a whole."""
    entries = read_known(table)
    entries.setdefault(family, {})[digest] = variant
    make_folder(table.parent)
    write_json(table, entries, sort_keys=True)


def _is_texts(value: Any) -> bool:
    texts = object_or_none(value)
    return texts is not None and all(isinstance(text, str) for text in texts.values())
