"""What the fake server says of its nodes, and how it judges a graph: `/object_info` and `/prompt` as a real one."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache, lru_cache
from typing import Any, cast

from sosie.engines.comfy.fake.behaviour import Behaviour, Graph
from sosie.graph import Input, node_types
from sosie.graph.notation import CONTROL, CORE, DYNAMIC, LINK, fits

TEXT_ENCODERS = "stable_diffusion|sdxl|sd3|flux|flux2|lumina2|qwen_image|wan|hidream|chroma"
"""What CLIPLoader can be told that its file is for."""

COMBOS: Mapping[str, tuple[str, ...]] = {
    "SAMPLER_NAME": ("euler", "euler_ancestral", "dpmpp_2m", "dpmpp_2m_sde", "dpmpp_2m_sde_gpu", "res_multistep"),
    "SCHEDULER_NAME": ("simple", "normal", "karras", "exponential", "sgm_uniform", "beta"),
    "upscale_method": ("nearest-exact", "bilinear", "area", "bicubic", "lanczos"),
    "type": tuple(TEXT_ENCODERS.split("|")),
    "weight_type": ("linear", "ease in", "ease out", "strong style transfer"),
    "combine_embeds": ("average", "norm average", "concat"),
    "embeds_scaling": ("V only", "K+V", "K+V w/ C penalty"),
    "preset": ("FACEID", "FACEID PLUS V2", "PLUS FACE (portraits)"),
    "mode_type": ("Linear", "Chess", "None"),
    "seam_fix_mode": ("None", "Band Pass", "Half Tile"),
    "sam_detection_hint": ("center-1", "horizontal-2", "mask-area", "none"),
    "sam_mask_hint_use_negative": ("False", "Small", "Outter"),
    "aspect_ratio": (
        *("1:1 (Square)", "2:3 (Portrait Photo)", "3:2 (Photo)", "3:4 (Portrait Standard)", "4:3 (Standard)"),
        *("9:16 (Portrait Widescreen)", "16:9 (Widescreen)", "21:9 (Ultrawide)"),
    ),
}
V3 = frozenset({"UpscaleModelLoader", "SaveImageAdvanced", "ResolutionSelector", "ResizeImageMaskNode"})
"""Classes that describe their choices in the newer of the two shapes."""


def object_info(behaviour: Behaviour, uploads: Iterable[str]) -> bytes:
    """The answer to `/object_info`: JSON."""
    return _written(behaviour.lacks, tuple(behaviour.files.items()), tuple(sorted(uploads)))


@lru_cache(maxsize=16)
def _written(lacks: frozenset[str], files: tuple[tuple[str, Sequence[str]], ...], images: tuple[str, ...]) -> bytes:
    """There are a thousand classes, so what was written once is kept."""
    lists = _Lists(dict(files), list(images))
    return json.dumps({name: _class(name, lists) for name in node_types() if name not in lacks}).encode()


def _class(name: str, lists: _Lists) -> dict[str, Any]:
    kind = node_types()[name]
    changes = any(entry.type in ("FILE", "IMAGE_FILE") for entry in kind.inputs)
    return _described(name, lists) if changes else _same(name)


@cache
def _same(name: str) -> dict[str, Any]:
    return _described(name, _Lists({}, []))


def _described(name: str, lists: _Lists) -> dict[str, Any]:
    kind = node_types()[name]
    groups = _groups(kind.inputs, "", replace(lists, is_v3=name in V3))
    if kind.is_open:
        groups["optional"]["more"] = ["COMFY_AUTOGROW_V3", {}]
    return {
        "input": {name: group for name, group in groups.items() if group},
        "output": list(kind.outputs),
        "output_node": kind.ends,
        "name": kind.name,
        "python_module": "nodes" if kind.pack == CORE else f"custom_nodes.{kind.pack}",
    }


@dataclass(frozen=True)
class _Lists:
    """What the lists of a class are made of; `is_v3`: it describes them in the newer of the two shapes."""

    files: Mapping[str, Sequence[str]]
    images: list[str]
    is_v3: bool = False


def _groups(entries: Sequence[Input], prefix: str, lists: _Lists) -> dict[str, dict[str, Any]]:
    """Inputs by whether they are required; those that a choice brings are told with it."""
    groups: dict[str, dict[str, Any]] = {"required": {}, "optional": {}}
    for place, entry in enumerate(entries):
        if entry.name.startswith(prefix) and not (entry.only and entry.parent != prefix.removesuffix(".")):
            below = _below(entries, place)
            told = _choosing(entry, below, lists) if below else _input(entry, lists)
            groups["required" if entry.required else "optional"][entry.name.removeprefix(prefix)] = told
    return groups


def _below(entries: Sequence[Input], place: int) -> Sequence[Input]:
    """The inputs that the choices of one bring: those that follow it under its name."""
    prefix, end = f"{entries[place].name}.", place + 1
    while end < len(entries) and entries[end].name.startswith(prefix):
        end += 1
    return entries[place + 1 : end]


def _choosing(entry: Input, below: Sequence[Input], lists: _Lists) -> list[Any]:
    """A choice with what each of its values brings; `below` are those inputs, and what their own choices bring."""
    options: list[Any] = []
    for key in entry.choices or ():
        brought: list[Input] = []
        inside = False
        for other in below:
            inside = key in other.only if other.parent == entry.name else inside
            brought += [other] if inside else []
        options.append({"key": key, "inputs": _groups(brought, f"{entry.name}.", lists)})
    return ["COMFY_DYNAMICCOMBO_V3", {"options": options}]


def _input(entry: Input, lists: _Lists) -> list[Any]:
    marks = {CONTROL: "control_after_generate", DYNAMIC: "dynamicPrompts", LINK: "forceInput"}
    told: dict[str, Any] = {marks[mark]: True for mark in sorted(entry.marks)}
    if entry.type in ("COMBO", "FILE", "IMAGE_FILE", "SAMPLER_NAME", "SCHEDULER_NAME"):
        options = choices(entry, lists.files, lists.images)
        if entry.type == "IMAGE_FILE":
            told["image_upload"] = True
        return ["COMBO", {"multiselect": False, "options": options, **told}] if lists.is_v3 else [options, told]
    if entry.type in ("INT", "SEED", "FLOAT"):
        whole = entry.type != "FLOAT"
        bounds = {"min": entry.low, "max": entry.high}
        # The largest seed, 2^64 - 1, is no float: a SEED's bounds are whole in the schema already.
        told |= {key: int(bound) if whole else bound for key, bound in bounds.items() if bound is not None}
        return ["INT" if whole else "FLOAT", {"default": entry.fallback or 0, **told}]
    return [entry.type, told]


def choices(entry: Input, files: Mapping[str, Sequence[str]], images: list[str]) -> list[str]:
    """The values that an input with choices takes."""
    if entry.type == "FILE":
        return sorted(files.get(entry.folder, ()))
    if entry.type == "IMAGE_FILE":
        return images
    known = COMBOS.get(entry.type) or COMBOS.get(entry.name, ())
    return list(dict.fromkeys([*(entry.choices or ()), *known, *([entry.default] if entry.default else [])]))


def judge(graph: Any, behaviour: Behaviour, images: Iterable[str]) -> tuple[dict[str, Any] | None, dict[str, Any]]:
    """ComfyUI's verdict on a graph: the error that refuses it (None: taken), and the errors of its nodes."""
    known = node_types()
    for node, entry in graph.items():
        kind = entry.get("class_type")
        if kind not in known or kind in behaviour.lacks:
            message = f"Node '{kind}' not found. The custom node may not be installed."
            return _error("missing_node_type", message, f"Node ID '#{node}'", node_id=node, class_type=kind), {}
    outputs = [node for node, entry in graph.items() if known[entry["class_type"]].ends]
    if not outputs:
        return _error("prompt_no_outputs", "Prompt has no outputs", ""), {}
    errors: dict[str, Any] = {}
    good = 0
    for output in outputs:
        wrong = {node: found for node in above(graph, output) if (found := _judge_node(graph, node, behaviour, images))}
        good += not wrong
        for node, found in wrong.items():
            told = errors.setdefault(node, {"errors": found, "dependent_outputs": []})
            told["dependent_outputs"].append(output)
            told["class_type"] = graph.get(node, {}).get("class_type", "")
    if not good:
        return _error("prompt_outputs_failed_validation", "Prompt outputs failed validation", ""), errors
    return None, errors


