"""How well a character can be told from others: the same person against impostors, by each judge, as it is shown."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sosie.core.errors import SosieError
from sosie.core.plan import needed_stages
from sosie.workspace.characters import load_character
from sosie.workspace.recipes import load_recipe

if TYPE_CHECKING:
    from sosie.scorers.identity import Gate, JudgeGate
    from sosie.workspace.bill import Bill
    from sosie.workspace.session import Session

MOST = 600
"""Values of each kind that are given: more than a plot can show apart."""

DIGITS = 4


def describe_calibration(session: Session, name: str, recipe: str = "") -> dict[str, Any]:
    """By judge: its threshold and rate, and the values of impostors, of references and of images that were drawn.

    An impostor is an image of the cohort that sets the threshold, none where the references set it. A reference is
    compared to the template of the others. Values are the judge's own; `higher_is_better` says which way is alike.
    Raises `SosieError` for names that nothing has.
    """
    from sosie.dataset.build import judging_character
    from sosie.loop.judging import hard_cohort, make_judge
    from sosie.loop.likeness import reference_likeness
    from sosie.workspace.bill import resolve

    workspace = session.workspace
    character = load_character(workspace, name)
    made_by = load_recipe(workspace, recipe or character.recipe or "mini")
    bill: Bill | None = None
    why = ""
    try:
        bill = resolve(workspace, needed_stages(made_by))
    except SosieError as error:  # a recipe whose files are not here: judged as images of unknown origin are
        why = error.message
    judge, findings = make_judge(session, character, made_by, bill)
    cohort = hard_cohort(session, character, made_by, bill) if bill is not None else None
    paths = session.reference_paths(judging_character(session, character))
    encoders = {one.encoder.name: one.encoder for one in judge.gate.judges}
    alone = reference_likeness(paths, encoders, session.detector, workspace.state / "templates")
    digests = {path: sha256 for sha256, path in paths.items()}
    drawn = _drawn(session, name, made_by.name)
    rows: list[dict[str, Any]] = []
    for one in judge.gate.judges:
        near = one.nearness(cohort) if cohort is not None else None
        likeness = alone[one.encoder.name]
        sign = 1.0 if one.higher_is_better else -1.0
        impostors = [] if near is None else [round(sign * float(value), DIGITS) for value in near]
        references = [
            {"sha256": digests[path], "value": round(float(value), DIGITS)}
            for path, value in zip(likeness.files, likeness.values, strict=True)
        ]
        rows.append(
            {
                **_limits(one),
                "impostors": impostors[:MOST],
                "references": references[:MOST],
                "drawn": drawn.get(one.encoder.name, []),
            }
        )
    return {
        "character": name,
        "recipe": made_by.name,
        "cohort": cohort.name if cohort is not None else "",
        "judges": rows,
        "absent": dict(judge.gate.absent),
        "together": _rate(judge.gate),
        "findings": [{"code": one.code, "message": one.message, "hint": one.hint} for one in findings],
        "missing": why,
    }


def _limits(judge: JudgeGate) -> dict[str, Any]:
    return {
        "name": judge.encoder.name,
        "metric": judge.encoder.metric,
        "higher_is_better": judge.higher_is_better,
        "threshold": judge.threshold,
        "basis": judge.basis,
    }


def _rate(gate: Gate) -> dict[str, Any] | None:
    """How many of the cohort pass all judges together; None where that is not known."""
    if gate.joint is None:
        return None
    return {"fmr": gate.joint.fmr, "upper95": gate.joint.upper95, "n": gate.joint.n, "cohort": gate.joint.cohort}


def _drawn(session: Session, name: str, recipe: str) -> dict[str, list[float]]:
    """By judge, what the newest images of the character by this recipe were worth."""
    from sosie.store.gallery import Gallery, Query

    found: dict[str, list[float]] = {}
    session.store  # noqa: B018 - made and migrated now
    with Gallery(session.workspace.state) as gallery:
        for shown in gallery.window(Query(character=name, recipe=recipe), 0, MOST):
            for score in shown.scores:
                if score.kind == "identity" and score.value is not None:
                    found.setdefault(score.name, []).append(round(score.value, DIGITS))
    return found
