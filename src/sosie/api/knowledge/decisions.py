"""Decide: a choice goes on record with what it stands on, and is looked at again whenever decisions are listed."""

from __future__ import annotations

from dataclasses import dataclass, replace

from sosie.api.knowledge.entries import concealed
from sosie.api.knowledge.evidence import measured, premises_of, result_of
from sosie.core import Finding
from sosie.core.errors import UsageError
from sosie.core.finding import Rule, RuleError
from sosie.core.plan import asset_names, needed_stages
from sosie.knowledge.book import Book, Kept
from sosie.knowledge.days import today
from sosie.knowledge.decision import Decision, Doubt, Premise
from sosie.knowledge.doubts import doubted
from sosie.knowledge.evidence import Evidence, evidence_of
from sosie.knowledge.present import Present
from sosie.workspace.characters import load_character
from sosie.workspace.recipes import load_recipe
from sosie.workspace.session import Session

V001 = Rule("SOS-V001", "error", "A decision without evidence")
V002 = Rule("SOS-V002", "error", "The evidence of a decision does not suffice")
V003 = Rule("SOS-V003", "warning", "A decision is in doubt")

ORDER = ("doubted", "accepted", "proposed", "superseded")
"""In which decisions are listed."""


@dataclass(frozen=True)
class Choice:
    """What was chosen, and what it stands on.

    With a `recipe` it stands on the files and the calibration that this has now, and on its fields in `settings`
    (`stages.generate.sampler.cfg`); also on the files in `models`. `because` is an experiment (its name or id), of
    which `contrast` is meant. A `proposed` one needs no evidence.
    """

    title: str
    character: str = ""
    why: str = ""
    considered: tuple[str, ...] = ()
    would_change: str = ""
    because: str = ""
    contrast: str = ""
    without_evidence: str = ""
    proposed: bool = False
    recipe: str = ""
    settings: tuple[str, ...] = ()
    models: tuple[str, ...] = ()
    supersedes: str = ""


def decide(session: Session, choice: Choice) -> Kept[Decision]:
    """Puts a decision on record; one that it supersedes says so from then on.

    Raises `RuleError` (SOS-V001, V002) for one that is not proposed and shows nothing.
    """
    stands = _stands(session, choice.because, choice.contrast)
    if not choice.title.strip():
        raise UsageError("a decision has no title", 'sosie decide new "FaceID at 0.85" --because EXPERIMENT')
    if not choice.proposed:
        _expect_shown(stands.evidence, choice.without_evidence)
    character = load_character(session.workspace, choice.character).name if choice.character else ""
    decision = Decision(
        choice.title.strip(),
        today(),
        character,
        "proposed" if choice.proposed else "accepted",
        choice.why,
        choice.considered,
        choice.would_change,
        stands.evidence,
        choice.without_evidence,
        _once((*stands.premises, *_premises(session, choice, character))),
        supersedes=choice.supersedes.upper(),
    )
    with Book(session.store.folder) as book:
        old = book.find(Decision, choice.supersedes) if choice.supersedes else None
        with book.together():
            made = book.add(concealed(decision))
            if old is not None:
                book.revise(old, replace(old.noun, status="superseded", superseded_by=made.id))
        return made


def accept(
    session: Session, name: str, because: str = "", contrast: str = "", without_evidence: str = ""
) -> Kept[Decision]:
    """Accepts a decision that is proposed or doubted, on what is so now; its old doubts stay in its history.

    New evidence takes the place of the old. Of a doubted one something new must be said. Raises as `decide`, and
    `UsageError` for one that is accepted or superseded already.
    """
    stands = _stands(session, because, contrast)
    with Book(session.store.folder) as book:
        old = book.find(Decision, name)
        said = old.noun
        if said.status in ("accepted", "superseded"):
            raise UsageError(f"decision {old.id} is {said.status} already", f"sosie decide show {old.id}")
        if said.status == "doubted":
            _expect_shown(stands.evidence, without_evidence)
        else:
            _expect_shown(stands.evidence or said.evidence, without_evidence or said.without_evidence)
        present = Present(session.workspace, said.character)
        kept = [one for one in said.premises if not (stands.evidence and one.kind == "result")]
        premises = _once((*stands.premises, *(replace(one, value=present.value(one)) for one in kept)))
        new = replace(
            said,
            status="accepted",
            evidence=stands.evidence or said.evidence,
            without_evidence=without_evidence or ("" if stands.evidence else said.without_evidence),
            premises=premises,
            doubts=(),
        )
        with book.together():
            return book.revise(old, concealed(new))