def above(graph: Graph, node: str) -> list[str]:
    """A node and all that it needs, what is needed first."""
    found: dict[str, None] = {}

    def visit(name: str) -> None:
        for value in graph.get(name, {}).get("inputs", {}).values():
            if is_link(value) and value[0] not in found and value[0] != name:
                visit(value[0])
        found[name] = None

    visit(node)
    return list(found)


def is_link(value: Any) -> bool:
    """Whether an input is linked."""
    return isinstance(value, list) and [type(part) for part in cast("list[Any]", value)] == [str, int]


def _judge_node(graph: Graph, node: str, behaviour: Behaviour, images: Iterable[str]) -> list[dict[str, Any]]:
    if node not in graph:
        text = "Exception when validating inner node"
        return [_error("exception_during_inner_validation", text, f"'{node}'", exception_type="KeyError")]
    kind = node_types()[graph[node]["class_type"]]
    found: list[dict[str, Any]] = []
    given = graph[node].get("inputs", {})
    for entry in kind.takes(given):
        if entry.name not in given:
            if entry.required:
                found.append(_error("required_input_missing", "Required input is missing", entry.name))
            continue
        error = _judge_value(graph, entry, given[entry.name], behaviour, list(images))
        if error is not None:
            error["extra_info"]["input_name"] = entry.name
            found.append(error)
    return found


