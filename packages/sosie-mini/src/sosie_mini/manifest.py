"""The manifest: size and SHA-256 of every packed file, and of every file that it expands to.

`manifest.json` beside this module is written by `tools/make_manifest.py` and shipped in the
package, so what the cache must hold is known before anything is expanded.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class PackedFile:
    """A file in the package: its path below `weights/`, its size in bytes, its SHA-256 (hex)."""

    path: str
    size: int
    sha256: str


@dataclass(frozen=True)
class ExpandedFile:
    """A file of the stock folder: path, size in bytes, SHA-256 (hex), and the packed file it is made of."""

    path: str
    size: int
    sha256: str
    source: str


@dataclass(frozen=True)
class Manifest:
    """Everything that the package holds, and everything that the stock folder must hold."""

    packed: tuple[PackedFile, ...]
    expanded: tuple[ExpandedFile, ...]

    @property
    def weights_digest(self) -> str:
        """SHA-256 over the packed files (hex): the name of this version of the weights."""
        return _digest([asdict(file) for file in self.packed])

    @property
    def digest(self) -> str:
        """SHA-256 over the whole manifest (hex): what the marker of a complete folder holds."""
        return _digest(self.to_json())

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values; `from_json` gives an equal manifest."""
        return asdict(self)

    @staticmethod
    def from_json(table: Mapping[str, Any]) -> Manifest:
        """The manifest that `to_json` wrote."""
        return Manifest(
            packed=tuple(PackedFile(**file) for file in table["packed"]),
            expanded=tuple(ExpandedFile(**file) for file in table["expanded"]),
        )


def load_manifest(path: Path | None = None) -> Manifest:
    """The manifest at `path`; that of this package if none is named."""
    path = path or Path(__file__).with_name("manifest.json")
    return Manifest.from_json(json.loads(path.read_text(encoding="utf-8")))


def make_manifest(weights: Path, expand: Callable[[bytes, str], bytes], twice: Mapping[str, str]) -> Manifest:
    """The manifest of the files below `weights` (hidden ones left out) and of what they `expand` to.

    `twice` are folders that the stock layout has under a second name, too.
    """
    packed: list[PackedFile] = []
    expanded: list[ExpandedFile] = []
    for path in sorted(p for p in weights.rglob("*") if p.is_file() and not p.name.startswith(".")):
        name = path.relative_to(weights).as_posix()
        packed.append(PackedFile(name, path.stat().st_size, file_digest(path)))
        data = expand(path.read_bytes(), name)
        digest = hashlib.sha256(data).hexdigest()
        folder, _, rest = name.partition("/")
        copies = [name] + ([f"{twice[folder]}/{rest}"] if folder in twice else [])
        expanded += [ExpandedFile(copy, len(data), digest, name) for copy in copies]
    return Manifest(tuple(packed), tuple(sorted(expanded, key=lambda file: file.path)))


def file_digest(path: Path) -> str:
    """SHA-256 of a file's bytes (hex), read in pieces."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True, separators=(",", ":")).encode()).hexdigest()
