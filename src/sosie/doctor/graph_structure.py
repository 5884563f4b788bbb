"""Whether ComfyUI would take a graph at all: its links, its values, and the packs of nodes that it needs."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

from sosie.core import Finding
from sosie.core.errors import UsageError, nearest
from sosie.core.finding import Rule
from sosie.graph import Graph, Input, Link, Node, node_types
from sosie.graph.attach import is_fed
from sosie.graph.dynamic_prompts import has_choices
from sosie.graph.nodes import packs
from sosie.graph.notation import WIDGETS, carried, fits
from sosie.graph.outputs import choose_output
from sosie.graph.settings import listed
from sosie.lora.training import plain

W002 = Rule("SOS-W002", "info", "A graph has nodes that Sosie does not know")
W003 = Rule("SOS-W003", "error", "A node lacks an input that it needs")
W004 = Rule("SOS-W004", "error", "A link of a graph does not hold")
W005 = Rule("SOS-W005", "error", "A node's value is not allowed")
W006 = Rule("SOS-W006", "error", "A graph saves and shows nothing")
W007 = Rule("SOS-W007", "info", "A graph needs packs of custom nodes")
W008 = Rule("SOS-W008", "info", "A file is a subgraph blueprint")
W009 = Rule("SOS-W009", "info", "Choices in a prompt are drawn")
W013 = Rule("SOS-W013", "info", "A pack draws links of a graph")
W014 = Rule("SOS-W014", "info", "A graph makes several images")

NUMBERS = {"INT", "FLOAT"}
"""Types of links that some versions of ComfyUI's nodes take for each other, and some do not."""

SHOWN = 8
"""Most names that one message lists."""


def check_structure(graph: Graph, subject: str) -> list[Finding]:
    """SOS-W002 to W009, W013 and W014. Inputs and values are judged only of nodes that would run."""
    findings = [*_unknown(graph, subject), *_packs(graph, subject)]
    if graph.editing.blueprint:
        message = f"it offers the subgraph '{plain(graph.editing.blueprint, 80)}', and is no workflow that would run"
        return [W008.at(subject, message, "put it into a workflow in ComfyUI's editor: Node Library"), *findings]
    running = running_nodes(graph)
    if not running:
        message = "no node saves or shows an image, so ComfyUI refuses the graph"
        findings.append(W006.at(subject, message, "add a SaveImage node"))
    problems = graph.problems_above(*running)
    findings += [W004.at(subject, plain(problem, 160), "draw the link again in ComfyUI") for problem in problems]
    findings += [*_everywhere(graph, subject), *check_result(graph, subject)]
    for node in graph:
        if node.id in running:
            findings += [*_links(graph, node, subject), *_inputs(graph, node, subject), *_choices(node, subject)]
    return findings


def running_nodes(graph: Graph) -> frozenset[str]:
    """The ids of the nodes that would run: those that end the graph, and all that they need.

    A class that is not known may end it, if it is given something and nothing uses what it gives.
    """
    links = {node.id: [link.node for link in node.inputs.values() if isinstance(link, Link)] for node in graph}
    used = {origin for origins in links.values() for origin in origins}
    ends = [node.id for node in graph if (kind := node.type) and kind.ends]
    ends += [node.id for node in graph if node.type is None and links[node.id] and node.id not in used]
    return graph.above(*ends)


def check_result(graph: Graph, subject: str) -> list[Finding]:
    """SOS-W014: which of several images `sosie generate --workflow` takes, and how to take another."""
    try:
        found = choose_output(graph)
    except UsageError:
        return []
    if not found.others and not found.left_out:
        return []
    also = [f"not those of {plain(listed(found.others), 400)}"] if found.others else []
    also += [f"{plain(listed(found.left_out), 400)} is not run"] if found.left_out else []
    message = f"the image of {plain(found.node.label)} is taken as the result, {' and '.join(also)}"
    hint = f'to take another: --set "output={plain(found.others[0].id, 60)}"' if found.others else ""
    return [W014.at(subject, message, hint)]


def _everywhere(graph: Graph, subject: str) -> Iterator[Finding]:
    """What cg-use-everywhere does when the editor sends the graph."""
    editing = graph.editing
    if editing.undrawn:
        kinds = ", ".join(sorted(editing.undrawn)[:SHOWN])
        message = (
            f"{_named(editing.broadcasts)} send {kinds} by rules that only the editor follows (Anything Everywhere)"
        )
        yield W013.at(
            subject, message, "to run it here: right-click the canvas, Convert all UEs to real links, and save"
        )
    elif editing.broadcasts:
        message = f"{_named(editing.broadcasts)} feed {editing.drawn} inputs without wires (Anything Everywhere)"
        yield W013.at(subject, message, "")


