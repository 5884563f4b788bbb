"""Which widget each value of a node in the UI format belongs to: there values are told apart by their places only.

The editor's rules (`scripts/widgets.ts`, `utils/litegraphUtil.ts` of its version 1.43): a seed is followed by how it
changes after a run, a list that changes by that and a filter, a choice by the widgets that it brings; what is left over
is nothing that is sent.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

from sosie.files.foreign import object_or_none
from sosie.graph.graph import Value
from sosie.graph.notation import LINK, WIDGETS, Input, NodeType

CONTROLS = ("fixed", "increment", "decrement", "randomize", "increment-wrap")
"""What the editor writes after a seed: how it changes after a run. Old versions wrote true and false."""


def named_values(
    kind: NodeType | None, values: tuple[Value, ...] | Mapping[str, Value]
) -> tuple[dict[str, Value], tuple[Value, ...]]:
    """Values by their widgets' names, and those that cannot be named.

    These are all of a class that is not known, or that had other widgets in the version that the file was saved by.
    """
    if isinstance(values, Mapping):
        return dict(values), ()
    if kind is None:
        return {}, values
    if kind.name in OWN_LAYOUT:
        return OWN_LAYOUT[kind.name](values), ()
    values = _without_links(kind, values)
    named: dict[str, Value] = {}
    at, left, odd = 0, len(kind.widgets), 0
    for entry in kind.takes(named):
        if not entry.is_widget:
            continue
        if at >= len(values):
            break
        named[entry.name] = values[at]
        odd += not _suits(entry, values[at])
        at, left = at + 1, left - 1
        at += _controls(entry, values[at:], left)
    shifted = odd > 1 or (odd and (at < len(values) or len(named) < len(kind.widgets)))
    return ({}, values) if shifted else (named, ())


def _suits(entry: Input, value: Value) -> bool:
    """Whether a value is of a widget's type, whatever its range."""
    if value is None or entry.type in ("BOOLEAN", "STRING"):
        return not (entry.type == "STRING" and isinstance(value, bool))
    if entry.type in ("INT", "SEED", "FLOAT"):
        return isinstance(value, int | float) and not isinstance(value, bool)
    if entry.type in ("SAMPLER_NAME", "SCHEDULER_NAME", "FILE", "IMAGE_FILE"):
        return isinstance(value, str)
    if entry.type == "COMBO" and not isinstance(value, str):
        return entry.choices is None or str(value) in map(str, entry.choices)
    return True


def complete(kind: NodeType, given: Mapping[str, Value]) -> dict[str, Value]:
    """The values with the defaults of the widgets that have none: what the editor shows for them."""
    values = dict(given)
    for entry in kind.takes(values):
        if entry.is_widget and entry.required and entry.fallback is not None:
            values.setdefault(entry.name, entry.fallback)
    return values


def _controls(entry: Input, follow: Sequence[Value], left: int) -> int:
    """How many of the values that follow an input's are about how it changes; `left` widgets come after it."""
    value = follow[0] if follow else None
    if isinstance(value, str) and value in CONTROLS:
        if entry.type in ("INT", "SEED"):
            return 1
        if entry.is_controlled:
            return 2 if len(follow) > 1 and isinstance(follow[1], str) else 1
    old = isinstance(value, bool) and entry.type == "SEED" and len(follow) > left
    return int(old or (entry.type == "IMAGE_FILE" and value == "image"))


def _without_links(kind: NodeType, values: tuple[Value, ...]) -> tuple[Value, ...]:
    """Very old files hold a value for each input that is always a link, too."""
    dummies: list[bool] = []
    for entry in kind.inputs:
        if entry.type in WIDGETS:
            dummies += [LINK in entry.marks, *([False] if entry.is_controlled else [])]
    if not any(dummies) or len(dummies) != len(values):
        return values
    return tuple(value for value, dummy in zip(values, dummies, strict=True) if not dummy)


def _power_loras(values: tuple[Value, ...]) -> dict[str, Value]:
    """The Power Lora Loader of rgthree: an object a LoRA, among widgets that are not sent."""
    found: dict[str, Value] = {}
    for value in values:
        lora = object_or_none(value)
        if lora is not None and "lora" in lora:
            found[f"lora_{len(found) + 1}"] = {key: part for key, part in lora.items() if part is not None}
    return found


OWN_LAYOUT: Mapping[str, Callable[[tuple[Any, ...]], dict[str, Any]]] = MappingProxyType(
    {"Power Lora Loader (rgthree)": _power_loras}
)
"""Classes whose widgets are made by their pack, and how their values are named."""
