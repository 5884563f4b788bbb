"""The judge of a character: references, cohorts and rules brought together."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from sosie.core import Character, Finding, Plan, Recipe
from sosie.core.errors import NotFoundError, SosieError
from sosie.core.finding import Rule
from sosie.core.plan import without_guides
from sosie.core.schema import digest
from sosie.engines import DEFAULT
from sosie.engines.comfy.workflow import Workflow, drawing_digest, with_changes
from sosie.faces.templates import judge_templates
from sosie.graph.guides import guide_node
from sosie.graph.without_character import InputChange
from sosie.loop.copies import copies_of
from sosie.loop.judge import Judge
from sosie.loop.likeness import Likeness, reference_likeness
from sosie.scorers.accessories import STRICTER, Templates, Worn, match, suspect
from sosie.scorers.adherence import PromptAdherence
from sosie.scorers.cohort import Cohort, load_cohort, nearest_in_description
from sosie.scorers.company import Company, Person
from sosie.scorers.identity import (
    MIN_REFERENCES,
    Gate,
    Guidance,
    JudgeGate,
    build_gate,
    set_by_references,
    withdraw_rates,
)
from sosie.scorers.plugged import Plugged, plugged_scorers
from sosie.scorers.scorer import Scorer
from sosie.workspace.bill import Bill
from sosie.workspace.characters import calibration_file
from sosie.workspace.library import find_model
from sosie.workspace.session import Session

if TYPE_CHECKING:
    from PIL.Image import Image

J001 = Rule("SOS-J001", "info", "A judge does not judge")
J002 = Rule("SOS-J002", "error", "A judge has no threshold")
J003 = Rule("SOS-J003", "warning", "A calibration is out of date or damaged")
J004 = Rule("SOS-J004", "info", "A shipped cohort sets the thresholds")
J005 = Rule("SOS-J005", "warning", "The references set the thresholds")
J007 = Rule("SOS-J007", "info", "A scorer of another package measures nothing")
J008 = Rule("SOS-J008", "error", "No attempt can pass with the given picture")
J009 = Rule("SOS-J009", "warning", "The references wear what makes strangers alike")

NEAREST = 300


@dataclass(frozen=True, eq=False)
class ImageSource:
    """What makes the images that are judged: an engine, and the user's own workflow in place of a recipe."""

    engine: str = DEFAULT
    workflow: Workflow | None = None


def make_judge(
    session: Session,
    character: Character,
    recipe: Recipe,
    bill: Bill | None,
    maker: ImageSource | None = None,
) -> tuple[Judge, tuple[Finding, ...]]:
    """The judge for images of `character` made by `recipe`, and what the user should know of it.

    `bill` is the recipe's (of a workflow an empty one), or None for images of unknown origin: then no
    encoder is known to have guided them, and a failing image is rejected, not retried. `maker` is what the
    commands in findings' hints are to name. A judge that no cohort knows has its threshold from the references.
    """
    from sosie.dataset.build import judging_character

    if character.cast:
        return _judge_of_company(session, character, recipe, bill, maker)
    encoders, absent = session.judges
    maker = maker or ImageSource()
    guides = _guides(bill) if bill is not None else ()
    if maker.workflow is not None:
        shipped, (own, stale, again) = None, _workflow_cohort(session, character, maker.workflow)
        maker = replace(maker, workflow=again)
    else:
        shipped, (own, stale) = _shipped_cohort(session, recipe, bill), _own_cohort(session, character, recipe, bill)
    command = calibrate_command(character, recipe, maker)
    untrained = judging_character(session, character)
    paths, folder = session.reference_paths(untrained), session.workspace.state / "templates"
    templates = judge_templates(untrained, paths, encoders, session.detector, folder)
    hard = own or (shipped and nearest_in_description(shipped, character.prompt_description, NEAREST))
    gate, worn = _gate(templates, absent, guides, (hard, shipped), recipe.acceptance.fmr)
    alone = reference_likeness(
        paths, {judge.encoder.name: judge.encoder for judge in gate.open}, session.detector, folder
    )
    gate = set_by_references(gate, {name: likeness.values for name, likeness in alone.items()})
    findings = [_absent(name, why, recipe) for name, why in gate.absent.items()]
    if stale:
        instead = "the shipped cohort is" if shipped else "the references are" if gate.unrated else "nothing is"
        message = f"the calibration of '{character.name}' cannot be used ({stale}); {instead} used in its place"
        findings.insert(0, J003.at(character.name, message, command))
    if own is None and shipped is not None:
        message = (
            f"'{character.name}' is judged by the shipped cohort ({shipped.name}), not by people of its description"
        )
        findings.append(J004.at(character.name, message, command))
    findings += _without_cohort(character, recipe, gate, alone, command)
    findings += [_worn(character, one) for one in worn]
    judge = Judge(
        session.detector,
        gate,
        recipe.acceptance,
        retryable=bill is not None,
        mends=bool(recipe.repair),
        reported=(*_reported(recipe, bill), *_copies(session, character, untrained, bill)),
        plugged=plugged_scorers(),
    )
    findings += [_measures_nothing(one, judge) for one in judge.plugged if one.why_not]
    return judge, tuple(findings)


