"""Sosie's own archive of a character: one file that another workspace takes in as it was.

A zip archive whose members are stored and not packed (pictures and weights do not shrink), and bear no dates: the same
character gives the same bytes. `manifest.json` is the first: the format, the declaration of likeness and adulthood,
each file with size and SHA-256, each LoRA by the digest of its weights. Then `character.toml`, `references/`,
`calibration/` and, if asked for, `loras/`. Training sets and images stay at home.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import zipfile
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from sosie import __version__
from sosie.core import Character, CharacterLora
from sosie.core.errors import BadFileError, ConfigError
from sosie.core.printable import printable
from sosie.core.schema import from_table
from sosie.files.digest import asset_digest, file_digest
from sosie.files.foreign import as_object, as_objects, parse_object
from sosie.files.picture_kinds import kind_of, pictures_in
from sosie.files.toml import parse_toml
from sosie.files.whole import make_folder, whole_folder, whole_stream, write_whole
from sosie.workspace.archive.members import PIECE, Members, is_plain_name
from sosie.workspace.characters import CharacterFile, character_toml, require_adult

FORMAT = "sosie-character"
VERSION = 1
MANIFEST = "manifest.json"
TOML = "character.toml"
FOLDERS = ("references", "calibration", "loras")
WEIGHTS = ".safetensors"
"""The only weights that travel: what else could be a program."""

MAX_TEXT = 2**20
"""Longest manifest and `character.toml`, in bytes."""

_EPOCH = (1980, 1, 1, 0, 0, 0)
"""The first date that a zip archive can hold."""


@dataclass(frozen=True)
class Carried:
    """A file in an archive: its path in the character's folder, its size in bytes and its SHA-256."""

    path: str
    bytes: int
    sha256: str


@dataclass(frozen=True)
class Portable:
    """What an archive holds: `character.toml`, the files, and the digest of each LoRA's weights by its path."""

    details: CharacterFile
    files: tuple[Carried, ...]
    loras: tuple[tuple[str, str], ...]


def write_archive(folder: Path, character: Character, path: Path, with_loras: bool) -> tuple[Carried, ...]:
    """Writes the archive of the character in `folder` and returns what is in it.

    LoRAs are named by their digests, and with `with_loras` carried (safetensors files alone). Raises `OSError`.
    """
    sources = [*pictures_in(folder / "references"), *_plain_files(folder / "calibration")]
    if with_loras:
        sources += [folder / lora.file for lora in character.loras if lora.file.endswith(WEIGHTS)]
    carried = tuple(_carried(folder, source) for source in sources)
    toml = (folder / TOML).read_bytes()
    manifest: dict[str, Any] = {
        "format": FORMAT,
        "version": VERSION,
        "sosie": __version__,
        "character": character.name,
        "declaration": {"likeness": character.likeness, "adult": character.adult},
        "files": [dataclasses.asdict(one) for one in (_of_bytes(TOML, toml), *carried)],
        "loras": [_lora_row(lora) for lora in character.loras],
    }
    with whole_stream(path) as stream, zipfile.ZipFile(stream, "w", zipfile.ZIP_STORED) as archive:
        archive.writestr(_info(MANIFEST), json.dumps(manifest, indent=1, ensure_ascii=False))
        archive.writestr(_info(TOML), toml)
        for one in carried:
            with (folder / one.path).open("rb") as source, archive.open(_info(one.path, one.bytes), "w") as target:
                _copy(_pieces(source), target.write, one, folder)
    return carried


def read_archive(members: Members) -> Portable:
    """What an archive holds, checked but for the files' digests. Raises `BadFileError`, `ConfigError`, `UsageError`."""
    where = members.path
    manifest = parse_object(members.read(MANIFEST, MAX_TEXT)) or {}
    if manifest.get("format") != FORMAT:
        raise BadFileError(f"{where} is no archive of a character", "sosie character export NAME")
    if manifest.get("version") != VERSION:
        found = printable(str(manifest.get("version"))[:20])
        raise BadFileError(f"{where} has version {found} of the format; this Sosie reads {VERSION}", "update Sosie")
    files = tuple(_file(row, members) for row in as_objects(manifest.get("files")))
    if TOML not in [one.path for one in files] or not any(one.path.startswith("references/") for one in files):
        raise BadFileError(f"{where} lacks a character's description or its references")
    if unknown := sorted(set(members.sizes) - {one.path for one in files} - {MANIFEST}):
        raise BadFileError(f"{where} holds what its manifest does not name: {printable(unknown[0])}")
    toml = members.read(TOML, MAX_TEXT)
    try:
        details = from_table(CharacterFile, parse_toml(toml.decode(), f"{where}: {TOML}"), f"{where}: {TOML}")
    except UnicodeDecodeError:
        raise ConfigError(f"{where}: {TOML} is not UTF-8") from None
    require_adult(details.adult, details.name)
    declared = as_object(manifest.get("declaration"))
    if (declared.get("likeness"), declared.get("adult")) != (details.likeness, details.adult):
        raise BadFileError(f"{where} declares another likeness or age than its {TOML}")
    digests = tuple((str(row.get("file")), str(row.get("sha256"))) for row in as_objects(manifest.get("loras")))
    return Portable(details, files, digests)


