"""Recipes and single stages as ComfyUI graphs, without a server."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from PIL import Image

from sosie.core import Character, Draw, Finding, Plan, Recipe, Request, Stage, plan
from sosie.core.character import Reference
from sosie.core.plan import asset_names, resolve_stages
from sosie.core.recipe import Sampler
from sosie.engines.comfy.compile import GraphCompiler, GraphSupplies
from sosie.faces.detect import Face
from sosie.families.contract.graphs import GraphChoices
from sosie.workspace.recipes import load_recipe
from sosie.workspace.workspace import Config, Workspace

RUNS = ("hybrid", "klein", "klein-edit", "sdxl-instantid", "zimage", "zimage-klein", "zimage-turbo")


EVERYWHERE = (GraphChoices(), GraphChoices(smaller=True), GraphChoices(faces="server", tiles=True))


MIRA = Character(
    "mira", "fictional", True, "a woman, braided hair", references=tuple(Reference(f"{n}", f"{n}") for n in "abcd")
)


class Faces:
    """Finds what it was told to."""

    def __init__(self, found: Face | Finding | None = None) -> None:
        self.found = found

    def find(self, *_: Any) -> Any:
        return self.found

    def embedding(self, *_: Any) -> Any:
        raise AssertionError("servers measure faces themselves")

    def crops(self, *_: Any) -> list[Any]:
        return []  # no portrait: nobody's tone is taken

    def portraits(self, guide: Any, plan: Any) -> list[Image.Image]:
        count = min(guide.references, len(plan.character.references))
        return [Image.new("RGB", (64 + 16 * number, 96)) for number in range(count)]


def workspace(folder: Path, **models: str) -> Workspace:
    return Workspace(folder, Config(models=models))


def planned(recipe: Recipe, who: Character = MIRA, **asked: Any) -> Plan:
    request = Request(recipe.name, who.name, "in the rain", **asked)
    names = asset_names(resolve_stages(recipe, who, request))
    return plan(recipe, who, request, Draw(), {name: f"sha-{name}" for name in names})


def shipped(name: str) -> Recipe:
    return load_recipe(workspace(Path()), name)


def made(*stages: Stage, width: int = 1024, height: int = 1024) -> Plan:
    return planned(Recipe("own", stages, "{prompt}", width, height))


def nodes(graph: Mapping[str, Any], kind: str) -> list[dict[str, Any]]:
    return [entry["inputs"] for entry in graph.values() if entry["class_type"] == kind]


def only(graph: Mapping[str, Any], kind: str) -> dict[str, Any]:
    (found,) = nodes(graph, kind)
    return found


def compiler(choices: GraphChoices | None = None, **supplies: Any) -> GraphCompiler:
    return GraphCompiler(GraphSupplies(Faces(), lambda _: (), **supplies), choices or GraphChoices())


def drafts(of: Plan, choices: GraphChoices | None = None, **supplies: Any) -> list[Mapping[str, Any]]:
    program = compiler(choices, **supplies)(of)
    assert program.findings == ()
    return [step.draft.graph for step in program.steps]


SDXL = Stage("generate", "sdxl", "sdxl", sampler=Sampler("euler_a", "karras", 20, 5.0))
