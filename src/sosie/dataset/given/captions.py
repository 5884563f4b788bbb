"""The captions that came with pictures, from every place where people and trainers put them."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PureWindowsPath

from sosie.core import Finding
from sosie.core.finding import Rule
from sosie.dataset.given import sidecars, tables
from sosie.dataset.given.sidecars import key
from sosie.dataset.given.tables import Table
from sosie.dataset.given.words import Words
from sosie.dataset.names import listed, printable
from sosie.files.encodings import WAY_OUT, WINDOWS
from sosie.files.picture_kinds import is_left_by_system, is_picture, kind_of
from sosie.files.regular import is_there

T005 = Rule("SOS-T005", "info", "Files are neither pictures nor captions")
T008 = Rule("SOS-T008", "info", "Captions were read in an old encoding")
T009 = Rule("SOS-T009", "info", "Pictures have several captions")
T012 = Rule("SOS-T012", "warning", "A caption names an image that is not there")
T013 = Rule("SOS-T013", "warning", "A caption file cannot be read")
T014 = Rule("SOS-T014", "warning", "An image has two different captions")

NOT_CAPTIONS = frozenset({"readme", "license", "licence", "notes", "requirements"})

LEVELS = 2
"""In so many folders above the pictures' a table of captions is looked for."""


@dataclass(frozen=True)
class Captions:
    """The caption of each image by its name, "" for an empty one; and, where it has several, the other ones.

    `findings` say what is wrong with the files that hold them; `other_fields` are the fields of records in a table
    that hold none. Images in `waiting` have a caption that could not be read. `repeats` are those that tables say.
    """

    texts: Mapping[str, str]
    findings: tuple[Finding, ...] = ()
    other_fields: tuple[str, ...] = ()
    others: Mapping[str, Words] = field(default_factory=dict[str, Words])
    waiting: frozenset[str] = frozenset()
    repeats: Mapping[str, int] = field(default_factory=dict[str, int])

    def of(self, image: str) -> Words:
        """All captions of an image; none if it has none, or an empty one."""
        first = self.texts.get(image, "")
        return (first, *self.others.get(image, ())) if first else ()


@dataclass
class _Found:
    """What was found so far: the words of an image, from where, and what there is to say."""

    images: Sequence[str]
    root: Path
    words: dict[str, Words] = field(default_factory=dict[str, Words])
    source: dict[str, str] = field(default_factory=dict[str, str])
    unread: dict[str, str] = field(default_factory=dict[str, str])
    waiting: set[str] = field(default_factory=set[str])
    differ: list[str] = field(default_factory=list[str])
    orphans: list[str] = field(default_factory=list[str])
    fields: dict[str, None] = field(default_factory=dict[str, None])
    windows: list[str] = field(default_factory=list[str])
    repeats: dict[str, int] = field(default_factory=dict[str, int])
    used: set[Path] = field(default_factory=set[Path])
    findings: list[Finding] = field(default_factory=list[Finding])

    def take(self, image: str, words: Words, source: str) -> None:
        """Keeps the first words that an image gets; others that differ are told."""
        if image in self.words:
            if self.words[image] != words and words:
                self.differ.append(f"{image} ({self.source[image]}, {source})")
            return
        self.words[image], self.source[image] = words, source

    def refuse(self, path: Path, why: str, hint: str = WAY_OUT) -> None:
        """A file of captions that cannot be read."""
        name = printable(self.name(path))
        self.findings.append(T013.at(name, f"{name}: {why[:200]}; expected captions in UTF-8 text", hint))

    def name(self, path: Path) -> str:
        """How a file is called in messages: from the folder that was given, or from above it."""
        return os.path.relpath(path, self.root).replace(os.sep, "/")


