"""Whether ComfyUI would take a graph at all: its links, its values, and the packs of nodes that it needs."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator
from typing import Any

from sosie.core import Finding
from sosie.core.errors import nearest
from sosie.core.finding import Rule
from sosie.graph import Graph, Input, Link, Node, node_type, node_types
from sosie.graph.nodes import packs
from sosie.lora.training import plain

W002 = Rule("SOS-W002", "info", "A graph has nodes that Sosie does not know")
W003 = Rule("SOS-W003", "error", "A node lacks an input that it needs")
W004 = Rule("SOS-W004", "error", "A link of a graph does not hold")
W005 = Rule("SOS-W005", "error", "A node's value is not allowed")
W006 = Rule("SOS-W006", "error", "A graph saves and shows nothing")
W007 = Rule("SOS-W007", "info", "A graph needs packs of custom nodes")

SHOWN = 8
"""Most names that one message lists."""


def check_structure(graph: Graph, subject: str) -> list[Finding]:
    """SOS-W002 to W007. Inputs and values are judged only of nodes that would run."""
    running = running_nodes(graph)
    findings = [*_unknown(graph, subject), *_packs(graph, subject)]
    if not running:
        message = "no node saves or shows an image, so ComfyUI refuses the graph"
        findings.append(W006.at(subject, message, "add a SaveImage node"))
    findings += [W004.at(subject, plain(problem, 160), "draw the link again in ComfyUI") for problem in graph.problems]
    for node in graph:
        if node.id in running:
            findings += [*_links(graph, node, subject), *_inputs(node, subject)]
    return findings


def running_nodes(graph: Graph) -> frozenset[str]:
    """The ids of the nodes that would run: those that end the graph, and all that they need.

    A class that is not known may end it, if nothing uses what it gives.
    """
    used = {link.node for node in graph for link in node.inputs.values() if isinstance(link, Link)}
    ends = [node.id for node in graph if (kind := node_type(node.kind)) and kind.ends]
    ends += [node.id for node in graph if node_type(node.kind) is None and node.id not in used]
    return graph.above(*ends)


def _unknown(graph: Graph, subject: str) -> Iterator[Finding]:
    counted = Counter(node.kind for node in graph if node_type(node.kind) is None)
    if counted:
        names = ", ".join(f"{plain(kind, 60)} ({count})" for kind, count in counted.most_common(SHOWN))
        more = f" and {len(counted) - SHOWN} others" if len(counted) > SHOWN else ""
        message = f"{len(counted)} classes of nodes are not known here, so what they do is not checked: {names}{more}"
        first = counted.most_common(1)[0][0]
        hint = (
            nearest(first, node_types()).removeprefix("; ") if nearest(first, node_types()).startswith("; did") else ""
        )
        yield W002.at(subject, message, hint)


def _packs(graph: Graph, subject: str) -> Iterator[Finding]:
    known = packs()
    used = Counter(kind.pack for node in graph if (kind := node_type(node.kind)) and kind.pack in known)
    if used:
        names = ", ".join(f"{pack} ({used[pack]} nodes: {address})" for pack, address in known.items() if used[pack])
        yield W007.at(subject, f"it needs {names}", "install them in ComfyUI's custom_nodes")


def _links(graph: Graph, node: Node, subject: str) -> Iterator[Finding]:
    kind = node_type(node.kind)
    for name, link in node.inputs.items():
        if not isinstance(link, Link):
            continue
        wrong = _wrong(graph, link, kind.input(name) if kind else None)
        if wrong:
            message = f"{plain(node.label)}: '{plain(name)}' {wrong}"
            yield W004.at(subject, message, "draw the link again in ComfyUI")


def _wrong(graph: Graph, link: Link, entry: Input | None) -> str:
    """What is wrong with a link into an input (None: not known), or empty."""
    source = graph.nodes.get(link.node)
    if source is None:
        return f"is linked to node {plain(link.node)}, which is not there"
    kind = node_type(source.kind)
    if kind is None:
        return ""
    if not 0 <= link.slot < len(kind.outputs):
        return f"is linked to output {link.slot} of {plain(source.label)}, which has {len(kind.outputs)}"
    gives = kind.outputs[link.slot]
    wants = _carried(entry) if entry else "*"
    if "*" in (gives, wants) or gives == wants:
        return ""
    return f"takes {wants}, and {plain(source.label)} gives {gives}"


def _carried(entry: Input) -> str:
    """What a wire into an input carries; choices and file names take anything."""
    if entry.is_widget:
        return {"SEED": "INT", "INT": "INT", "FLOAT": "FLOAT", "STRING": "STRING", "BOOLEAN": "BOOLEAN"}.get(
            entry.type, "*"
        )
    return entry.type


def _inputs(node: Node, subject: str) -> Iterator[Finding]:
    """Inputs that are missing, and values that ComfyUI would refuse."""
    kind = node_type(node.kind)
    for entry in kind.inputs if kind else ():
        if entry.name not in node.inputs:
            if entry.required and (not entry.is_widget or entry.default or entry.type == "FILE"):
                message = f"{plain(node.label)}: '{entry.name}' ({entry.type}) is missing"
                yield W003.at(subject, message, "link it, or remove the node")
            continue
        value = node.inputs[entry.name]
        wrong = "" if isinstance(value, Link) else _refused(entry, value)
        if wrong:
            message = f"{plain(node.label)}: '{entry.name}' is {plain(str(value), 60)!r}, {wrong}"
            yield W005.at(subject, message, "set it in the node and save again")


def _refused(entry: Input, value: Any) -> str:
    """Why ComfyUI would refuse a value, or empty."""
    if not entry.is_widget:
        return "" if entry.type == "*" else f"expected a link that carries {entry.type}"
    if entry.type in ("INT", "SEED", "FLOAT"):
        return _out_of_range(entry, value)
    if entry.choices and str(value) not in entry.choices:
        return f"expected one of {', '.join(entry.choices[:SHOWN])}"
    if entry.type in ("FILE", "SAMPLER_NAME", "SCHEDULER_NAME") and not isinstance(value, str):
        return "expected a name"
    return ""


def _out_of_range(entry: Input, value: Any) -> str:
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        return "expected a number"
    low, high = entry.low, entry.high
    if (low is not None and number < low) or (high is not None and number > high) or math.isnan(number):
        return f"expected {low:g} to {high:g}"
    return ""
