"""Classes of nodes as a server describes them: what `/object_info` answers, read as `NodeType`.

Choices come in three shapes: `[[...], {}]` (old), `["COMBO", {"options": [...]}]` (V3), and
`["COMFY_DYNAMICCOMBO_V3", {"options": [{"key": ..., "inputs": ...}]}]`, whose choice brings inputs of its own,
named `INPUT.SUB`. Which inputs are widgets, and which of them the editor changes after a run: as its frontend
decides (1.43, `scripts/widgets.ts`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

from sosie.files.foreign import as_list, as_number, as_object, as_text, list_or_none
from sosie.files.suffixes import SUFFIXES
from sosie.graph.notation import CONTROL, CORE, DYNAMIC, LINK, SEEDS, Input, NodeType

CHOOSES = "COMFY_DYNAMICCOMBO_V3"
OPEN = ("COMFY_AUTOGROW_V3", "COMFY_DYNAMICSLOT_V3")
"""Types whose inputs are named when the graph is drawn."""

MATCHES = "COMFY_MATCHTYPE_V3"
"""A type that is that of what is linked."""

OWN = ("nodes", "comfy_extras", "comfy_api_nodes")
"""Python packages of ComfyUI's own nodes."""

DEPTH = 6
"""Deepest choices within choices."""


def read_object_info(name: str, described: Any) -> NodeType:
    """The class that one entry of `/object_info` describes; what cannot be read of it is left out."""
    found = as_object(described)
    groups = as_object(found.get("input"))
    ordered = as_object(found.get("input_order"))
    inputs = [entry for group in ("required", "optional") for entry in _group(groups, ordered, group)]
    module, _, rest = as_text(found.get("python_module")).partition(".")
    return NodeType(
        name,
        tuple(entry for entry in inputs if entry.type not in OPEN),
        tuple(_carried(output) for output in as_list(found.get("output"))),
        CORE if module in OWN or not rest else rest.partition(".")[0],
        found.get("output_node") is True,
        any(entry.type in OPEN for entry in inputs),
    )


def _group(groups: dict[str, Any], ordered: dict[str, Any], group: str, prefix: str = "") -> Iterator[Input]:
    specs = as_object(groups.get(group))
    names = [name for name in as_list(ordered.get(group)) if isinstance(name, str) and name in specs]
    for name in dict.fromkeys([*names, *specs]):
        yield from _inputs(prefix + name, specs[name], group == "required")


def _inputs(name: str, spec: Any, required: bool) -> Iterator[Input]:
    """An input, and after it those that its choices bring, each once with all choices that bring the same."""
    parts = as_list(spec) or [spec]
    told = as_object(parts[1]) if len(parts) > 1 else {}
    if parts[0] != CHOOSES:
        yield _input(name, parts[0], told, required)
        return
    options = [as_object(option) for option in as_list(told.get("options"))]
    keys = tuple(option.get("key") for option in options)
    default = as_text(told.get("default")) or (str(keys[0]) if keys else "")
    yield Input(name, "COMBO", required, default, choices=keys)
    if name.count(".") < DEPTH:
        inputs = [as_object(option.get("inputs")) for option in options]
        yield from _brought(
            {
                str(key): [entry for group in ("required", "optional") for entry in _group(of, {}, group, f"{name}.")]
                for key, of in zip(keys, inputs, strict=True)
            }
        )


def _brought(by_choice: dict[str, list[Input]]) -> list[Input]:
    """What choices bring, each input once with all choices that bring it, if that keeps the order of every choice."""
    merged: dict[Input, tuple[str, ...]] = {}
    for key, entries in by_choice.items():
        for entry in entries:
            # What a choice within a choice brings has its own parent already.
            merged[entry] = entry.only or (*merged.get(entry, ()), key)
    if all([entry for entry in merged if entry in entries] == entries for entries in by_choice.values()):
        return [replace(entry, only=only) for entry, only in merged.items()]
    return [replace(entry, only=entry.only or (key,)) for key, entries in by_choice.items() for entry in entries]


def _input(name: str, kind: Any, told: dict[str, Any], required: bool) -> Input:
    listed = list_or_none(kind)
    if listed is None and kind == "COMBO":
        fetched = any(told.get(key) for key in ("remote", "remote_combo", "multiselect"))
        listed = None if fetched else list_or_none(told.get("options"))
        kind = "COMBO"
    elif listed is not None:
        kind = "COMBO"
    kind = as_text(told.get("widgetType")) or _type(kind, told)
    marks: set[str] = {LINK} if told.get("forceInput") else set()
    control = told.get("control_after_generate")
    if control or (control is None and kind == "INT" and name in SEEDS):
        marks.add(CONTROL)
    if kind == "STRING" and told.get("dynamicPrompts"):
        marks.add(DYNAMIC)
    if kind == "COMBO":
        kind = "IMAGE_FILE" if told.get("image_upload") else "FILE" if _are_files(listed or ()) else "COMBO"
    if kind == "INT" and CONTROL in marks and name in SEEDS and LINK not in marks:
        kind, marks = "SEED", marks - {CONTROL}
    return Input(
        name,
        kind,
        required,
        "" if LINK in marks else _default(kind, told.get("default", listed[0] if listed else None)),
        as_number(told.get("min")),
        as_number(told.get("max")),
        None if listed is None else tuple(listed),
        marks=frozenset(marks),
    )


def _type(kind: Any, told: dict[str, Any]) -> str:
    if kind == MATCHES:
        return as_text(as_object(told.get("template")).get("allowed_types")) or "*"
    return kind if isinstance(kind, str) else "*"


def _carried(output: Any) -> str:
    return "COMBO" if isinstance(output, list) else "*" if output == MATCHES or not isinstance(output, str) else output


def _default(kind: str, value: Any) -> str:
    """A default as the notation writes it; empty for one that is no plain value of its type."""
    if isinstance(value, bool):
        return str(value).lower() if kind == "BOOLEAN" else ""
    if isinstance(value, int | float) and kind in ("INT", "SEED", "FLOAT"):
        return f"{int(value)}" if kind != "FLOAT" else f"{value:g}" if float(f"{value:g}") == value else repr(value)
    return value if isinstance(value, str) and kind in ("STRING", "COMBO") else ""


def _are_files(listed: Sequence[Any]) -> bool:
    """Whether choices are the files of a folder, perhaps with a word for none."""
    return any(isinstance(name, str) and name.lower().endswith(SUFFIXES) for name in listed)
