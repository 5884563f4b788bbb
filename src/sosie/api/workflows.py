"""A user's own ComfyUI workflow in Sosie's loop: unmodified but for its seed, and what was asked for."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from sosie.core import Plan, Recipe, Stage
from sosie.core.plan import MAX_SIDE
from sosie.core.schema import digest
from sosie.engines.comfy.program import Compiled, FileUse, Program, Step
from sosie.files.workflow import Graph, node_type, read_workflow
from sosie.files.workflow.attach import attach, expect_runnable, find_output, find_size
from sosie.files.workflow.settings import Pins, apply_settings
from sosie.files.workflow.to_api import to_api

FAMILY = "workflow"
"""What the stage of a workflow names as its family: none of Sosie's."""

USUAL = (1024, 1024)
"""Width and height that are told of a workflow whose size is not to be read from it."""


@dataclass(frozen=True, eq=False)
class WorkflowCompiler:
    """Puts a plan's seed, texts and size into a graph; keeps the protocol `engines.comfy.program.Compiler`."""

    graph: Graph
    pins: Pins

    def __call__(self, plan: Plan, *, smaller: bool = False) -> Program:
        """One graph. It is the user's own, so that there is no `smaller` one.

        Raises `UsageError` where it is not clear what a place of the graph is for.
        """
        del smaller
        attached = attach(self.graph, plan, self.pins)
        files = tuple(_files(attached.graph, attached.output))
        return Program((Step("generate", Compiled(to_api(attached.graph), attached.output, files=files)),))


@dataclass(frozen=True, eq=False)
class Workflow:
    """A workflow as the loop takes it: a recipe of one stage, its graph's digest by that stage's model, and a compiler.

    The digest covers the settings, so that plans of another graph are other plans.
    """

    recipe: Recipe
    assets: Mapping[str, str]
    compiler: WorkflowCompiler


def open_workflow(path: Path, settings: Sequence[str] = ()) -> Workflow:
    """Reads a workflow file in either format and changes what `settings` (`NODE.input=value`) say.

    Raises `NotFoundError` and `BadModelError` for the file, `UsageError` for the settings, and for a graph that
    saves no image or whose values cannot be named.
    """
    graph, pins = apply_settings(read_workflow(path), settings)
    output = pins.output or find_output(graph)
    expect_runnable(graph, output)
    width, height = _possible(find_size(graph, output))
    recipe = Recipe(path.stem, (Stage("generate", FAMILY, path.name),), "{prompt}", width, height)
    return Workflow(recipe, {path.name: digest(to_api(graph))}, WorkflowCompiler(graph, pins))


def _possible(size: tuple[int, int] | None) -> tuple[int, int]:
    fits = size is not None and all(64 <= side <= MAX_SIDE and side % 8 == 0 for side in size)
    return size if size is not None and fits else USUAL


def _files(graph: Graph, output: str) -> Iterator[FileUse]:
    """The model files that would be loaded, so that a server which has them in another folder is no obstacle."""
    for name in graph.above(output):
        node = graph.nodes[name]
        kind = node_type(node.kind)
        for entry in kind.files if kind else ():
            value = node.inputs.get(entry.name)
            if isinstance(value, str):
                yield FileUse(node.id, entry.name, (value,), entry.folder)
