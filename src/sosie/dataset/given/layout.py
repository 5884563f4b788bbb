"""Where the pictures of a set lie: in the folder itself, in folders `N_name` as kohya's trainer has them, or below."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from sosie.core import Finding
from sosie.core.finding import Rule
from sosie.dataset.names import listed, printable
from sosie.files.picture_kinds import is_left_by_system, pictures_in

T006 = Rule("SOS-T006", "info", "Pictures lie in folders that are not read")

REPEATED = re.compile(r"(\d{1,4})_.*", re.DOTALL)
"""kohya's folders: how often each picture comes in an epoch, and a name."""

INNER = ("img", "image", "images", "train", "training", "pictures", "photos", "data")
"""Folders in which the pictures lie where the folder above them has none."""

MOST_REPEATS = 1000


@dataclass(frozen=True)
class Placed:
    """A picture of a folder: its file, its name from that folder (with `/`), and how often it comes in an epoch."""

    path: Path
    name: str
    repeats: int = 1


@dataclass(frozen=True)
class Layout:
    """The pictures of a folder in order, the folders that they lie in, and folders with pictures that are not read."""

    root: Path
    pictures: tuple[Placed, ...]
    folders: tuple[Path, ...]
    passed: tuple[str, ...] = ()

    @property
    def findings(self) -> tuple[Finding, ...]:
        """SOS-T006, if pictures were passed over."""
        if not self.passed or not self.pictures:
            return ()
        message = f"{len(self.passed)} folders in {printable(str(self.root))} have pictures too, which are not taken"
        hint = "give such a folder by itself; folders whose name is N_NAME are taken with the one above them"
        return (T006.at("folders", f"{message}: {listed(self.passed)}", hint),)


def layout_of(folder: Path) -> Layout:
    """The pictures directly in `folder` and in its folders `N_name`; if there are none, those in `img`, `train`...

    Hidden folders and those that systems leave are not looked at. Raises `OSError` if the folder cannot be read.
    """
    below = _folders(folder)
    repeated = [place for place in below if REPEATED.fullmatch(place.name)]
    taken = [folder, *repeated]
    pictures = [placed for place in taken for placed in _placed(place, folder)]
    if not pictures:
        for name in INNER:
            for place in below:
                if place.name.lower() == name and (inner := layout_of(place)).pictures:
                    return _within(folder, inner, _passed([one for one in below if one != place], folder))
    rest = [place for place in below if place not in repeated]
    folders = tuple(dict.fromkeys(placed.path.parent for placed in pictures)) or (folder,)
    return Layout(folder, tuple(pictures), folders, _passed(rest, folder))


def _folders(folder: Path) -> list[Path]:
    return sorted(place for place in folder.iterdir() if place.is_dir() and not is_left_by_system(place.name))


def _placed(place: Path, root: Path) -> list[Placed]:
    match = REPEATED.fullmatch(place.name) if place != root else None
    repeats = min(max(int(match[1]), 1), MOST_REPEATS) if match else 1
    return [Placed(path, path.relative_to(root).as_posix(), repeats) for path in pictures_in(place)]


def _within(root: Path, inner: Layout, passed: Sequence[str]) -> Layout:
    pictures = tuple(
        Placed(placed.path, placed.path.relative_to(root).as_posix(), placed.repeats) for placed in inner.pictures
    )
    above = inner.root.relative_to(root).as_posix()
    return Layout(root, pictures, inner.folders, (*passed, *(f"{above}/{name}" for name in inner.passed)))


def _passed(places: Sequence[Path], root: Path) -> tuple[str, ...]:
    """The folders, two levels deep, that have pictures of their own."""
    found: list[str] = []
    for place in places:
        try:
            inner = [place, *_folders(place)]
            found += [one.relative_to(root).as_posix() for one in inner if pictures_in(one)]
        except OSError:
            continue
    return tuple(found)
