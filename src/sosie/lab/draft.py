"""A Draft: an experiment as it is put together on a page, and the TOML file that declares it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, cast

from sosie.core.errors import NotFoundError, UsageError, nearest
from sosie.files.toml import value_text
from sosie.lab.changes import NAMED_BY

ROOMS = ("stages", "width", "height")
"""Parts of a recipe whose fields an axis may be made of."""

FIXED = ("kind", "file")
"""Fields by which an entry is known: with another value it would be another one."""

_BARE = re.compile(r"[A-Za-z0-9_-]+")


@dataclass(frozen=True)
class Field:
    """A field of a recipe that an axis can change: its path, as an experiment names it, and its value there."""

    path: tuple[str, ...]
    value: float | str | bool

    @property
    def name(self) -> str:
        """The path in one text; parts hold no dot but where a file is named."""
        return ".".join(self.path)


@dataclass(frozen=True)
class Axis:
    """A field by its `Field.name`, and the values that it takes."""

    field: str
    values: tuple[float | str | bool, ...]


@dataclass(frozen=True)
class Draft:
    """What is asked, of whom, by which axes. `seeds` is how many: 1 to that number. Empty and None: the usual."""

    name: str
    character: str
    recipe: str
    axes: tuple[Axis, ...]
    question: str = ""
    prompts: tuple[str, ...] = ("",)
    seeds: int = 12
    baseline: str = ""
    endpoint: str = "identity"
    stopping: str = "anytime"
    compare: str = "arms"
    margin: float | None = None


def fields_of(recipe: Mapping[str, Any]) -> Iterator[Field]:
    """The fields of a recipe's table that hold one value, in its order. Entries of lists go by kind, file or place."""
    for room in ROOMS:
        if room in recipe:
            yield from _fields(recipe[room], (room,))


def draft_text(draft: Draft, fields: Mapping[str, Field]) -> str:
    """The TOML of a draft on a recipe of these fields, by name.

    Raises `NotFoundError` for a field that is none of them, `UsageError` for an axis without values.
    """
    lines = [f"{key} = {value_text(getattr(draft, key))}" for key in ("name", "question", "character", "recipe")]
    lines += [f"prompts = {value_text(draft.prompts)}", f"seeds = {value_text(range(1, draft.seeds + 1))}"]
    lines += ["", "[axes]", *(_axis_text(axis, fields) for axis in draft.axes)]
    design = {name: getattr(draft, name) for name in ("baseline", "endpoint", "stopping", "compare", "margin")}
    lines += ["", "[design]", *(f"{key} = {value_text(value)}" for key, value in design.items() if value)]
    return "\n".join(lines) + "\n"


def _fields(value: Any, path: tuple[str, ...]) -> Iterator[Field]:
    if isinstance(value, dict):
        for key, inner in cast("dict[str, Any]", value).items():
            if key not in FIXED:
                yield from _fields(inner, (*path, key))
    elif isinstance(value, list):
        entries = cast("list[Any]", value)
        names = [_entry_name(entry, str(place)) for place, entry in enumerate(entries)]
        for place, (name, entry) in enumerate(zip(names, entries, strict=True)):
            yield from _fields(entry, (*path, name if names.count(name) == 1 else str(place)))
    elif isinstance(value, int | float | str):
        yield Field(path, value)


def _entry_name(entry: Any, place: str) -> str:
    table = cast("dict[str, Any]", entry) if isinstance(entry, dict) else {}
    return next((str(table[key]) for key in NAMED_BY if key in table), place)


def _axis_text(axis: Axis, fields: Mapping[str, Field]) -> str:
    found = fields.get(axis.field)
    if found is None:
        raise NotFoundError(f"the recipe has no field '{axis.field[:80]}'{nearest(axis.field, fields)}")
    if not axis.values:
        raise UsageError(f"axis {axis.field} has no values")
    values = [float(one) if _is_float(found.value) and isinstance(one, int) else one for one in axis.values]
    key = ".".join(part if _BARE.fullmatch(part) else value_text(part) for part in found.path)
    return f"{key} = {value_text(values)}"


def _is_float(value: object) -> bool:
    return isinstance(value, float)
