"""A recipe as a ComfyUI graph, and what compiling graphs is given in a workspace."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from sosie.core import Character, Draw, Finding, Plan, Recipe, Request, plan
from sosie.core.errors import BadImageError, NotFoundError
from sosie.core.finding import has_errors
from sosie.core.plan import resolve_stages
from sosie.doctor.recipe_needs import Purpose, needs_of
from sosie.engines.comfy.compile import GraphCompiler, GraphSupplies, check_plan, draw_plan, parts_of
from sosie.families.contract.graphs import GraphChoices
from sosie.graph.to_api import to_api
from sosie.graph.to_ui import to_ui
from sosie.workspace.bill import Bill, resolve
from sosie.workspace.library import Library
from sosie.workspace.prompts import Asking, PromptLine, recognise
from sosie.workspace.prompts.choices import Wildcards
from sosie.workspace.prompts.loras import Loras
from sosie.workspace.session import Session
from sosie.workspace.workspace import Workspace

if TYPE_CHECKING:
    from PIL.Image import Image

Format = Literal["comfy", "comfy-ui"]

SOMEBODY = Character("nobody", "fictional", True, description="a woman with auburn braided hair")
PROMPT = "smiling, soft daylight"
"""Who and what a graph shows that is only to be looked at."""

PORTRAIT = 512
"""Side in pixels of the squares in which servers measure the character's face."""

MARGIN = 2.0
"""Such a square's side over that of the face: detectors want the whole head."""


@dataclass(frozen=True, eq=False)
class GraphExport:
    """A recipe as a graph: the JSON of its format, and the kinds of stages of each graph that Sosie would send.

    `pictures` are what is uploaded before a run, `unknown` the assets whose files' names the workspace does not tell.
    Without a `table` an error among the findings says why there is none.
    """

    table: Mapping[str, Any]
    parts: tuple[tuple[str, ...], ...] = ()
    pictures: tuple[str, ...] = ()
    unknown: tuple[str, ...] = ()
    findings: tuple[Finding, ...] = ()


@dataclass(frozen=True)
class GraphRequest:
    """What a graph is to show: a format, a character and prompt (None: placeholders), and the choices."""

    form: Format = "comfy"
    character: Character | None = None
    prompt: str | None = None
    choices: GraphChoices = field(default_factory=GraphChoices)


def show_graph(workspace: Workspace, recipe: Recipe, wanted: GraphRequest) -> GraphExport:
    """The recipe's graphs as one document; those that Sosie sends one after another stand beside each other."""
    who = wanted.character or SOMEBODY
    asked, said = _asked(workspace, recipe, who, wanted.prompt)
    if has_errors(said):
        return GraphExport({}, findings=said)
    bill = resolve(workspace, resolve_stages(recipe, who, asked), who)
    planned = plan(recipe, who, asked, Draw(), dict.fromkeys(bill.entries, ""))
    findings = [*said, *check_plan(planned, unfit_assets(bill), wanted.choices)]
    if has_errors(findings):
        return GraphExport({}, findings=tuple(findings))
    told = called_files(bill)
    built = draw_plan(planned, told, wanted.choices)
    table = to_api(built.graph) if wanted.form == "comfy" else to_ui(built.graph, built.groups)
    return GraphExport(
        table,
        tuple(tuple(planned.stages[i].kind for i in part.stages) for part in parts_of(planned, wanted.choices)),
        tuple(dict.fromkeys(picture.what for picture in built.pictures.values())),
        tuple(dict.fromkeys(f.asset for f in built.files.values() if _is_users_own(recipe, f.asset, told))),
        tuple(findings),
    )


def _asked(
    workspace: Workspace, recipe: Recipe, who: Character, prompt: str | None
) -> tuple[Request, tuple[Finding, ...]]:
    """What the graph is to draw; a LoRA that is not here may be where the graph is taken to."""
    if prompt is None:
        return Request(recipe.name, who.name, PROMPT), ()
    asking = Asking(Loras(who, recipe, Library(workspace), remote=True), Wildcards(workspace.wildcards))
    asked, said = recognise((PromptLine(prompt),), asking)
    return asked[0].request(recipe.name, who.name) if asked else Request(recipe.name, who.name), said


def open_compiler(session: Session, bill: Bill, choices: GraphChoices | None = None) -> GraphCompiler:
    """The compiler for plans of the bill's stages in a session's workspace."""
    from sosie.api.faces import SessionFaces

    parsers = {stage.detail.parser for stage in bill.stages if stage.kind == "detail"}
    places = {entry.name: entry.place for entry in bill if entry.place is not None}
    supplies = GraphSupplies(
        SessionFaces(session, {entry.name: entry.path for entry in bill if entry.path is not None}),
        Portraits(session),
        {name: place for name, place in places.items() if name in parsers},
        called_files(bill),
        unfit_assets(bill),
        needs_of(Recipe("", bill.stages, "", 0, 0), bill, Purpose()).vram_mib * 2**20,
    )
    return GraphCompiler(supplies, choices or GraphChoices())


class Portraits:
    """Squares of one size around the face of a character's references, the most frontal first; kept while it lives."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._kept: dict[tuple[str, ...], list[Image]] = {}

    def __call__(self, planned: Plan) -> Sequence[Image]:
        """RGB, `PORTRAIT` x `PORTRAIT`. Raises `NotFoundError` without references, `BadImageError` without a face."""
        paths = self._session.reference_paths(planned.character)
        if not paths:
            message = f"character '{planned.character.name}' has no references"
            raise NotFoundError(message, "sosie new CHARACTER IMAGES...")
        key = tuple(paths)
        if key not in self._kept:
            self._kept[key] = self._cut(list(paths.values()))
        return self._kept[key]

    def _cut(self, paths: Sequence[Path]) -> list[Image]:
        from PIL import Image

        from sosie.faces.crop import face_crop
        from sosie.files.images import read_image

        seen = [
            (np.asarray(image), face)
            for image in map(read_image, paths)
            for face in self._session.detector.detect(np.asarray(image))[:1]
        ]
        if not seen:
            message = f"none of the {len(paths)} references shows a face; expected at least one"
            raise BadImageError(message, "use portraits in which the face can be seen")
        seen.sort(key=lambda item: abs(item[1].yaw))
        return [Image.fromarray(face_crop(pixels, face, PORTRAIT, MARGIN).image) for pixels, face in seen]


def called_files(bill: Bill) -> dict[str, str]:
    """The names of files, as far as `sosie.toml` or the model folders tell."""
    places = ((entry.name, entry.place) for entry in bill)
    return {name: place.name for name, place in places if place is not None and place.suffix and not place.is_dir()}


def unfit_assets(bill: Bill) -> dict[str, str]:
    """Assets that no ComfyUI can load, with the reason: folders of several files, and models inside a package."""
    packaged = {point.name for point in importlib.metadata.entry_points(group="sosie.models")}
    unfit: dict[str, str] = {}
    for entry in bill:
        if entry.place is not None and entry.place.is_dir():
            unfit[entry.name] = f"{entry.place} is a folder in the layout of diffusers, and ComfyUI loads single files"
        elif entry.place is None and entry.name.partition(":")[0] in packaged:
            unfit[entry.name] = "it is part of a Python package, in the layout of diffusers, and runs on this machine"
    return unfit


def _is_users_own(recipe: Recipe, asset: str, told: Mapping[str, str]) -> bool:
    """Whether a recipe leaves it to the user which file an asset is, and the workspace does not say either."""
    file = recipe.source_of(asset)
    return file is not None and not file.source and asset not in told
