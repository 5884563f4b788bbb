"""Calibration: impostors of a character's own description, rendered without what shows the character."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from sosie.api.impostors import Impostors, recipe_impostors, workflow_impostors
from sosie.core import Character, Draw, Event, Plan, Progress, Recipe, Render, Request, Result, plan
from sosie.core.errors import EngineError
from sosie.core.finding import has_errors
from sosie.engines import DEFAULT
from sosie.files.images import read_image
from sosie.scorers.cohort import Cohort, save_cohort
from sosie.workspace.session import Session
from sosie.workspace.writing import writing

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from sosie.engines.comfy.workflow import Workflow
    from sosie.faces.encoders import Encoder


@dataclass(frozen=True)
class Calibration(Result):
    """A cohort that was made: its file, how many impostors it holds, how many had no face."""

    path: Path
    cohort: str
    n: int
    without_face: int


@dataclass(frozen=True)
class CalibrationRequest:
    """Impostors of `character` under `recipe`: `n` images, from `seed`, on `engine`.

    A `workflow` is the user's own graph, whose recipe this is then.
    """

    character: Character
    recipe: Recipe
    n: int = 60
    seed: int = 0
    engine: str = DEFAULT
    workflow: Workflow | None = None


def calibrate(session: Session, request: CalibrationRequest) -> Generator[Event]:
    """Renders the impostors (those that the store holds are not rendered again) and writes the cohort.

    Raises `UsageError` for a workflow with nothing to take out.
    """
    character = request.character
    if request.workflow is not None:
        drawn = workflow_impostors(session, character, request.workflow, request.engine)
    else:
        drawn = recipe_impostors(session, character, request.recipe, request.engine)
    yield from drawn.findings
    engine = drawn.open()
    try:
        plans = _plans(request, drawn)
        findings = engine.check(plans[0])
        yield from findings
        if has_errors(findings):
            return
        run = session.store.begin_run(
            "calibrate", {"character": character.name, "recipe": drawn.recipe.name, "n": request.n}
        )
        rows: dict[str, list[NDArray[np.float32]]] = {name: [] for name in session.judges[0]}
        for planned in plans:
            stored = session.store.find_render(planned.id, engine.name)
            if stored is None:
                for event in engine.run([planned]):
                    if isinstance(event, Render):
                        stored = session.store.add_render(event)
                    else:
                        yield _overall(event, planned.draw.index, request.n)
            if stored is None:
                raise EngineError(f"plan {planned.id[:12]} gave no image")
            _embed(session, stored.image, rows)
            at = planned.draw.index + 1
            yield Progress(f"impostor {at} of {request.n}", at, request.n)
        yield _save(session, request, drawn, rows)
        session.store.end_run(run, "done")
        session.store.sweep()
    finally:
        engine.close()


def _overall(event: Progress, index: int, n: int) -> Progress:
    """The engine's progress of one impostor as that of all."""
    return replace(event, what=f"impostor {index + 1} of {n}", done=index + event.share, total=n)


def _plans(request: CalibrationRequest, drawn: Impostors) -> list[Plan]:
    recipe, prompts = drawn.recipe, drawn.recipe.calibration.prompts
    asked = Request(recipe.name, request.character.name, seed=request.seed)
    return [
        plan(recipe, request.character, replace(asked, prompt=prompts[index % len(prompts)]), Draw(index), drawn.assets)
        for index in range(request.n)
    ]


def _embed(session: Session, image: Path, rows: dict[str, list[NDArray[np.float32]]]) -> None:
    pixels = np.asarray(read_image(image))
    faces = session.detector.detect(pixels)
    if faces:
        for name, encoder in session.judges[0].items():
            rows[name].append(encoder.embed(pixels, faces[0]))


def _save(
    session: Session, request: CalibrationRequest, drawn: Impostors, rows: dict[str, list[NDArray[np.float32]]]
) -> Calibration:
    encoders: dict[str, Encoder] = dict(session.judges[0])
    n = len(next(iter(rows.values())))
    if not n:
        raise EngineError(f"none of the {request.n} impostors shows a face, so no threshold can be set")
    cohort = Cohort(
        drawn.name,
        drawn.generator,
        (request.character.prompt_description,),
        {judge: encoder.sha256 for judge, encoder in encoders.items()},
        {judge: np.stack(values) for judge, values in rows.items()},
        "",
        tuple((change.node, change.input, change.value) for change in drawn.changes),
    )
    with writing(session.workspace, request.character.name):
        save_cohort(cohort, drawn.path)
    return Calibration(drawn.path, drawn.name, n, request.n - n)