def read_captions(folder: Path, images: Sequence[str]) -> Captions:
    """The captions for the images of `folder`, whose names may have folders in them, joined by `/`.

    A file beside the image wins over a table, as trainers have it; captions of one file, or of one table, are
    alternatives. SOS-T005, T008, T009 and T012 to T014 for what does not fit together. Sidecars above 64 kB and tables
    above 16 MB are not read; names in a table are compared, never opened.
    """
    found = _Found(images, folder)
    places = list(dict.fromkeys((folder / image).parent for image in images)) or [folder]
    indexes = {place: [sidecars.index(one) for one in sidecars.places_of(place)] for place in places}
    _read_sidecars(found, indexes)
    unread_tables = _read_tables(found, places)
    found.waiting |= set(images) - set(found.words) if unread_tables else set()
    _orphans(found, places)
    return Captions(
        {image: words[0] if words else "" for image, words in found.words.items()},
        (*found.findings, *_told(found)),
        tuple(found.fields),
        {image: words[1:] for image, words in found.words.items() if len(words) > 1},
        frozenset(found.waiting - set(found.words)),
        found.repeats,
    )


def _read_sidecars(found: _Found, indexes: Mapping[Path, list[dict[str, list[Path]]]]) -> None:
    stems = {place: frozenset(Path(image).stem for image in found.images) for place in indexes}
    for image in found.images:
        picture = found.root / image
        for path in sidecars.beside(picture, indexes[picture.parent], stems[picture.parent]):
            try:
                read = sidecars.read_sidecar(path)
            except ValueError as error:
                if path not in found.used:
                    found.refuse(path, str(error))
                found.used.add(path)
                found.waiting.add(image)
                continue
            if read.words is None:
                continue  # JSON that is about something else
            found.used.add(path)
            found.waiting.discard(image)
            if read.encoding == WINDOWS:
                found.windows.append(found.name(path))
            found.take(image, read.words, path.name)


def _read_tables(found: _Found, places: Sequence[Path]) -> bool:
    """Reads the tables in and above the pictures' folders; whether one that is called as such could not be read."""
    unread = False
    for path in _tables(found, places):
        near = path.parent in (*places, found.root)
        if path.suffix.lower() in tables.NOT_READ:
            if tables.is_common(path):
                unread = unread or near
                kind = path.suffix[1:].lower()
                found.refuse(path, f"is a table of the kind {kind}, which is not read", "export it as CSV in UTF-8")
                found.used.add(path)
            continue
        try:
            table = tables.read_table(path)
        except ValueError as error:
            if tables.is_common(path) and path.suffix.lower() != ".txt":
                unread = unread or near
                found.refuse(path, str(error))
                found.used.add(path)
            continue
        _take_table(found, table, near)
    return unread


def _tables(found: _Found, places: Sequence[Path]) -> Iterator[Path]:
    """Tables in the pictures' folders and the given one, by rank; then those with a common name above."""
    inside = dict.fromkeys((*places, found.root))
    above = dict.fromkeys(parent for place in inside for parent in list(place.absolute().parents)[:LEVELS])
    for folder in (*inside, *(parent for parent in above if parent not in {one.absolute() for one in inside})):
        try:
            files = sorted(folder.iterdir(), key=tables.rank)
        except OSError:
            continue
        for path in files:
            if not tables.is_table(path) or path in found.used or is_left_by_system(path.name) or path.is_dir():
                continue
            if folder in inside or (tables.is_common(path) and path.suffix.lower() != ".txt"):
                yield path


def _take_table(found: _Found, table: Table, near: bool) -> None:
    """Gives the images what a table has of them; records of others are told if the table lies near."""
    match = _Matcher(found.images, found.root, table)
    words: dict[str, list[str]] = {}
    strange: list[str] = []
    fields: dict[str, None] = {}
    for record in table.records:
        image = match.image(record.file)
        if image is None:
            strange.append(record.file)
        elif record.words is None:
            fields.update(dict.fromkeys(printable(name) for name in record.fields[:20]))
        else:
            words.setdefault(image, []).extend(record.words)
            if record.repeats > 1:
                found.repeats[image] = record.repeats
    is_one = bool(words or fields) or (tables.is_common(table.path) and table.path.suffix != ".txt")
    if not is_one or not (near or words):
        return
    name = found.name(table.path)
    found.used.add(table.path)
    found.fields |= fields
    for image, texts in words.items():
        found.take(image, tuple(dict.fromkeys(texts)), table.path.name)
    if words and table.encoding == WINDOWS:
        found.windows.append(name)
    if near:
        found.orphans += [f"{name}: {printable(file) if file else 'a record without a file'}" for file in strange]
    if table.wrong:
        message = f"{name}: {len(table.wrong)} lines are not a JSON object, the first is line {table.wrong[0]}"
        found.findings.append(T013.at(name, message, "one object a line, with file and caption"))


