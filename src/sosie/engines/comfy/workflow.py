"""A user's own ComfyUI workflow in Sosie's loop: unmodified but for its seed, and what was asked for."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from sosie.core import Finding, Plan, Recipe, Stage
from sosie.core.errors import UsageError
from sosie.core.recipe import MAX_SIDE
from sosie.core.schema import digest
from sosie.doctor.graph_structure import W009, check_result
from sosie.engines.comfy.program import CompiledGraph, FileUse, GraphProgram, Step
from sosie.families.contract.draws import StageOutput
from sosie.files.foreign import as_line
from sosie.graph import Graph, Node, read_workflow
from sosie.graph.attach import attach, expect_runnable, find_seeds, find_size, find_texts, needed
from sosie.graph.build import Place
from sosie.graph.named_files import NO_FILES
from sosie.graph.notation import Kinds
from sosie.graph.outputs import find_output
from sosie.graph.settings import Pins, apply_settings
from sosie.graph.to_api import to_api
from sosie.graph.without_character import InputChange, apply_changes

FAMILY = "workflow"
"""What the stage of a workflow names as its family: none of Sosie's."""

USUAL = (1024, 1024)
"""Width and height that are told of a workflow whose size cannot be read from it."""


@dataclass(frozen=True, eq=False)
class WorkflowCompiler:
    """Puts a plan's seed, texts and size into a graph; keeps the protocol `engines.comfy.program.Compiler`."""

    graph: Graph
    pins: Pins

    def __call__(self, plan: Plan, *, smaller: bool = False) -> GraphProgram:
        """One graph. It is the user's own, so that there is no `smaller` one.

        Raises `UsageError` where it is not clear what a place of the graph is for.
        """
        del smaller
        attached = attach(self.graph, plan, self.pins)
        files = used_files(attached.graph, attached.graph.above(attached.output))
        drawn = tuple(_said(self.graph.nodes[at.node], plan, text) for at, text in attached.drawn.items())
        finish = partial(StageOutput, findings=drawn)
        sent = CompiledGraph(to_api(attached.graph), attached.output, files=files, finish=finish)
        return GraphProgram((Step("generate", sent),))


@dataclass(frozen=True, eq=False)
class Workflow:
    """A workflow as the loop takes it: a recipe of one stage, its graph's digest by that stage's model, and a compiler.

    The digest covers the settings, so that plans of another graph are other plans. `path`, `settings` and `kinds`
    are what it was opened by.
    """

    recipe: Recipe
    assets: Mapping[str, str]
    compiler: WorkflowCompiler
    path: Path
    settings: tuple[str, ...] = ()
    kinds: Kinds | None = None

    @property
    def output(self) -> str:
        """The node whose image is the result."""
        return self.compiler.pins.output or find_output(self.compiler.graph)

    @property
    def told(self) -> list[Finding]:
        """SOS-W014, where the result was chosen and not said."""
        return [] if self.compiler.pins.output else check_result(self.compiler.graph, self.path.name)

    @property
    def drawing(self) -> Graph:
        """What the result is made by: of a graph with other ends, only that."""
        return needed(self.compiler.graph, self.output)


def open_workflow(path: Path, settings: Sequence[str] = (), kinds: Kinds | None = None) -> Workflow:
    """Reads a workflow file in either format and changes what `settings` (`NODE.input=value`) say.

    `kinds` describes classes that Sosie does not know: what a server says of them. Raises `NotFoundError` and
    `BadModelError` for the file, `UsageError` for the settings, and for a graph that saves no image or whose values
    cannot be named.
    """
    graph, pins = apply_settings(read_workflow(path, kinds), settings)
    if graph.editing.blueprint:
        message = f"{path} is a subgraph blueprint ('{graph.editing.blueprint[:80]}'), and no workflow"
        raise UsageError(message, "put it into a workflow in ComfyUI's editor (Node Library), and save that")
    output = pins.output or find_output(graph)
    expect_runnable(graph, output)
    width, height = _possible(find_size(graph, output))
    recipe = Recipe(path.stem, (Stage("generate", FAMILY, path.name),), "{prompt}", width, height)
    assets = {path.name: digest(to_api(graph))}
    return Workflow(recipe, assets, WorkflowCompiler(graph, pins), path, tuple(settings), kinds)


def with_changes(workflow: Workflow, changes: Sequence[InputChange]) -> Workflow:
    """The workflow with changes in its graph, and the digest of what it then is."""
    graph = apply_changes(workflow.compiler.graph, changes)
    assets = {workflow.path.name: digest(to_api(graph))}
    return dataclasses.replace(workflow, assets=assets, compiler=WorkflowCompiler(graph, workflow.compiler.pins))


def prompt_places(workflow: Workflow) -> tuple[Place, ...]:
    """Where the positive prompt stands. Raises `UsageError` where that is not clear."""
    pins = workflow.compiler.pins
    return (pins.prompt,) if pins.prompt else find_texts(workflow.compiler.graph, workflow.output, "positive")


def drawing_digest(workflow: Workflow) -> str:
    """SHA-256 over what draws: nodes and values without the seeds, the prompt and the name that is saved under.

    These are set again for every image; where the prompt's place is not clear its text stays and counts.
    """
    graph, output, pins = workflow.compiler.graph, workflow.output, workflow.compiler.pins
    blank = {*((pins.seed,) if pins.seed else find_seeds(graph, output))}
    with suppress(UsageError):
        blank |= {*prompt_places(workflow)}
    above = graph.above(output)
    table = {name: entry for name, entry in to_api(graph).items() if name in above}
    return digest(
        {
            name: [
                entry["class_type"],
                {
                    key: value
                    for key, value in entry["inputs"].items()
                    if Place(name, key) not in blank and (name != output or graph.nodes[name].link(key))
                },
            ]
            for name, entry in table.items()
        }
    )


def _said(node: Node, plan: Plan, text: str) -> Finding:
    """What the choices of a text gave for a plan: kept with its image."""
    return W009.at(plan.recipe, f"{node.label}: its choices gave '{as_line(text, 400)}'")


def _possible(size: tuple[int, int] | None) -> tuple[int, int]:
    fits = size is not None and all(64 <= side <= MAX_SIDE and side % 8 == 0 for side in size)
    return size if size is not None and fits else USUAL


def used_files(graph: Graph, nodes: Iterable[str]) -> tuple[FileUse, ...]:
    """The model files that nodes would load, so that a server which has them in another folder is no obstacle."""
    return tuple(use for name in nodes for use in _files(graph.nodes[name]))


def _files(node: Node) -> Iterator[FileUse]:
    for entry in node.type.files if node.type else ():
        value = node.inputs.get(entry.name)
        if isinstance(value, str) and value not in NO_FILES:
            yield FileUse(node.id, entry.name, (value,), entry.folder)
