"""A file of a recipe among those that a server lists: by its name, by a known alias, never by a guess."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from pathlib import PurePosixPath
from typing import Any

from sosie.core import Finding
from sosie.engines.comfy.program import FileUse

SHOWN = 6
"""How many candidates a message lists."""


def resolve(use: FileUse, options: Sequence[Any], subject: str) -> str | Finding:
    """The server's own name of a file, or why there is none.

    The recipe's own name wins, in whichever folder of the server it lies. Without it the known aliases
    count; two that are there, or one name in two folders, is an ambiguity, which only the user can end.
    """
    listed = [option for option in options if isinstance(option, str)]
    role = f"{use.role} " if use.role else ""
    for names in (use.names[:1], use.names[1:]):
        found = [option for name in names for option in _exact(name, listed)]
        found = found or [option for name in names for option in _alike(name, listed)]
        found = list(dict.fromkeys(found))
        if len(found) == 1:
            return found[0]
        if found:
            message = f"'{use.names[0]}' fits several {role}files of the server: {_list(found)}"
            return Finding("SOS-Y012", "error", subject, message, "write the one that is meant into the recipe")
    known = f"'{use.names[0]}'" + (f" (also known as {', '.join(use.names[1:4])})" if use.names[1:] else "")
    near = sorted(listed, key=lambda option: -_likeness(use.names[0], option))
    there = f"it has {_list(near)}" if near else "its list is empty"
    message = f"the server has no {role}file {known}; {there}"
    hint = "put the file into the server's model folder, and press R in ComfyUI; sosie model fetch gets it"
    return Finding("SOS-Y011", "error", subject, message, hint)


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
