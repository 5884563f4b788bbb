"""What a live server says of a graph before it is sent: classes, files, inputs, types, ranges, memory, version."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from sosie.core import Finding
from sosie.core.errors import nearest
from sosie.core.finding import Rule, Severity
from sosie.engines.comfy.answers import System
from sosie.engines.comfy.catalogue import NodeCatalogue
from sosie.engines.comfy.errors import HINTS, Y010, Y011, Y013, Y014
from sosie.engines.comfy.names import resolve
from sosie.engines.comfy.program import ApiGraph, CompiledGraph, GraphProgram, inputs_of, link_of
from sosie.files.foreign import as_line
from sosie.graph import Input, NodeType, node_type
from sosie.graph.guides import face_pack
from sosie.graph.nodes import packs
from sosie.graph.notation import CORE, WIDGETS, carried, fits

Y005 = Rule("SOS-Y005", "info", "What a ComfyUI server is")
Y006 = Rule("SOS-Y006", "error", "A ComfyUI server is too old for a recipe")
Y007 = Rule("SOS-Y007", "warning", "A ComfyUI server's GPU has less memory than a recipe wants")
Y016 = Rule("SOS-Y016", "info", "A node would fetch files by itself")


@dataclass(frozen=True)
class Match:
    """A graph with the server's own file names in it, and what is wrong with it there."""

    compiled: CompiledGraph
    findings: tuple[Finding, ...]


def match(compiled: CompiledGraph, catalogue: NodeCatalogue, subject: str) -> Match:
    """Puts the server's names of files into a graph, and checks all of it; `subject` is the server's name."""
    findings = [*_classes(compiled.graph, catalogue, subject), *_fetching(compiled.graph, catalogue, subject)]
    graph, unresolved = _with_names(compiled, catalogue, subject, findings)
    uploaded = {(upload.node, upload.input) for upload in compiled.uploads}
    for node, entry in graph.items():
        offer = catalogue.node(_kind(entry))
        if offer is not None:
            skipped = {name for place, name in (*uploaded, *unresolved) if place == node}
            findings += _Node(node, offer, inputs_of(entry), graph, catalogue, subject).check(skipped)
    output = graph.get(compiled.output)
    ends = catalogue.node(_kind(output)) if output else None
    if output is None or (ends is not None and not ends.ends):
        message = f"node {compiled.output} of the graph saves no image on this server"
        findings.append(Y013.at(subject, message, HINTS[Y013]))
    return Match(replace(compiled, graph=graph), tuple(dict.fromkeys(findings)))


def check_system(system: System, program: GraphProgram, subject: str) -> list[Finding]:
    """Version and memory of a server against what a program wants."""
    size = f"{system.memory / 2**30:.1f} GiB" if system.memory else "unknown memory"
    where = f"ComfyUI {system.version or 'of unknown version'}, torch {system.torch or '?'}"
    message = f"{where}, {system.device or 'unknown device'} ({size})"
    findings = [Y005.at(subject, message)]
    if program.version and system.version and _number(system.version) < _number(program.version):
        message = f"ComfyUI {system.version} runs there; the recipe needs {program.version} or later"
        findings.append(Y006.at(subject, message, "update ComfyUI (git pull, or the Manager)"))
    if program.memory and 0 < system.memory < program.memory:
        message = f"its GPU has {size}; the recipe wants {program.memory / 2**30:.1f} GiB, and will be slow or fail"
        hint = "a smaller size, quantised files, or another server"
        findings.append(Y007.at(subject, message, hint))
    return findings


