"""New entries in the text of `sosie.toml`, which stays its owner's: comments, order and all other lines are kept."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from sosie.core.errors import ConfigError
from sosie.core.schema import from_table
from sosie.files.toml import parse_toml, quoted
from sosie.workspace.workspace import Config

BARE = re.compile(r"[A-Za-z0-9_-]+")
"""Keys that TOML takes without quotes."""

_STRINGS = r'"""(?:[^\\]|\\.)*?"""' r"|'''.*?'''" r'|"(?:[^"\\\n]|\\.)*"' r"|'[^'\n]*'|#[^\n]*"
"""Texts and comments, in which brackets and `=` mean nothing."""


def with_models(toml: str, folders: Sequence[str], models: Mapping[str, str], where: Path) -> str:
    """The text with more `model_folders` and entries of `[models]`; the same text if there is nothing to add.

    Raises `ConfigError`, with the lines to write by hand, where the file says them in a way that cannot be added to.
    """
    before = from_table(Config, parse_toml(toml, str(where)), str(where))
    new = [folder for folder in folders if folder not in before.model_folders]
    added = {name: path for name, path in models.items() if before.models.get(name) != path}
    if not new and not added:
        return toml
    changed = _with_entries(_with_folders(toml, new), added)
    try:
        after = from_table(Config, parse_toml(changed, str(where)), str(where))
    except Exception as error:
        raise _by_hand(where, new, added) from error
    wanted = (before.model_folders + tuple(new), before.models | added, before.judges, before.provenance)
    if (after.model_folders, after.models, after.judges, after.provenance) != wanted:
        raise _by_hand(where, new, added)
    return changed


def _by_hand(where: Path, folders: Sequence[str], models: Mapping[str, str]) -> ConfigError:
    lines = [f"model_folders: {', '.join(map(quoted, folders))}"] if folders else []
    lines += [f"[models] {_entry(name, path)}" for name, path in models.items()]
    return ConfigError(f"{where} says its models in a way that Sosie cannot add to", f"add: {'; '.join(lines)}")


def _with_folders(toml: str, folders: Sequence[str]) -> str:
    if not folders:
        return toml
    top, tables = _parted(toml)
    plain = _plain(top)
    found = re.search(r"(?m)^[ \t]*model_folders[ \t]*=[ \t]*\[", plain)
    if found is None:
        comments = re.match(r"(?:[ \t]*(?:#[^\n]*)?\n)*", top)
        start = comments.end() if comments else 0
        line = f"model_folders = [{', '.join(map(quoted, folders))}]\n"
        return top[:start] + line + (top[start:] or ("\n" if tables else "")) + tables
    end = plain.find("]", found.end())
    inside = plain[found.end() : end].rstrip()
    at = found.end() + len(inside)
    comma = ", " if inside.strip() and not inside.endswith(",") else " " if inside.strip() else ""
    return top[:at] + comma + ", ".join(map(quoted, folders)) + top[at:] + tables


def _with_entries(toml: str, models: Mapping[str, str]) -> str:
    if not models:
        return toml
    for name in models:
        # An entry that is replaced goes; that of a text over several lines is left, and refused by the caller.
        key = "|".join({re.escape(name), re.escape(quoted(name)), re.escape(f"'{name}'")})
        toml = re.sub(rf"(?m)(^\[models\][^\n]*\n(?:(?!\[)[^\n]*\n)*?)[ \t]*(?:{key})[ \t]*=[^\n]*\n", r"\1", toml)
    lines = "".join(f"{_entry(name, path)}\n" for name, path in models.items())
    found = re.search(r"(?m)^[ \t]*\[[ \t]*models[ \t]*\][ \t]*\n?", _plain(toml))
    if found is None:
        return f"{toml.rstrip()}\n\n[models]\n{lines}".lstrip("\n")
    table, _ = _parted(toml[found.end() :])
    last = len(_plain(table).rstrip())  # comments after it are about what follows
    at = found.end() + (last + (table[last:] + "\n").index("\n") + 1 if last else 0)
    begun = toml[:at] if toml[:at].endswith("\n") else f"{toml[:at]}\n"
    return begun + lines + toml[at:]


def _parted(toml: str) -> tuple[str, str]:
    """What stands before the first table, and the rest."""
    found = re.search(r"(?m)^[ \t]*\[", _plain(toml))
    return (toml[: found.start()], toml[found.start() :]) if found else (toml, "")


def _plain(toml: str) -> str:
    """The text with the same length and lines, its strings of one letter alone and its comments blank."""

    def blank(found: re.Match[str]) -> str:
        return re.sub(r"[^\n]", " " if found.group().startswith("#") else "x", found.group())

    return re.sub(_STRINGS, blank, toml, flags=re.DOTALL)


def _entry(name: str, path: str) -> str:
    return f"{name if BARE.fullmatch(name) else quoted(name)} = {quoted(path)}"
