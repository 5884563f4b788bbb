"""OpenChar's `.char`: a zip archive with a manifest, the references and a description.

Read and written as its makers describe it in public: `manifest.json` comes first and begins with its signature; `refs`
and `text` name members; what is computed of them (crops, compiled references, centroids) is a cache that a reader makes
anew, so it is neither read nor written. The format declares no consent and no age.

Source: OpenCharAI/OpenChar, version 1 of the format.
"""

from __future__ import annotations

import hashlib
import io
import json
import uuid
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sosie import __version__
from sosie.core import Character
from sosie.core.errors import BadFileError
from sosie.core.printable import printable
from sosie.files.foreign import as_list, as_object, parse_object
from sosie.files.images import read_image
from sosie.files.picture_kinds import kind_of_head, pictures_in
from sosie.files.whole import whole_stream
from sosie.workspace.archive.members import Members

MAGIC = "INLINECHAR"
VERSION = 1
MANIFEST = "manifest.json"
TEXT = "text/description.md"
MAX_MANIFEST = 2**20
MAX_PICTURE = 64 * 2**20
"""Largest reference in bytes."""

MAX_DESCRIPTION = 64 * 2**10
MAX_REFERENCES = 100
_EPOCH = (1980, 1, 1, 0, 0, 0)


@dataclass(frozen=True)
class CharFile:
    """What a `.char` says of a character: its name, its description and the members that are its references."""

    name: str
    description: str
    references: tuple[str, ...]


def is_char(members: Members) -> bool:
    """Whether an archive begins as a `.char` does."""
    if MANIFEST not in members.sizes:
        return False
    return next(iter(members.pieces(MANIFEST)), b"").startswith(f'{{"magic":"{MAGIC}",'.encode())


def read_char(members: Members) -> CharFile:
    """What a `.char` holds. Raises `BadFileError` for another format, a newer version, or one without references."""
    where = members.path
    manifest = parse_object(members.read(MANIFEST, MAX_MANIFEST)) or {}
    if manifest.get("magic") != MAGIC:
        raise BadFileError(f"{where} is no .char file")
    version = manifest.get("format_version")
    if version != VERSION:
        raise BadFileError(f"{where} has version {printable(str(version)[:20])} of .char; this Sosie reads {VERSION}")
    named = [str(as_object(row).get("path")) for row in as_list(manifest.get("refs"))]
    if not named or len(named) > MAX_REFERENCES:
        raise BadFileError(f"{where} has {len(named)} references; expected 1 to {MAX_REFERENCES}")
    if lost := [name for name in named if name not in members.sizes]:
        raise BadFileError(f"{where} names references that are not in it: {printable(lost[0][:200])}")
    text = str(as_object(manifest.get("text")).get("path") or "")
    description = members.read(text, MAX_DESCRIPTION).decode(errors="replace") if text in members.sizes else ""
    return CharFile(str(manifest.get("name") or "")[:200], " ".join(description.split()), tuple(named))


def extract(members: Members, names: tuple[str, ...], folder: Path) -> list[Path]:
    """Writes references into a folder, numbered. Raises `BadFileError` for what is no picture."""
    paths: list[Path] = []
    for index, name in enumerate(names):
        content = members.read(name, MAX_PICTURE)
        kind = kind_of_head(content[:4096])
        if not kind.is_picture:
            raise BadFileError(f"{members.path}: {printable(name)} is no picture ({kind.what})")
        paths.append(folder / f"{index:03d}{Path(name).suffix or '.png'}")
        paths[-1].write_bytes(content)
    return paths


def write_char(folder: Path, character: Character, path: Path) -> int:
    """Writes the references and the description of a character as a `.char`; returns the number of references.

    The references are written as PNG, upright. Raises `OSError`.
    """
    texts = (character.description, *character.marks)
    text = ", ".join(part for part in texts if part).encode()
    references = list(_pngs(folder))
    digests = [hashlib.sha256(content).hexdigest() for _, content in references]
    changed = int((folder / "character.toml").stat().st_mtime)
    manifest: dict[str, Any] = {
        "magic": MAGIC,
        "format_version": VERSION,
        "char_id": str(uuid.uuid5(uuid.NAMESPACE_URL, f"sosie:{character.name}:{digests[0]}")),
        "name": character.name,
        "created_at": changed,
        "modified_at": changed,
        "app": "sosie",
        "app_version": __version__,
        "refs": [
            {"path": f"refs/{index:03d}.png", "sha256": digest, **_size(content), "source_name": name}
            for index, ((name, content), digest) in enumerate(zip(references, digests, strict=True))
        ],
        "derived": [],
        "text": {"path": TEXT, "sha256": hashlib.sha256(text).hexdigest()},
        "payloads": {},
        "scoring": {},
        "hints": [],
        "apply": {},
        "reserved": {"adapters": {}, "video_payloads": {}, "members": []},
    }
    with whole_stream(path) as stream, zipfile.ZipFile(stream, "w", zipfile.ZIP_STORED) as archive:
        archive.writestr(zipfile.ZipInfo(MANIFEST, _EPOCH), json.dumps(manifest, separators=(",", ":")))
        for index, (_, content) in enumerate(references):
            archive.writestr(zipfile.ZipInfo(f"refs/{index:03d}.png", _EPOCH), content)
        archive.writestr(zipfile.ZipInfo(TEXT, _EPOCH), text)
    return len(references)


def _pngs(folder: Path) -> Iterator[tuple[str, bytes]]:
    for path in pictures_in(folder / "references"):
        stream = io.BytesIO()
        read_image(path).convert("RGB").save(stream, "PNG")
        yield path.name, stream.getvalue()


def _size(content: bytes) -> dict[str, int]:
    """Width and height of a PNG that was just written: its header holds them at bytes 16 and 20."""
    return {"width": int.from_bytes(content[16:20]), "height": int.from_bytes(content[20:24])}
