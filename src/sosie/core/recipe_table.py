"""A recipe's TOML with everything in it: what `like` leaves out, and the entries of files that are shared.

A block that begins with `like = "detail"` is the recipe's stage of that kind, but for the keys that it gives. In
`[[stages]]` that is an earlier stage. Tables are merged key by key, `[[guides]]` and `[[loras]]` entry by entry in
their order; an entry of another `kind` or `file` is on its own. What is given in place of a list of entries counts.

`files` may be a list of names whose entries stand in the table of shared files.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from typing import Any, cast

from sosie.core.errors import ConfigError, nearest

Table = Mapping[str, Any]


def written_out(table: Table, shared: Table, where: str) -> dict[str, Any]:
    """The table without `like` and names of shared files; `where` names it in errors.

    Raises `ConfigError` for a stage or a file that is not known, and for a `like` that means several stages.
    """
    found = dict(table)
    stages: list[Any] = []
    for index, block in enumerate(_blocks(table.get("stages"))):
        stages.append(_like(block, stages, f"{where}: stages[{index}]"))
    repair = [_like(block, stages, f"{where}: repair[{i}]") for i, block in enumerate(_blocks(table.get("repair")))]
    if stages:
        found["stages"] = stages
    if repair:
        found["repair"] = repair
    if files := _blocks(table.get("files")):
        found["files"] = [_file(entry, shared, f"{where}: files[{i}]") for i, entry in enumerate(files)]
    return found


def with_files(text: str, shared: str) -> str:
    """The text of a recipe with the entries of the files that it names, out of the text of the shared table.

    As it is if it names none, or not names alone: such a recipe is read as well.
    """
    names = tomllib.loads(text).get("files", [])
    listed = re.search(r"^((?:#.*\n)*)files = \[[^\]]*\]\n\n?", text, re.MULTILINE)
    if listed is None or not all(isinstance(name, str) for name in names):
        return text
    entries = {tomllib.loads(entry)["name"]: f"[[files]]\n{entry.strip()}" for entry in shared.split("[[files]]\n")[1:]}
    rest = text[: listed.start()] + text[listed.end() :]
    return rest.rstrip() + "\n\n" + listed[1] + "\n\n".join(entries[name] for name in names) + "\n"


def _blocks(value: object) -> list[Any]:
    return cast("list[Any]", value) if isinstance(value, list) else []


def _table(value: object) -> dict[str, Any] | None:
    return cast("dict[str, Any]", value) if isinstance(value, dict) else None


def _like(block: Any, stages: list[Any], at: str) -> Any:
    own = _table(block)
    if own is None or "like" not in own:
        return block  # what is no table is refused with all other types
    kind = own["like"]
    known = [stage for entry in stages if (stage := _table(entry)) is not None]
    alike = [stage for stage in known if stage.get("kind") == kind]
    if not alike:
        names = [str(stage.get("kind")) for stage in known]
        raise ConfigError(f"{at}.like = {kind!r} is no stage before it{nearest(str(kind), names)}")
    if len(alike) > 1:
        raise ConfigError(f"{at}.like = {kind!r} means {len(alike)} stages; write this block out")
    return _merged(alike[0], {key: value for key, value in own.items() if key != "like"})


def _merged(base: Any, own: Any) -> Any:
    left, right = _table(base), _table(own)
    if left is not None and right is not None:
        return left | {key: _merged(left[key], value) if key in left else value for key, value in right.items()}
    before, entries = _blocks(base), _blocks(own)
    if not before or not entries:
        return own
    return [
        _merged(before[index], entry) if index < len(before) and _same(before[index], entry) else entry
        for index, entry in enumerate(entries)
    ]


def _same(base: Any, own: Any) -> bool:
    """Whether an entry of a list is the other, changed: it names no other kind or file."""
    left, right = _table(base), _table(own)
    if left is None or right is None:
        return False
    return all(right.get(key, left.get(key)) == left.get(key) for key in ("kind", "file"))


def _file(entry: Any, shared: Table, at: str) -> Any:
    if not isinstance(entry, str):
        return entry
    if entry not in shared:
        raise ConfigError(f"{at} = '{entry}' is not in the table of shared files{nearest(entry, shared)}")
    return shared[entry]