class _Matcher:
    """Which image a record is about. The path that it says counts, from where the table lies.

    Where no record of a table can be found by its path (it is one of another machine, or without ending), the name
    alone counts, if one image has it.
    """

    def __init__(self, images: Sequence[str], root: Path, table: Table) -> None:
        self._folder = table.path.parent.absolute()
        self._exact: dict[str, str] = {}
        self._names: dict[str, list[str]] = {}
        for image in images:
            path = os.path.normpath((root / image).absolute())
            self._exact.setdefault(key(path), image)
            self._exact.setdefault(key(str(Path(path).with_suffix(""))), image)
            for name in {key(Path(image).name), key(Path(image).stem)}:
                self._names.setdefault(name, []).append(image)
        self._loose = not any(self._at(record.file) for record in table.records)

    def image(self, file: str) -> str | None:
        """The image that a record names, or None."""
        exact = self._at(file)
        if exact or not self._loose or not file:
            return exact
        parts = PureWindowsPath(file.strip()).parts  # of `/` and `\\` alike
        name = key(parts[-1]) if parts else ""
        found = self._names.get(name) or self._names.get(key(Path(name).stem)) or []
        if len(found) > 1 and len(parts) > 1:
            found = [image for image in found if Path(image).parent.name == parts[-2]]
        return found[0] if len(found) == 1 and not self._is_elsewhere(file) else None

    def _at(self, file: str) -> str | None:
        if not file.strip() or "\0" in file:
            return None
        path = os.path.normpath(self._folder / file.strip().replace("\\", "/"))
        return self._exact.get(key(path)) or self._exact.get(key(str(Path(path).with_suffix(""))))

    def _is_elsewhere(self, file: str) -> bool:
        """Whether the file that a record names is there, and so another one."""
        return is_there(self._folder / file.strip().replace("\\", "/"))


def _orphans(found: _Found, places: Iterable[Path]) -> None:
    """Caption files beside no image, and files that are nothing of either."""
    names = frozenset(name for image in found.images for name in (key(Path(image).stem), key(Path(image).name)))
    others: list[str] = []
    for place in dict.fromkeys((*places, found.root)):
        for path in sorted(place.iterdir()):
            if path in found.used or path.is_dir() or is_left_by_system(path.name) or is_picture(path):
                continue
            if path.stem.lower() in NOT_CAPTIONS:
                continue
            is_caption = path.suffix.lower() in sidecars.SUFFIXES and path.suffix.lower() != ".json"
            if is_caption and sidecars.is_beside_none(path, names):
                found.orphans.append(found.name(path))
            elif not is_caption:
                others.append(f"{found.name(path)} ({_what(path)})")
    if others:
        message = f"neither pictures nor captions that are read ({len(others)}): {listed(others, 8)}"
        found.findings.append(T005.at("files", message))


def _what(path: Path) -> str:
    try:
        what = kind_of(path).what
    except OSError as error:
        return str(error.strerror or error)
    if path.suffix.lower() in (*tables.READ, *tables.NOT_READ) and what == "text":
        return "a table that names none of the pictures" if path.suffix.lower() != ".json" else "JSON without captions"
    return what


def _told(found: _Found) -> Iterator[Finding]:
    if found.orphans:
        message = f"{len(found.orphans)} captions belong to images that are not there: {listed(sorted(found.orphans))}"
        yield T012.at("captions", message, "rename them to fit, or remove them")
    if found.differ:
        message = f"{len(found.differ)} images have two captions that differ: {listed(found.differ)}"
        yield T014.at(
            "captions", message, "keep one of the two; the first counts, and a file beside the image first of all"
        )
    if found.windows:
        message = (
            f"{len(found.windows)} caption files are not UTF-8 and were read as {WINDOWS}: {listed(found.windows)}"
        )
        yield T008.at("captions", message, f"see whether their accents are right; to be sure, {WAY_OUT}")
    several = [image for image, words in found.words.items() if len(words) > 1]
    if several:
        message = (
            f"{len(several)} of {len(found.images)} images have several captions, which are alternatives: a training "
            f"step takes one: {listed(several)}"
        )
        yield T009.at("captions", message, "each line of a caption file is one; join lines that are one caption")