def review(session: Session, character: str = "") -> tuple[Kept[Decision], ...]:
    """Every decision, looked at again: what is doubted now is so on record. The doubted ones come first."""
    with Book(session.store.folder) as book:
        kept = book.all(Decision, character)
        presents = {one.noun.character: Present(session.workspace, one.noun.character) for one in kept}
        shown = measured(session.workspace)
        looked = [(one, doubted(one.noun, presents[one.noun.character].value, shown)) for one in kept]
        with book.together():
            found = [one if noun == one.noun else book.revise(one, noun) for one, noun in looked]
    return tuple(sorted(found, key=lambda one: ORDER.index(one.noun.status)))


def history(session: Session, name: str) -> tuple[Kept[Decision], ...]:
    """Every version of a decision, the oldest first; `NotFoundError` for one that is not there."""
    with Book(session.store.folder) as book:
        return book.history(Decision, name)


def findings_of(kept: Kept[Decision]) -> tuple[Finding, ...]:
    """SOS-V003 for each doubt of a decision."""
    hint = f"sosie decide accept {kept.id} --because EXPERIMENT, or sosie decide new ... --supersedes {kept.id}"
    return tuple(V003.at(kept.id, f"{kept.id} '{kept.noun.title}': {told(doubt)}", hint) for doubt in kept.noun.doubts)


def told(doubt: Doubt) -> str:
    """A doubt in words."""
    was, now = _short(doubt.was), _short(doubt.now)
    if doubt.kind == "experiment":
        return f"experiment '{doubt.name}' excludes its interval: {doubt.now}, it stands on {doubt.was}"
    subject = {
        "calibration": "calibration of recipe",
        "judge": "weights of judge",
        "result": "result of experiment",
    }.get(doubt.kind, doubt.kind)
    return f"{subject} '{doubt.name}' is {now or 'not there any more'}, it was {was or 'not there'}"


@dataclass(frozen=True)
class _Stands:
    """The evidence that was given, and what stands behind it."""

    evidence: tuple[Evidence, ...] = ()
    premises: tuple[Premise, ...] = ()


def _stands(session: Session, because: str, contrast: str) -> _Stands:
    if not because:
        if contrast:
            raise UsageError("a contrast is one of an experiment, and none was named", "add --because EXPERIMENT")
        return _Stands()
    result = result_of(session.workspace, because)
    return _Stands((evidence_of(result, contrast),), premises_of(result))


def _once(premises: tuple[Premise, ...]) -> tuple[Premise, ...]:
    """One of each name; what stood behind the evidence wins over what is so now."""
    return tuple({(one.kind, one.name): one for one in reversed(premises)}.values())[::-1]


def _short(value: str) -> str:
    return value[:12] if len(value) == 64 else value


def _premises(session: Session, choice: Choice, character: str) -> tuple[Premise, ...]:
    present = Present(session.workspace, character)
    if choice.settings and not choice.recipe:
        raise UsageError("a setting is one of a recipe, and none was named", "add --recipe RECIPE")
    models = list(choice.models)
    found: list[Premise] = []
    if choice.recipe:
        recipe = load_recipe(session.workspace, choice.recipe)
        who = load_character(session.workspace, character) if character else None
        models = [*asset_names(needed_stages(recipe, who)), *models]
        found = [present.premise_of_setting(choice.recipe, field) for field in choice.settings]
        found.append(present.premise_of_calibration(choice.recipe))
    return (*(present.premise_of_model(name) for name in dict.fromkeys(models)), *found)


def _expect_shown(evidence: tuple[Evidence, ...], reason: str) -> None:
    if reason.strip():
        return
    if not evidence:
        hint = 'name an experiment that shows it (--because EXPERIMENT), or say why not (--without-evidence "...")'
        raise RuleError(V001, "a decision is accepted on evidence, and none was given", hint)
    for one in evidence:
        if not one.is_shown:
            message = f"experiment '{one.experiment}' left '{one.contrast}' undecided"
            raise RuleError(V002, message, "let it draw more blocks, or add --proposed")
        if one.verdict == "better" and not one.confirmed:
            message = (
                f"experiment '{one.experiment}' did not measure the winner of '{one.contrast}' again on fresh seeds: "
                "the best of several looks better than it is"
            )
            raise RuleError(V002, message, "confirm it, or add --proposed")