def _judge_value(
    graph: Graph, entry: Input, value: Any, behaviour: Behaviour, images: list[str]
) -> dict[str, Any] | None:
    if is_link(value):
        source = node_types().get(graph.get(value[0], {}).get("class_type", ""))
        given = dict(enumerate(source.outputs if source else ())).get(value[1], "*")
        if fits(given, entry.type) or entry.is_widget:
            return None
        details = f"{entry.name}, received_type({given}) mismatch input_type({entry.type})"
        return _error("return_type_mismatch", "Return type mismatch between linked nodes", details)
    if entry.type in ("INT", "SEED", "FLOAT"):
        try:
            number = float(value) if entry.type == "FLOAT" else int(value)
        except (TypeError, ValueError, OverflowError) as error:
            details = f"{entry.name}, {value}, {error}"
            return _error("invalid_input_type", f"Failed to convert an input value to a {entry.type} value", details)
        if entry.low is not None and number < entry.low:
            return _error("value_smaller_than_min", f"Value {number} smaller than min of {entry.low}", entry.name)
        if entry.high is not None and number > entry.high:
            return _error("value_bigger_than_max", f"Value {number} bigger than max of {entry.high}", entry.name)
        return None
    if entry.type == "IMAGE_FILE" and value not in images:
        details = f"{entry.name} - Invalid image file: {value}"
        return _error("custom_validation_failed", "Custom validation failed for node", details)
    if entry.type in ("FILE", "COMBO", "SAMPLER_NAME", "SCHEDULER_NAME"):
        options = choices(entry, behaviour.files, images)
        if (options and value not in options) or (entry.type == "FILE" and not options):
            return _not_listed(entry, value, options)
    return None


def _not_listed(entry: Input, value: Any, options: Iterable[str]) -> dict[str, Any]:
    return _error("value_not_in_list", "Value not in list", f"{entry.name}: {value!r} not in {list(options)}")


def _error(kind: str, message: str, details: str, **extra: Any) -> dict[str, Any]:
    return {"type": kind, "message": message, "details": details, "extra_info": extra}
