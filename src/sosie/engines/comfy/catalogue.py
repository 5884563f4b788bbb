"""What a server offers: its classes of nodes with their inputs, read from `/object_info`.

Choices come in three shapes: `[[...], {}]` (old), `["COMBO", {"options": [...]}]` (V3), and
`["COMFY_DYNAMICCOMBO_V3", {"options": [{"key": ..., "inputs": ...}]}]`, whose choice brings inputs of its own,
named `INPUT.SUB`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from types import MappingProxyType
from typing import Any

from sosie.files.foreign import as_list, as_number, as_object, list_or_none

VALUES = ("INT", "FLOAT", "STRING", "BOOLEAN", "COMBO")
"""Types of inputs that hold a value; every other one is a link."""

DYNAMIC = "COMFY_DYNAMICCOMBO_V3"
OPEN = ("COMFY_AUTOGROW_V3", "COMFY_DYNAMICSLOT_V3")
"""Types whose inputs are named when the graph is drawn, so that their names cannot be checked."""


@dataclass(frozen=True)
class Takes:
    """An input of a class. `options` are the values that a COMBO takes (None: not known here).

    `low` and `high` bound a number; None: no bound. `brings` are the inputs that come with a choice.
    """

    name: str
    type: str
    required: bool
    options: tuple[Any, ...] | None = None
    low: float | None = None
    high: float | None = None
    brings: Mapping[Any, tuple[Takes, ...]] = field(default_factory=lambda: MappingProxyType({}))

    @property
    def is_value(self) -> bool:
        """Whether it holds a value rather than a link."""
        return self.type in VALUES


@dataclass(frozen=True)
class NodeClass:
    """A class of nodes on a server. `ends` says that a graph may end there. `is_open`: takes inputs of any name."""

    name: str
    inputs: Mapping[str, Takes]
    outputs: tuple[str, ...]
    ends: bool
    is_open: bool = False

    def takes(self, given: Mapping[str, Any]) -> Mapping[str, Takes]:
        """Its inputs by name, with those that the choices in `given` bring."""
        found = dict(self.inputs)
        for name, takes in self.inputs.items():
            choice = given.get(name)
            for brought in takes.brings.get(choice, ()) if isinstance(choice, str | int | float) else ():
                found[f"{name}.{brought.name}"] = brought
        return found


class NodeCatalogue:
    """All that a server offers. A class is read when it is asked for: a server has a thousand."""

    def __init__(self, info: Mapping[str, Any]) -> None:
        self._info = info
        self.node = lru_cache(maxsize=None)(self._read)

    @property
    def names(self) -> tuple[str, ...]:
        """The names of all classes."""
        return tuple(self._info)

    def _read(self, name: str) -> NodeClass | None:
        """A class by its name, or None if the server lacks it."""
        if name not in self._info:
            return None
        found = as_object(self._info[name])
        groups = as_object(found.get("input"))
        takes = [*_group(groups.get("required"), True), *_group(groups.get("optional"), False)]
        return NodeClass(
            name,
            MappingProxyType({entry.name: entry for entry in takes}),
            tuple(_type(output) for output in as_list(found.get("output"))),
            found.get("output_node") is True,
            any(entry.type in OPEN for entry in takes),
        )


def _group(value: Any, required: bool) -> list[Takes]:
    return [_takes(name, spec, required) for name, spec in as_object(value).items()]


def _takes(name: str, spec: Any, required: bool) -> Takes:
    parts = as_list(spec) or [spec]
    kind, told = parts[0], as_object(parts[1]) if len(parts) > 1 else {}
    if (listed := list_or_none(kind)) is not None:
        return Takes(name, "COMBO", required, tuple(listed))
    if kind == DYNAMIC:
        options = map(as_object, as_list(told.get("options")))
        choices = {option.get("key"): option.get("inputs") for option in options}
        brings = {
            key: (*_group(as_object(inputs).get("required"), True), *_group(as_object(inputs).get("optional"), False))
            for key, inputs in choices.items()
        }
        return Takes(name, "COMBO", required, tuple(choices), brings=MappingProxyType(brings))
    if kind == "COMBO":
        fetched = any(told.get(key) for key in ("remote", "remote_combo", "multiselect"))
        options = None if fetched or not isinstance(told.get("options"), list) else tuple(as_list(told["options"]))
        return Takes(name, "COMBO", required, options)
    return Takes(name, _type(kind), required, None, as_number(told.get("min")), as_number(told.get("max")))


def _type(value: Any) -> str:
    return "COMBO" if isinstance(value, list) else value if isinstance(value, str) else "*"