def _named(labels: Sequence[str]) -> str:
    more = f" and {len(labels) - SHOWN} others" if len(labels) > SHOWN else ""
    return ", ".join(plain(label, 60) for label in labels[:SHOWN]) + more


def _choices(node: Node, subject: str) -> Iterator[Finding]:
    for name in node.dynamic:
        text = node.inputs.get(name)
        if isinstance(text, str) and has_choices(text):
            message = f"{plain(node.label)}: '{name}' holds choices ({plain(text, 60)}), one of which each image gets"
            yield W009.at(subject, message, "write \\{ for a brace that is none")


def _unknown(graph: Graph, subject: str) -> Iterator[Finding]:
    counted = Counter(node.kind for node in graph if node.type is None)
    if counted:
        names = ", ".join(f"{plain(kind, 60)} ({count})" for kind, count in counted.most_common(SHOWN))
        more = f" and {len(counted) - SHOWN} others" if len(counted) > SHOWN else ""
        message = f"{len(counted)} classes of nodes are not known here, so what they do is not checked: {names}{more}"
        first = counted.most_common(1)[0][0]
        hint = (
            nearest(first, node_types()).removeprefix("; ") if nearest(first, node_types()).startswith("; did") else ""
        )
        yield W002.at(subject, message, hint)
    if other := [node.label for node in graph if node.unread and node.type]:
        message = f"{_named(other)} have other widgets than in the version that is known here, and are not checked"
        yield W002.at(subject, message, "sosie doctor FILE --engine comfy:URL asks a server")


def _packs(graph: Graph, subject: str) -> Iterator[Finding]:
    known = packs()
    used = Counter(kind.pack for node in graph if (kind := node.type) and kind.pack in known)
    if used:
        names = ", ".join(f"{pack} ({used[pack]} nodes: {address})" for pack, address in known.items() if used[pack])
        yield W007.at(subject, f"it needs {names}", "install them in ComfyUI's custom_nodes")


def _links(graph: Graph, node: Node, subject: str) -> Iterator[Finding]:
    kind = node.type
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
    if not source.outputs:
        return ""
    if not 0 <= link.slot < len(source.outputs):
        return f"is linked to output {link.slot} of {plain(source.label)}, which has {len(source.outputs)}"
    gives = source.outputs[link.slot]
    wants = carried(entry) if entry else "*"
    if fits(gives, wants) or {gives, wants} <= NUMBERS:
        return ""
    return f"takes {wants}, and {plain(source.label)} gives {gives}"


def _inputs(graph: Graph, node: Node, subject: str) -> Iterator[Finding]:
    """Inputs that are missing, and values that ComfyUI would refuse."""
    kind = node.type
    for entry in kind.takes(node.inputs) if kind else ():
        if node.unread and entry.is_widget:
            continue
        if entry.name not in node.inputs:
            needed = not is_fed(graph, entry) if not entry.is_widget else entry.default or entry.type == "FILE"
            if entry.required and needed:
                message = f"{plain(node.label)}: '{entry.name}' ({entry.type}) is missing"
                yield W003.at(subject, message, "link it, or remove the node")
            continue
        value = node.inputs[entry.name]
        if isinstance(value, Link):
            continue
        shown = f"{plain(node.label)}: '{entry.name}' is {plain(str(value), 60)!r}"
        if wrong := _refused(entry, value):
            yield W005.at(subject, f"{shown}, {wrong}", "set it in the node and save again")
        elif entry.choices and str(value) not in map(str, entry.choices):
            known = ", ".join(map(str, entry.choices[:SHOWN]))
            message = f"{shown}, which the version known here has not; it has {known}"
            yield W005.at(subject, message, "sosie doctor FILE --engine comfy:URL asks a server", severity="info")


def _refused(entry: Input, value: Any) -> str:
    """Why ComfyUI would refuse a value, or empty."""
    if entry.type not in WIDGETS:
        return "" if entry.type == "*" else f"expected a link that carries {entry.type}"
    if entry.type in ("INT", "SEED", "FLOAT"):
        return _out_of_range(entry, value)
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