def _number(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d{1,9}", version)[:3])


def _kind(entry: Mapping[str, Any]) -> str:
    kind = entry.get("class_type")
    return kind if isinstance(kind, str) else ""


def _fetching(graph: ApiGraph, catalogue: NodeCatalogue, subject: str) -> Iterator[Finding]:
    """Nodes that would fetch files."""
    for entry in graph.values():
        kind = _kind(entry)
        models = face_pack(kind, inputs_of(entry))
        if models and catalogue.node(kind) is not None:
            message = f"{kind} downloads the face models {models} while it runs, unless they lie where it looks"
            hint = f"the .onnx files of {models} belong right into models/insightface/models/{models}"
            yield Y016.at(subject, message, hint)


def _classes(graph: ApiGraph, catalogue: NodeCatalogue, subject: str) -> Iterator[Finding]:
    """Classes that the server lacks, with the pack that brings them."""
    for kind in dict.fromkeys(map(_kind, graph.values())):
        if catalogue.node(kind) is not None:
            continue
        known = node_type(kind)
        if known is None:
            near = nearest(kind, catalogue.names)
            message = f"the server has no class of nodes '{as_line(kind, 80)}'{near}"
            yield Y010.at(subject, message, HINTS[Y010])
        elif known.pack == CORE:
            message = f"the server has no {kind}, which newer versions of ComfyUI bring"
            yield Y010.at(subject, message, "update ComfyUI")
        else:
            message = f"the server has no {kind}; the pack '{known.pack}' brings it"
            yield Y010.at(subject, message, f"install {packs()[known.pack]} and restart the server")


def _with_names(
    compiled: CompiledGraph, catalogue: NodeCatalogue, subject: str, findings: list[Finding]
) -> tuple[ApiGraph, list[tuple[str, str]]]:
    """The graph with the server's names of files, and the inputs that have none (their findings are added)."""
    graph = {node: {**entry, "inputs": inputs_of(entry)} for node, entry in compiled.graph.items()}
    unresolved: list[tuple[str, str]] = []
    for use in compiled.files:
        offer = catalogue.node(_kind(graph.get(use.node, {})))
        takes = by_name(offer, graph[use.node]["inputs"]).get(use.input) if offer else None
        if takes is None or takes.choices is None:
            continue
        found = resolve(use, takes.choices, subject)
        if isinstance(found, str):
            graph[use.node]["inputs"][use.input] = found
        else:
            unresolved.append((use.node, use.input))
            findings.append(found)
    return graph, unresolved


def by_name(offer: NodeType, given: Mapping[str, Any]) -> dict[str, Input]:
    """The inputs of a class by name, with those that the choices in `given` bring."""
    return {entry.name: entry for entry in offer.takes(given)}


@dataclass(frozen=True)
class _Node:
    """One node of a graph next to the class that the server has for it."""

    id: str
    offer: NodeType
    given: Mapping[str, Any]
    graph: ApiGraph
    catalogue: NodeCatalogue
    subject: str

    def check(self, skipped: set[str]) -> Iterator[Finding]:
        """Every input but the skipped ones."""
        takes = by_name(self.offer, self.given)
        for name, taken in takes.items():
            if name in self.given and name not in skipped:
                yield from self._input(taken, name, self.given[name])
            elif taken.required and name not in self.given and not self.offer.is_open:
                yield self._misfit(name, "is missing")
        if self.offer.is_open:
            return
        for name in self.given:
            if name not in takes:
                yield self._at(Y013, name, f"is not known there{nearest(name, takes)}", severity="warning")

    def _input(self, takes: Input, name: str, value: Any) -> Iterator[Finding]:
        if isinstance(value, Mapping):
            # A list that is not a link is wrapped (`__value__`), and is nothing that choices or ranges are known for.
            return
        if link := link_of(value):
            yield from self._link(takes, name, *link)
        elif takes.type not in WIDGETS:
            if takes.type != "*":
                yield self._misfit(name, f"is {as_line(value, 40)!r}; it takes a link to {takes.type}")
        elif takes.type in ("INT", "SEED", "FLOAT"):
            yield from self._numeric(takes, name, value)
        elif takes.choices is not None and value not in takes.choices:
            shown = ", ".join(as_line(option, 60) for option in takes.choices[:6]) or "an empty list"
            message = f"is '{as_line(value, 80)}', which is none of its choices: {shown}"
            finding = self._at(Y011, name, message)
            is_file = takes.type == "FILE" or not takes.choices
            yield finding if is_file else replace(finding, hint="choose one of them in the node")

    def _numeric(self, takes: Input, name: str, value: Any) -> Iterator[Finding]:
        if isinstance(value, bool) or not isinstance(value, int | float):
            yield self._misfit(name, f"is {as_line(value, 40)!r}; it takes {carried(takes)}")
        elif not math.isfinite(value):
            yield self._at(Y014, name, "is not a finite number")
        elif takes.type != "FLOAT" and value != int(value):
            yield self._misfit(name, f"is {value}; it takes whole numbers")
        elif (takes.low is not None and value < takes.low) or (takes.high is not None and value > takes.high):
            yield self._at(Y014, name, f"is {value}; it takes {takes.low} to {takes.high}")

    def _link(self, takes: Input, name: str, node: str, slot: Any) -> Iterator[Finding]:
        source = self.graph.get(node)
        offer = self.catalogue.node(_kind(source)) if source is not None else None
        if source is None:
            yield self._misfit(name, f"is linked to node {as_line(node, 40)}, which is not in the graph")
        elif offer is not None and not (isinstance(slot, int) and 0 <= slot < len(offer.outputs)):
            yield self._misfit(name, f"is linked to output {as_line(slot, 10)} of {offer.name}, which it has not")
        elif offer is not None and not fits(offer.outputs[slot], carried(takes)):
            given = offer.outputs[slot]
            yield self._misfit(name, f"takes {carried(takes)} and is given {given} by {offer.name} {node}")

    def _misfit(self, name: str, what: str) -> Finding:
        return self._at(Y013, name, what)

    def _at(self, rule: Rule, name: str, what: str, *, severity: Severity | None = None) -> Finding:
        message = f"{self.offer.name} {self.id}: input '{as_line(name, 60)}' {what}"
        return rule.at(self.subject, message, HINTS[rule], severity=severity)
