"""A file of a recipe among those that a server lists: by its name, by a known alias, never by a guess."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import PurePosixPath
from typing import Any

from sosie.core import Finding
from sosie.core.finding import Rule
from sosie.engines.comfy.errors import Y011
from sosie.engines.comfy.program import FileUse

Y012 = Rule("SOS-Y012", "error", "A file's name fits several files of a server")

SHOWN = 6
"""How many candidates a message lists."""


def resolve(use: FileUse, options: Sequence[Any], subject: str) -> str | Finding:
    """The server's own name of a file, or why there is none.

    The recipe's own name wins, in whichever folder of the server it lies once; but one that has a folder of its
    own says little without it (`instantid/diffusion_pytorch_model`). Then come known aliases that are listed
    to the letter, and at last names that lie in another folder or are written otherwise. Two that are there, or
    one name in two folders, is an ambiguity, which only the user can end.
    """
    listed = list(dict.fromkeys(option for option in options if isinstance(option, str)))
    role = f"{use.role} " if use.role else ""
    for found in _matches(use.names, listed):
        if len(found) == 1:
            return found[0]
        if found:
            message = f"'{use.names[0]}' fits several {role}files of the server: {_list(found)}"
            return Y012.at(subject, message, "write the one that is meant into the recipe")
    known = f"'{use.names[0]}'" + (f" (also known as {', '.join(use.names[1:4])})" if use.names[1:] else "")
    near = sorted(listed, key=lambda option: -_likeness(use.names[0], option))
    there = f"it has {_list(near)}" if near else "its list is empty"
    message = f"the server has no {role}file {known}; {there}"
    hint = "put the file into the server's model folder, and press R in ComfyUI; sosie model fetch gets it"
    return Y011.at(subject, message, hint)


def places(use: FileUse, paths: Iterable[str]) -> list[str]:
    """The files on a machine that a server may mean: by a name with its folder, else by the file's name alone."""
    listed = [(path, path.replace("\\", "/").casefold()) for path in paths]
    wholes = tuple("/" + name.replace("\\", "/").casefold() for name in use.names if re.search(r"[/\\]", name))
    exact = [path for path, shape in listed if wholes and shape.endswith(wholes)]
    bases = {_base(name) for name in use.names}
    return exact or [path for path, _ in listed if _base(path) in bases]


def _matches(names: Sequence[str], listed: Sequence[str]) -> Iterator[list[str]]:
    """What fits, the surest first."""
    own, others = names[0], names[1:]
    alike = _alike(own, listed)
    yield _exact(own, listed)
    yield alike if len(alike) == 1 and not re.search(r"[/\\]", own) else []
    yield list(dict.fromkeys(option for name in others for option in _exact(name, listed)))
    yield alike
    yield list(dict.fromkeys(option for name in others for option in _alike(name, listed)))


def _exact(name: str, listed: Iterable[str]) -> list[str]:
    return [option for option in listed if option == name]


def _alike(name: str, listed: Iterable[str]) -> list[str]:
    """The same file name in any folder, large and small letters alike."""
    return [option for option in listed if _base(option) == _base(name)]


def _base(name: str) -> str:
    return PurePosixPath(name.replace("\\", "/")).name.casefold()


def _likeness(name: str, option: str) -> float:
    return difflib.SequenceMatcher(None, _base(name), _base(option)).ratio()


def _list(names: Sequence[str]) -> str:
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(name[:80] for name in names[:SHOWN]) + more