def _judge_of_company(
    session: Session, character: Character, recipe: Recipe, bill: Bill | None, maker: ImageSource | None
) -> tuple[Judge, tuple[Finding, ...]]:
    """The judge of a picture of several: each by what `make_judge` gives for them alone. None of them is mended."""
    made = [make_judge(session, person, recipe, bill, maker) for person in character.cast]
    people = zip(character.cast, made, strict=True)
    company = Company(tuple(Person(person.name, judge.gate) for person, (judge, _) in people))
    judge = replace(made[0][0], company=company, mends=False, reported=_reported(recipe, bill))
    return judge, tuple(dict.fromkeys(finding for _, told in made for finding in told))


def hard_cohort(session: Session, character: Character, recipe: Recipe, bill: Bill) -> Cohort | None:
    """The impostors that the thresholds of `make_judge` come from; None where the references set them."""
    own, _ = _own_cohort(session, character, recipe, bill)
    shipped = None if own else _shipped_cohort(session, recipe, bill)
    return own or (nearest_in_description(shipped, character.prompt_description, NEAREST) if shipped else None)


def _gate(
    templates: Templates,
    absent: Mapping[str, str],
    guides: tuple[Guidance, ...],
    cohorts: tuple[Cohort | None, Cohort | None],
    fmr: float,
) -> tuple[Gate, tuple[Worn, ...]]:
    """The gate, and what the references wear: then the cohort is matched, stricter, and no rate is known.

    Where they may wear something, the cohort stays as it is, and no rate is known either.
    """
    hard = cohorts[0]
    if hard is None:
        return build_gate(templates, absent, guides, cohorts, fmr), ()
    matched, worn = match(hard, templates)
    if worn:
        gate = build_gate(templates, absent, guides, (matched, None), fmr * STRICTER)
        return withdraw_rates(gate, matched.name), worn
    gate = build_gate(templates, absent, guides, cohorts, fmr)
    doubt = suspect(hard, templates)
    if doubt is None:
        return gate, ()
    return withdraw_rates(gate, f"{hard.name}, though the references may have {doubt.shift.name}"), (doubt,)


def check_given(judge: Judge, image: Image, plan: Plan) -> list[Finding]:
    """SOS-J008 if the faces of a given picture (RGB) fail what is required and no stage of the plan draws others."""
    if any(stage.kind not in ("detail", "upscale") for stage in plan.stages):
        return []
    hint = "crop the picture to the character, or copy the recipe and leave the check out of acceptance.defects"
    return [J008.at("the given picture", f"no attempt can pass: {why}", hint) for why in judge.hopeless(image)]


