"""The judge of a character: references, cohorts and rules brought together."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from sosie.api.session import Session
from sosie.api.templates import judge_templates
from sosie.core import Character, Finding, Recipe
from sosie.core.errors import NotFoundError, SosieError
from sosie.core.plan import needed_stages, without_guides
from sosie.core.schema import digest
from sosie.files.library import find_model
from sosie.loop.judge import Judge
from sosie.scorers.cohort import Cohort, load_cohort, nearest_in_description
from sosie.scorers.identity import Guidance, build_gate

NEAREST = 300


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
    from sosie.api.datasets import judging_character

    encoders, absent = session.judges
    guides = _guides(recipe, assets) if assets is not None else ()
    own, stale = _own_cohort(session, character, recipe, assets)
    shipped = _shipped_cohort(session, recipe)
    untrained = judging_character(session, character)
    paths, folder = session.reference_paths(untrained), session.workspace.state / "templates"
    templates = judge_templates(untrained, paths, encoders, session.detector, folder)
    hard = own or (shipped and nearest_in_description(shipped, character.prompt_description, NEAREST))
    gate = build_gate(templates, absent, guides, (hard, shipped), recipe.acceptance.fmr)
    judge = Judge(session.detector, gate, recipe.acceptance, assets is not None, mends=bool(recipe.repair))
    findings = [*stale, *(_absent(name, why, recipe) for name, why in gate.absent.items())]
    if own is None and shipped is not None:
        message = (
            f"'{character.name}' is judged by the shipped cohort ({shipped.name}), not by people of its description"
        )
        hint = f"sosie calibrate {character.name} --recipe {recipe.name}"
        findings.append(Finding("SOS-J004", "info", character.name, message, hint))
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
    names = dict.fromkeys(guide.encoder for stage in needed_stages(recipe) for guide in stage.guides)
    return tuple(Guidance(name, assets[name]) for name in names if name in assets)


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
    if cohort.descriptions != (character.prompt_description,):
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


def _absent(name: str, why: str, recipe: Recipe) -> Finding:
    severity = "error" if name in recipe.acceptance.judges else "info"
    finding = Finding("SOS-J001", "info", name, f"judge '{name}' does not judge: {why}")
    return replace(finding, severity=severity)
