"""Changes of a recipe's table, nested as the table is; entries of lists are named by kind, file or place."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from typing import Any, cast

from sosie.core.errors import ConfigError, nearest
from sosie.core.schema import shown

Table = Mapping[str, Any]

NAMED_BY = ("kind", "file", "name")
"""The keys of a list's entries by which one is named."""


def changed(table: Table, change: Table, where: str, at: str = "") -> dict[str, Any]:
    """The table with the changes in it; `where` names them in errors.

    A table in them changes a table key by key, and a list entry by entry; all else takes the place of what was there.
    Raises `ConfigError` for an entry that a list does not have. What the fields may hold is not looked at here.
    """
    found = dict(table)
    for key, value in change.items():
        found[key] = _value(found.get(key), value, where, f"{at}.{key}" if at else key)
    return found


def _value(old: Any, new: Any, where: str, at: str) -> Any:
    if not isinstance(new, dict):
        return new
    if isinstance(old, dict):
        return changed(cast("Table", old), cast("Table", new), where, at)
    if not isinstance(old, list):
        return cast("Any", new)
    entries = list(cast("list[Any]", old))
    for name, value in cast("Table", new).items():
        place = _place(entries, name, where, at)
        entries[place] = _value(entries[place], value, where, f"{at}.{name}")
    return entries


def _place(entries: list[Any], name: str, where: str, at: str) -> int:
    if name.isdecimal() and int(name) < len(entries):
        return int(name)
    named = [_names(entry) for entry in entries]
    places = [index for index, names in enumerate(named) if name in names]
    if not places:
        known = {one for names in named for one in names} or {str(index) for index in range(len(entries))}
        raise ConfigError(f"{where}: {at} has no entry '{name[:80]}'{nearest(name, known)}")
    if len(places) > 1:
        raise ConfigError(f"{where}: {at}.{name} means {len(places)} entries; name one by its place, from 0 on")
    return places[0]


def _names(entry: Any) -> set[str]:
    """What an entry may be named by; nothing for one that is no table."""
    if not isinstance(entry, dict):
        return set()
    table = cast("Table", entry)
    return {str(table[key]) for key in NAMED_BY if key in table}


def axes_of(table: Table, where: str) -> list[tuple[tuple[str, ...], list[Any]]]:
    """Each axis: the path of the field, and its values. Raises `ConfigError` for one that is no list, or is empty."""
    return list(_axes(table, (), where))


def _axes(table: Table, path: tuple[str, ...], where: str) -> Iterator[tuple[tuple[str, ...], list[Any]]]:
    for key, value in table.items():
        here = (*path, key)
        if isinstance(value, dict):
            yield from _axes(cast("Table", value), here, where)
        elif isinstance(value, list) and value:
            yield here, cast("list[Any]", value)
        else:
            value = cast("Any", value)
            raise ConfigError(f"{where}: axes.{'.'.join(here)} = {shown(value)} is not a list of values")


def combinations(axes: list[tuple[tuple[str, ...], list[Any]]]) -> Iterator[tuple[dict[str, str], dict[str, Any]]]:
    """Each combination of the axes' values: in words by axis (`{"cfg": "3", "steps": "20"}`), and as changes."""
    short = _short([path for path, _ in axes])
    for values in itertools.product(*(values for _, values in axes)):
        change: dict[str, Any] = {}
        for (path, _), value in zip(axes, values, strict=True):
            _put(change, path, value)
        yield {name: _text(value) for name, value in zip(short, values, strict=True)}, change


def told(change: Table, path: tuple[str, ...] = ()) -> Iterator[str]:
    """Each change in a few words: `stages.generate.sampler.cfg = 1.5`."""
    for key, value in change.items():
        if isinstance(value, dict):
            yield from told(cast("Table", value), (*path, key))
        else:
            yield f"{'.'.join((*path, key))} = {_text(value)}"


def _put(table: dict[str, Any], path: tuple[str, ...], value: Any) -> None:
    for key in path[:-1]:
        table = table.setdefault(key, {})
    table[path[-1]] = value


def _short(paths: list[tuple[str, ...]]) -> list[str]:
    """The last words of each path, as many as tell them apart."""
    for words in range(1, max(map(len, paths), default=0) + 1):
        names = [".".join(path[-words:]) for path in paths]
        if len(set(names)) == len(names):
            return names
    return [".".join(path) for path in paths]


def _text(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else value if isinstance(value, str) else shown(value)
