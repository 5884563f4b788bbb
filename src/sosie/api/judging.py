"""The judge of a character: references, cohorts and rules brought together."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from sosie.api.session import Session
from sosie.core import Character, Finding, Recipe
from sosie.core.errors import BadImageError, NotFoundError, SosieError
from sosie.core.plan import without_guides
from sosie.core.schema import digest
from sosie.faces.encoders import template
from sosie.files.images import read_image
from sosie.files.library import find_model
from sosie.loop.judge import Judge
from sosie.scorers.cohort import Cohort, load_cohort
from sosie.scorers.identity import Guidance, build_gate

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from sosie.faces.encoders import Encoder


@dataclass(frozen=True, eq=False)
class Bench:
    """A judge, and what the user should know of it."""

    judge: Judge
    findings: tuple[Finding, ...]


def make_judge(session: Session, character: Character, recipe: Recipe, assets: Mapping[str, str] | None) -> Bench:
    """The judge for images of `character` made by `recipe`.

    `assets` are the digests of the recipe's files, or None for images of unknown origin: then no
    encoder is known to have guided them, and a failing image is rejected, not retried.
    """
    encoders, absent = session.judges
    guides = _guides(recipe, assets) if assets is not None else ()
    own, stale = _own_cohort(session, character, recipe, assets)
    shipped = _shipped_cohort(session, recipe)
    templates = _templates(session, character, encoders)
    gate = build_gate(templates, absent, guides, (own or shipped, shipped), recipe.acceptance.fmr)
    judge = Judge(session.detector, gate, recipe.acceptance, retryable=assets is not None)
    findings = [*stale, *(_absent(name, why, recipe) for name, why in gate.absent.items())]
    for entry in gate.judges:
        if entry.threshold is None:
            message = f"judge '{entry.encoder.name}' has no threshold: no cohort of recipe '{recipe.name}' knows it"
            hint = f"sosie calibrate {character.name} --recipe {recipe.name}"
            findings.append(Finding("SOS-J002", "error", character.name, message, hint))
    return Bench(judge, tuple(findings))


def calibration_path(session: Session, character: Character, recipe: Recipe) -> Path:
    """Where a character's own cohort for a recipe lies."""
    return session.workspace.character_folder(character.name) / "calibration" / f"{recipe.name}.npz"


def generator_digest(recipe: Recipe, assets: Mapping[str, str]) -> str:
    """What renders the impostors of a recipe: its stages without guides, and their weights."""
    stages = without_guides(recipe).stages
    return digest([stages, [assets.get(stage.model, "") for stage in stages]])


def _guides(recipe: Recipe, assets: Mapping[str, str]) -> tuple[Guidance, ...]:
    names = dict.fromkeys(guide.encoder for stage in recipe.stages for guide in stage.guides)
    return tuple(Guidance(name, assets[name]) for name in names)


def _own_cohort(
    session: Session, character: Character, recipe: Recipe, assets: Mapping[str, str] | None
) -> tuple[Cohort | None, list[Finding]]:
    """The character's cohort if it is still true of them, else a finding that says why not."""
    path = calibration_path(session, character, recipe)
    if not path.exists():
        return None, []
    hint = f"sosie calibrate {character.name} --recipe {recipe.name}"
    try:
        cohort = load_cohort(path)
    except SosieError as error:
        return None, [Finding("SOS-J003", "warning", character.name, error.message, hint)]
    why = ""
    if cohort.description != character.prompt_description:
        why = "the description has changed"
    elif assets is not None and cohort.generator != generator_digest(recipe, assets):
        why = f"recipe '{recipe.name}' or its model has changed"
    if why:
        message = f"the calibration of '{character.name}' is out of date ({why}); the shipped cohort is used"
        return None, [Finding("SOS-J003", "warning", character.name, message, hint)]
    return cohort, []


def _shipped_cohort(session: Session, recipe: Recipe) -> Cohort | None:
    try:
        path = find_model(session.workspace, recipe.stages[0].model).cohort
    except NotFoundError:
        return None
    return load_cohort(path) if path is not None else None


def _templates(
    session: Session, character: Character, encoders: Mapping[str, Encoder]
) -> dict[str, tuple[Encoder, NDArray[np.float32]]]:
    """Each judge's template: the mean over the faces of all references."""
    pixels = [np.asarray(read_image(path)) for path in session.reference_paths(character).values()]
    faces = [(image, found[0]) for image in pixels if (found := session.detector.detect(image))]
    if not faces:
        raise BadImageError(
            f"no face was found in any of the {len(pixels)} references of '{character.name}'",
            f"sosie new {character.name} IMAGES... --replace",
        )
    return {
        name: (encoder, template(encoder.metric, [encoder.embed(image, face) for image, face in faces]))
        for name, encoder in encoders.items()
    }


def _absent(name: str, why: str, recipe: Recipe) -> Finding:
    severity = "error" if name in recipe.acceptance.judges else "info"
    finding = Finding("SOS-J001", "info", name, f"judge '{name}' does not judge: {why}")
    return replace(finding, severity=severity)
