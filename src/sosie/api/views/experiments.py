"""Experiments as they are put together, watched and read: what a page shows of them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sosie.api.experiments import ExperimentOrder, experiments, foretell
from sosie.core.errors import NotFoundError, UsageError
from sosie.core.experiment_result import Cell, ExperimentResult
from sosie.core.schema import to_table
from sosie.engines import DEFAULT
from sosie.files.foreign import as_list, as_object, as_text
from sosie.files.toml import read_toml
from sosie.files.whole import make_folder, write_whole
from sosie.lab.arms import arm_recipes
from sosie.lab.draft import Draft, Field, draft_text, fields_of
from sosie.lab.experiment import experiment_of, is_experiment
from sosie.workspace.characters import load_character
from sosie.workspace.experiments import find_experiment, list_experiments, load_design, load_result
from sosie.workspace.recipes import find_recipe, recipe_table
from sosie.workspace.workspace import Workspace, check_name

MOST_ARMS = 200
"""Arms that are named in a forecast: more than a page can show."""

_PICTURE = re.compile(r"[0-9A-Za-z_-]{1,100}\.webp")


def list_shown(workspace: Workspace) -> list[dict[str, Any]]:
    """Every experiment that was begun, with what it found, and every design that waits, which has no state."""
    begun: list[dict[str, Any]] = [
        {"id": one.id, "question": one.question, "arms": one.arms, **_found(one.result)}
        for one in experiments(workspace)
    ]
    names = {one["id"].rpartition("-")[0] for one in begun}
    files = sorted((workspace.root / "experiments").glob("*.toml"))
    waiting = [path for path in files if path.stem not in names and is_experiment(path)]
    return [*begun, *({"id": path.stem, "arms": None, **_declared(read_toml(path))} for path in waiting)]


def offered_axes(workspace: Workspace, recipe: str) -> list[dict[str, Any]]:
    """The fields of a recipe that an axis can be made of, and their values there. Raises `NotFoundError`."""
    return [{"field": one.name, "value": one.value} for one in _fields(workspace, recipe).values()]


def foresee(workspace: Workspace, draft: Draft, price: float = 0.0, engine: str = DEFAULT) -> dict[str, Any]:
    """The dry run of a draft, with the names of its arms. Nothing is written or drawn.

    Raises `RuleError` (SOS-Q001, Q002, Q005) and `NotFoundError`, as `declare` would.
    """
    order = _order(workspace, draft, engine)
    found = foretell(workspace, order, price)
    arms = arm_recipes(workspace, order.experiment, str(order.path))[:MOST_ARMS]
    return {**to_table(found), "images": found.images, "names": [arm.name for arm in arms]}


def declare(workspace: Workspace, draft: Draft) -> str:
    """Writes the design, `experiments/NAME.toml`, before anything is drawn; returns its name.

    Raises `UsageError` if there is one already, and what `foresee` raises.
    """
    foresee(workspace, draft)
    path = _path(workspace, draft)
    if path.exists():
        raise UsageError(f"{path.name} exists already; an experiment is declared once", "give it another name")
    make_folder(path.parent)
    write_whole(path, draft_text(draft, _fields(workspace, draft.recipe)))
    return path.stem


def describe_experiment(workspace: Workspace, name: str) -> dict[str, Any]:
    """What an experiment has found, by its id or name, with every cell. Raises `NotFoundError`.

    Of one that was not begun, or was killed before its first stop, only what was declared is known.
    """
    files = {path.stem: path for path in (workspace.root / "experiments").glob("*.toml")}
    begun = [one for one in list_experiments(workspace) if name in (one, one.rpartition("-")[0])]
    if not begun and name in files and is_experiment(files[name]):
        return {"id": name, **_declared(read_toml(files[name])), "cells": []}
    found = find_experiment(workspace, name)
    result = load_result(workspace, found)
    if result is None:
        return {"id": found, **_declared(as_object(load_design(workspace, found).get("experiment"))), **_found(None)}
    table = result.to_json()
    kept = ("id", "digest", "name", "question", "character", "recipe", "scale", "smallest", "prompts", "deviations")
    arms = [{key: arm[key] for key in ("name", "changes", "levels", "failed", "dropped")} for arm in table["arms"]]
    shown = {**{key: table[key] for key in kept}, "baseline": result.design.baseline, "arms": arms}
    return {**shown, **_found(result), "cells": [cell_line(cell) for cell in result.cells]}


def cell_line(cell: Cell) -> dict[str, Any]:
    """A cell of the table; one that failed has its error's words in place of a score."""
    line = {name: getattr(cell, name) for name in ("arm", "prompt", "fresh", "score", "kept")}
    error = cell.error.message if cell.error else None
    return {**line, "seed": str(cell.seed), "image": cell.image or None, "error": error}


def report_text(workspace: Workspace, name: str, language: str) -> bytes:
    """The page that was written of an experiment. Raises `NotFoundError` where there is none yet."""
    return _of_report(workspace, name, "index.html" if language == "en" else "index.fr.html")


def report_picture(workspace: Workspace, name: str, picture: str) -> bytes:
    """A picture that lies beside a large report. Raises `NotFoundError`."""
    if not _PICTURE.fullmatch(picture):
        raise NotFoundError("a report has no such picture")
    return _of_report(workspace, name, f"images/{picture}")


def _of_report(workspace: Workspace, name: str, file: str) -> bytes:
    found = find_experiment(workspace, name)
    try:
        return (workspace.root / "experiments" / found / file).read_bytes()
    except OSError:
        hint = f"sosie experiment report {found}"
        raise NotFoundError(f"experiment '{found}' has no report here yet", hint) from None


def _order(workspace: Workspace, draft: Draft, engine: str) -> ExperimentOrder:
    load_character(workspace, draft.character)
    place = _path(workspace, draft).relative_to(workspace.root)
    experiment = experiment_of(draft_text(draft, _fields(workspace, draft.recipe)), place)
    return ExperimentOrder(experiment, place, engine)


def _path(workspace: Workspace, draft: Draft) -> Path:
    return workspace.root / "experiments" / f"{check_name(draft.name)}.toml"


def _fields(workspace: Workspace, recipe: str) -> Mapping[str, Field]:
    return {one.name: one for one in fields_of(recipe_table(find_recipe(workspace, recipe).path))}


def _declared(table: Mapping[str, Any]) -> dict[str, Any]:
    texts = [as_text(one) for one in as_list(table.get("prompts"))]
    return {"state": None, "question": as_text(table.get("question")), "prompts": texts, "contrasts": []}


def _found(result: ExperimentResult | None) -> dict[str, Any]:
    if result is None:
        return {"state": "killed", "contrasts": [], "winner": None, "cells": []}
    winner = to_table(result.winner) if result.winner else None
    return {"state": result.state, "contrasts": to_table(result.contrasts), "winner": winner}