def calibrate_command(character: Character, recipe: Recipe, maker: ImageSource) -> str:
    """The command that makes the cohort for such images."""
    words = ["sosie", "calibrate", character.name]
    if maker.workflow is not None:
        words += ["--workflow", str(maker.workflow.path)]
        words += [word for setting in maker.workflow.settings for word in ("--set", setting)]
    else:
        words += ["--recipe", recipe.name]
    return shlex.join(words if maker.engine == DEFAULT else [*words, "--engine", maker.engine])


def calibration_path(session: Session, character: Character, recipe: Recipe) -> Path:
    """Where a character's own cohort for a recipe lies."""
    return calibration_file(session.workspace, character.name, recipe.name)


def workflow_cohorts(session: Session, character: Character) -> Path:
    """The folder of a character's cohorts for workflows, each named by the digest of what drew it."""
    return session.workspace.character_folder(character.name) / "calibration" / "workflows"


def workflow_cohort_name(character: Character, workflow: Workflow) -> str:
    """How a cohort calls itself that a workflow of this file name drew."""
    return f"{character.name}/{workflow.path.name}"


def generator_digest(recipe: Recipe, assets: Mapping[str, str]) -> str:
    """What renders the impostors of a recipe: its stages without guides, and their weights."""
    stages = without_guides(recipe).stages
    return digest([stages, [assets.get(stage.model, "") for stage in stages]])


def _guides(bill: Bill) -> tuple[Guidance, ...]:
    names = dict.fromkeys(guide.encoder for stage in bill.stages for guide in stage.guides if guide.encoder)
    return tuple(Guidance(name, bill.digests[name]) for name in names)


def _own_cohort(session: Session, character: Character, recipe: Recipe, bill: Bill | None) -> tuple[Cohort | None, str]:
    """The character's cohort if it is still true of them, else None and why (empty: there never was one)."""
    path = calibration_path(session, character, recipe)
    if not path.exists():
        return None, ""
    try:
        cohort = load_cohort(path)
    except SosieError as error:
        return None, error.message
    if cohort.descriptions != (character.prompt_description,):
        return None, "the description has changed"
    if bill is not None and cohort.generator != generator_digest(recipe, bill.digests):
        return None, f"recipe '{recipe.name}' or its model has changed"
    return cohort, ""


def _workflow_cohort(session: Session, character: Character, workflow: Workflow) -> tuple[Cohort | None, str, Workflow]:
    """The newest cohort that this graph drew, less what was taken out of it; else None and why, as for a recipe.

    Beside it the workflow with the settings that are to be calibrated by.
    """
    why, again = "", workflow
    folder = workflow_cohorts(session, character)
    for path in sorted(folder.glob("*.npz"), key=lambda path: path.stat().st_mtime, reverse=True):
        try:
            cohort = load_cohort(path)
            drew = _drew(workflow, cohort)
        except SosieError as error:
            why = why or (error.message if path.stem == drawing_digest(workflow)[:16] else "")
            continue
        if drew and cohort.descriptions == (character.prompt_description,):
            return cohort, "", workflow
        if drew or (not why and cohort.name == workflow_cohort_name(character, workflow)):
            changed = f"the graph of {workflow.path.name}, or what --set says of it, has changed"
            why, again = "the description has changed" if drew else changed, _set_again(workflow, cohort)
    return None, why, again


def _set_again(workflow: Workflow, cohort: Cohort) -> Workflow:
    """The workflow with those settings of an older calibration that Sosie would not find by itself."""
    nodes = workflow.compiler.graph.nodes
    changes = [InputChange(*change) for change in cohort.changes]
    kept = [one for one in changes if one.node in nodes and one.is_setting]
    settings = [one.text for one in kept if guide_node(nodes[one.node].kind) is None]
    return replace(workflow, settings=tuple(dict.fromkeys((*workflow.settings, *settings))))


