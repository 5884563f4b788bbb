"""Files with the caption of one picture: `NAME.txt`, `NAME.TXT`, `NAME.jpg.txt`, `NAME.caption`, `NAME.json`...

They lie beside the picture, or in a folder of captions beside or below that of the pictures.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from sosie.core.errors import SosieError
from sosie.dataset.given.words import MAX_CAPTION, Words, of_record, of_text, of_value
from sosie.files.encodings import decode
from sosie.files.foreign import object_or_none, parse_json
from sosie.files.picture_kinds import is_left_by_system, is_named_as_picture
from sosie.files.regular import read_bytes

SUFFIXES = (".txt", ".caption", ".captions", ".cap", ".text", ".prompt", ".tags", ".json")
"""How caption files end, in any case; the first wins."""

FOLDERS = ("captions", "caption", "texts", "text", "txt", "labels", "prompts", "tags")
"""How folders of captions are called."""


@dataclass(frozen=True)
class Sidecar:
    """The caption in a file: the words (None: it is JSON without any), and the encoding that it was read in."""

    words: Words | None
    encoding: str = "UTF-8"


def key(name: str) -> str:
    """What two spellings of a file name share: case and the form of its accents do not count."""
    return unicodedata.normalize("NFC", name).casefold()


def index(folder: Path) -> dict[str, list[Path]]:
    """The caption files in a folder by the `key` of what they are beside, the better ending first."""
    found: dict[str, list[Path]] = {}
    for path in _files(folder):
        if path.suffix.lower() in SUFFIXES and not is_left_by_system(path.name):
            found.setdefault(key(path.stem), []).append(path)
    for paths in found.values():
        paths.sort(key=lambda path: (SUFFIXES.index(path.suffix.lower()), path.name))
    return found


def places_of(folder: Path) -> tuple[Path, ...]:
    """The folders in which captions of the pictures in `folder` may lie, the nearest first."""
    sisters = [folder / name for name in FOLDERS] + [folder.parent / name for name in FOLDERS]
    return (folder, *(place for place in sisters if place != folder and place.is_dir()))


def beside(picture: Path, indexes: Iterable[Mapping[str, list[Path]]], stems: frozenset[str]) -> list[Path]:
    """The caption files of a picture; one that is called exactly as another picture (of `stems`) is that one's."""
    for each in indexes:
        found = [*each.get(key(picture.name), ()), *each.get(key(picture.stem), ())]
        exact = [path for path in found if path.stem in (picture.name, picture.stem)]
        others = [path for path in found if path.stem not in stems]
        if exact or others:
            return exact or others
    return []


def is_beside_none(path: Path, names: frozenset[str]) -> bool:
    """Whether a caption file belongs to none of the pictures whose stems and names, as `key`, these are."""
    return key(path.stem) not in names and not (
        is_named_as_picture(Path(path.stem)) and key(Path(path.stem).stem) in names
    )


def read_sidecar(path: Path) -> Sidecar:
    """The caption in a file. Raises `ValueError`, whose text says why it cannot be read."""
    try:
        content = read_bytes(path, MAX_CAPTION)
    except SosieError as error:
        raise ValueError(error.message.removeprefix(str(path)).strip()) from None
    decoded = decode(content)
    if path.suffix.lower() != ".json":
        return Sidecar(of_text(decoded.text), decoded.encoding)
    try:
        value = parse_json(decoded.text)
    except ValueError as error:
        raise ValueError(f"is not JSON ({str(error)[:100]})") from None
    record = object_or_none(value)
    words = of_record(record) if record is not None else of_value(value)
    if record is not None and words is None and len(record) == 1:  # as kohya's: {path: {caption}}
        inner = object_or_none(next(iter(record.values())))
        words = of_record(inner) if inner is not None else None
    return Sidecar(words, decoded.encoding)


def _files(folder: Path) -> list[Path]:
    try:
        return sorted(path for path in folder.iterdir() if path.is_file())
    except OSError:
        return []