def unpack(members: Members, held: Portable, name: str, target: Path, weights: dict[str, Path]) -> None:
    """Makes the folder `target` of character `name`, whole or not at all.

    `weights` are files that stand for LoRAs which the archive only names; a LoRA that is in neither is left out.
    Raises `BadFileError` for a file with another digest or what is no picture, `OSError`.
    """
    make_folder(target.parent)
    with whole_folder(target) as part:
        for one in held.files:
            if one.path != TOML:
                make_folder((part / one.path).parent)
                with (part / one.path).open("xb") as stream:
                    _copy(members.pieces(one.path), stream.write, one, members.path)
        for file, source in weights.items():
            make_folder((part / file).parent)
            with source.open("rb") as given, (part / file).open("xb") as stream:
                for piece in _pieces(given):
                    stream.write(piece)
        for one in held.files:
            if one.path.startswith("references/") and not kind_of(part / one.path).is_picture:
                raise BadFileError(f"{members.path}: {printable(one.path)} is no picture")
        digests = dict(held.loras)
        loras = tuple(e for e in held.details.loras if _is_weights(e.file) and (part / e.file).exists())
        for entry in loras:
            if asset_digest(part / entry.file) != digests.get(entry.file):
                raise BadFileError(f"{members.path}: {printable(entry.file)} has other weights than it declares")
        details = dataclasses.replace(held.details, name=name, loras=loras)
        write_whole(part / TOML, character_toml(details))


def missing_loras(held: Portable) -> tuple[tuple[str, str], ...]:
    """The LoRAs that an archive names and does not carry: path and digest of each."""
    there = {one.path for one in held.files}
    named = {entry.file for entry in held.details.loras}
    return tuple((file, digest) for file, digest in held.loras if file in named - there and _is_weights(file))


def with_digest(candidates: Iterable[Path], digests: Sequence[tuple[str, str]]) -> dict[str, Path]:
    """A file for each LoRA (path and digest) whose weights are among the candidates; those of its name come first."""
    wanted, found = {digest: file for file, digest in digests}, dict[str, Path]()
    names = {Path(file).name for file in wanted.values()}
    for path in sorted(candidates, key=lambda one: one.name not in names):
        if not wanted:
            break
        if path.suffix == WEIGHTS and (digest := asset_digest(path)) in wanted:
            found[wanted.pop(digest)] = path
    return found


def _file(row: dict[str, Any], members: Members) -> Carried:
    """A row of the manifest, whose file is there, has that size, and a place that a character has."""
    path, size, sha256 = str(row.get("path")), row.get("bytes"), str(row.get("sha256"))
    folder, _, inside = path.partition("/")
    placed = path == TOML or (folder in FOLDERS and inside and "/" not in inside)
    if not placed or (folder == "loras" and not _is_weights(path)):
        raise BadFileError(f"{members.path} names a file that no character has: {printable(path[:200])}")
    if members.sizes.get(path) != size or not isinstance(size, int):
        raise BadFileError(f"{members.path}: {printable(path)} is not there in the size that the manifest says")
    return Carried(path, size, sha256)


def _is_weights(path: str) -> bool:
    return path.startswith("loras/") and path.count("/") == 1 and path.endswith(WEIGHTS) and is_plain_name(path)


def _plain_files(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    return sorted(p for p in folder.iterdir() if p.is_file() and not p.is_symlink() and not p.name.startswith("."))


def _carried(folder: Path, source: Path) -> Carried:
    return Carried(source.relative_to(folder).as_posix(), source.stat().st_size, file_digest(source))


def _of_bytes(path: str, content: bytes) -> Carried:
    return Carried(path, len(content), hashlib.sha256(content).hexdigest())


def _lora_row(lora: CharacterLora) -> dict[str, Any]:
    return {"file": lora.file, "family": lora.family, "sha256": lora.sha256}


def _info(name: str, size: int = 0) -> zipfile.ZipInfo:
    """A member without a date or a mode of this machine."""
    info = zipfile.ZipInfo(name, _EPOCH)
    info.external_attr = 0o644 << 16
    info.file_size = size
    return info


def _copy(pieces: Iterable[bytes], write: Callable[[bytes], Any], one: Carried, where: Path) -> None:
    digest = hashlib.sha256()
    for piece in pieces:
        digest.update(piece)
        write(piece)
    if digest.hexdigest() != one.sha256:
        raise BadFileError(f"{where}: {printable(one.path)} has another SHA-256 than was said: {one.sha256[:12]}")


def _pieces(stream: IO[bytes]) -> Iterable[bytes]:
    return iter(lambda: stream.read(PIECE), b"")