def _drew(workflow: Workflow, cohort: Cohort) -> bool:
    """Whether a cohort is of this workflow without what was taken out then."""
    changes = [InputChange(*change) for change in cohort.changes]
    if any(change.node not in workflow.compiler.graph.nodes for change in changes):
        return False
    return drawing_digest(with_changes(workflow, changes)) == cohort.generator


def _shipped_cohort(session: Session, recipe: Recipe, bill: Bill | None) -> Cohort | None:
    """The cohort that the model of the recipe's first stage brings, if it does."""
    name = recipe.stages[0].model
    try:
        found = bill[name].installed if bill and name in bill.entries else find_model(session.workspace, name)
    except NotFoundError:
        return None
    return load_cohort(found.cohort) if found is not None and found.cohort is not None else None


def _reported(recipe: Recipe, bill: Bill | None) -> tuple[Scorer, ...]:
    """Adherence to the prompt, where the model of the first stage brings its attributes: 4 % of the defects' time."""
    from sosie.dataset.build import open_classifier

    name = recipe.stages[0].model
    model = bill[name].installed if bill and name in bill.entries else None
    return (PromptAdherence(open_classifier(model.attributes)),) if model and model.attributes else ()


def _copies(session: Session, character: Character, untaught: Character, bill: Bill | None) -> tuple[Scorer, ...]:
    """Whether images repeat what guided them, where it is known what did."""
    found = copies_of(session, character, untaught, bill) if bill is not None else None
    return (found,) if found else ()


def _without_cohort(
    character: Character, recipe: Recipe, gate: Gate, alone: Mapping[str, Likeness], command: str
) -> list[Finding]:
    """SOS-J005 for the judges that the references set, SOS-J002 for those that nothing sets."""
    findings: list[Finding] = []
    if judges := [judge for judge in gate.unrated if judge.encoder.name in alone]:
        set_by = ", ".join(_bound(judge, alone[judge.encoder.name]) for judge in judges)
        message = (
            f"'{character.name}' is judged by how alike the references are to each other ({set_by}); "
            "how many strangers would pass is unknown"
        )
        findings.append(J005.at(character.name, message, command))
    for judge in gate.open:
        name = judge.encoder.name
        message = (
            f"judge '{name}' has no threshold: no cohort of '{recipe.name}' knows it, and of the references "
            f"{len(alone[name].files)} can be compared to each other; expected at least {MIN_REFERENCES}"
        )
        findings.append(J002.at(character.name, message, command))
    return findings


def _bound(judge: JudgeGate, likeness: Likeness) -> str:
    word = "at least" if judge.higher_is_better else "at most"
    least = likeness.least(judge.higher_is_better)
    return f"{judge.encoder.name} {word} {judge.threshold:.4f}, as {least} of {len(likeness.files)}"


def _worn(character: Character, worn: Worn) -> Finding:
    seem = "look as if all had" if worn.is_sure else "may all have"
    done = "the cohort is matched, and how many strangers pass" if worn.is_sure else "how many strangers pass"
    message = (
        f"the references of '{character.name}' {seem} {worn.shift.name} ({worn.deviations:.1f} standard deviations "
        f"from bare faces), which makes strangers with the same alike: {done} is unknown"
    )
    finding = J009.at(character.name, message, "give references without it too, half of them at least")
    return finding if worn.is_sure else replace(finding, severity="info")


def _measures_nothing(scorer: Plugged, judge: Judge) -> Finding:
    severity = "error" if judge.requires(scorer) else "info"
    message = f"{scorer.source} measures nothing: {scorer.why_not}"
    return replace(
        J007.at(scorer.name, message, "install what it needs, update it, or uninstall it"), severity=severity
    )


def _absent(name: str, why: str, recipe: Recipe) -> Finding:
    severity = "error" if name in recipe.acceptance.judges else "info"
    finding = J001.at(name, f"judge '{name}' does not judge: {why}")
    return replace(finding, severity=severity)
