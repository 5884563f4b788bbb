"""A recipe as a ComfyUI graph, and what compiling graphs is given in a workspace."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from sosie.core import Character, Draw, Finding, Plan, Recipe, Request, Stage, plan
from sosie.core.errors import BadImageError, NotFoundError, SosieError
from sosie.core.finding import has_errors
from sosie.core.plan import asset_names, resolve_stages
from sosie.doctor.recipe_needs import Purpose, needs_of
from sosie.engines.comfy.compile import GraphCompiler, GraphSupplies, check_plan, draw_plan, parts_of
from sosie.families.contract.graphs import GraphChoices
from sosie.graph.to_api import to_api
from sosie.graph.to_ui import to_ui
from sosie.workspace.library import find_files, one_of
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
class Shown:
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
class Sight:
    """What a graph is to show: a format, a character and prompt (None: placeholders), and the choices."""

    form: Format = "comfy"
    character: Character | None = None
    prompt: str | None = None
    choices: GraphChoices = field(default_factory=GraphChoices)


def show_graph(workspace: Workspace, recipe: Recipe, sight: Sight) -> Shown:
    """The recipe's graphs as one document; those that Sosie sends one after another stand beside each other."""
    who = sight.character or SOMEBODY
    asked = Request(recipe.name, who.name, PROMPT if sight.prompt is None else sight.prompt)
    bare = dict.fromkeys(asset_names(resolve_stages(recipe, who, asked)), "")
    planned = plan(recipe, who, asked, Draw(), bare)
    unfit = unfit_assets(workspace, bare)
    findings = check_plan(planned, unfit, sight.choices)
    if has_errors(findings):
        return Shown({}, findings=tuple(findings))
    told = called_files(workspace, bare)
    built = draw_plan(planned, told, sight.choices)
    table = to_api(built.graph) if sight.form == "comfy" else to_ui(built.graph, built.groups)
    return Shown(
        table,
        tuple(tuple(planned.stages[i].kind for i in part.stages) for part in parts_of(planned, sight.choices)),
        tuple(dict.fromkeys(picture.what for picture in built.pictures.values())),
        tuple(dict.fromkeys(f.asset for f in built.files.values() if _is_users_own(recipe, f.asset, told))),
        tuple(findings),
    )


def open_compiler(session: Session, stages: Sequence[Stage], choices: GraphChoices | None = None) -> GraphCompiler:
    """The compiler for plans of these stages in a session's workspace."""
    from sosie.api.faces import SessionFaces

    assets = asset_names(tuple(stages))
    parsers = {stage.detail.parser for stage in stages if stage.kind == "detail" and stage.detail.parser}
    found = {asset: place for asset in assets if (place := _place(session.workspace, asset)) is not None}
    supplies = GraphSupplies(
        SessionFaces(session),
        Portraits(session),
        {asset: found[asset] for asset in parsers if asset in found},
        called_files(session.workspace, assets),
        unfit_assets(session.workspace, assets),
        needs_of(session.workspace, Recipe("", tuple(stages), "", 0, 0), Purpose()).vram_mib * 2**20,
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


def called_files(workspace: Workspace, assets: Iterable[str]) -> dict[str, str]:
    """The file names of assets, as far as `sosie.toml` or the model folders tell."""
    places = ((asset, _place(workspace, asset)) for asset in assets)
    return {asset: place.name for asset, place in places if place is not None and place.suffix and not place.is_dir()}


def unfit_assets(workspace: Workspace, assets: Iterable[str]) -> dict[str, str]:
    """Assets that no ComfyUI can load, with the reason: folders of several files, and models inside a package."""
    packaged = {entry.name for entry in importlib.metadata.entry_points(group="sosie.models")}
    unfit: dict[str, str] = {}
    for asset in assets:
        place = _place(workspace, asset)
        if place is not None and place.is_dir():
            unfit[asset] = f"{place} is a folder in the layout of diffusers, and ComfyUI loads single files"
        elif place is None and asset.partition(":")[0] in packaged:
            unfit[asset] = "it is part of a Python package, in the layout of diffusers, and runs on this machine"
    return unfit


def _place(workspace: Workspace, asset: str) -> Path | None:
    """Where `sosie.toml` or a model folder has an asset; the file need not be there. None if neither names it."""
    model, colon, inside = asset.partition(":")
    named = workspace.config.models.get(asset) or (workspace.config.models.get(model) if colon else None)
    if named:
        base = workspace.path(named)
        return base / inside if colon and asset not in workspace.config.models else base
    try:
        found = find_files(workspace, asset)
        return one_of(found, asset) if found else None
    except SosieError:
        return None


def _is_users_own(recipe: Recipe, asset: str, told: Mapping[str, str]) -> bool:
    """Whether a recipe leaves it to the user which file an asset is, and the workspace does not say either."""
    file = recipe.source_of(asset)
    return file is not None and not file.source and asset not in told
