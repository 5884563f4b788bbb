"""Whether a prompt's words can mean something to what reads them: there are some, and they point at no picture."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Literal

from sosie.core import Finding, Plan, Stage
from sosie.core.finding import Rule
from sosie.core.notation import plain
from sosie.families import find_family, guides_of
from sosie.files.model_file import Known
from sosie.workspace.bill import Bill

R036 = Rule("SOS-R036", "warning", "Nothing says what to draw")
R037 = Rule("SOS-R037", "warning", "A prompt points at a picture that its text encoder does not see")

Pointing = Literal["slot", "count", "picture"]

PICTURE = r"(?:image|picture|photo|photograph)"
NUMBER = r"(?:[1-9]|one|two|three|four|deux|trois)"
ORDINAL = r"(?:first|second|third|1st|2nd|3rd|première|seconde|deuxième|troisième)"
GIVEN = r"(?:reference|input|source|attached|provided|given|uploaded)"
ENDS = r"(?=\s*(?:[,.;:!?)]|$))"
"""What follows words that stand alone: 'the face from the reference', and no 'reference library'."""


def _words(text: str) -> re.Pattern[str]:
    return re.compile(rf"(?<!\w)(?:{text})(?!\w)", re.IGNORECASE)


POINTS: tuple[tuple[Pointing, re.Pattern[str]], ...] = (
    ("slot", _words(r"image_?[1-9]")),
    ("count", _words(rf"{PICTURE} (?:no\.? ?|number )?{NUMBER}|{ORDINAL} {PICTURE}")),
    (
        "picture",
        _words(
            rf"{GIVEN} {PICTURE}s?|{PICTURE}s? (?:de référence|ci-dessus|jointe|fournie)"
            rf"|{PICTURE}s? (?:above|below|provided|attached){ENDS}|(?:in|from|like|as) the reference{ENDS}"
        ),
    ),
)
"""Words that point at pictures, the more particular first, in English and French."""

WHY: dict[Pointing, str] = {
    "slot": "that is the name of a node's input; as a word it is drawn, if at all, as lettering",
    "count": "pictures are counted for models that were trained on several; here none is numbered",
    "picture": "the words stand alone, and no face comes with them",
}


def check_words(plan: Plan, bill: Bill) -> list[Finding]:
    """SOS-R036 and R037 for the final text of each stage that draws by words."""
    findings: list[Finding] = []
    for stage in plan.stages:
        family = find_family(stage.family)
        if stage.kind == "upscale" or family is None or _is_shown(stage, bill):
            continue
        text = plain(stage.prompt or plan.prompt)
        if text.strip():
            findings += _pointing(stage, plan.recipe, text, family.title)
        else:
            findings.append(_empty(stage, plan.recipe, plan.source))
    return list(dict.fromkeys(findings))


def _empty(stage: Stage, recipe: str, source: str) -> Finding:
    shown = ", and no word stands in for the picture that is not seen" if _is_referred(stage) and not source else ""
    message = f"stage {stage.kind}: the final prompt is empty{shown}: nothing says what to draw"
    return R036.at(recipe, message, "write a prompt, or {description} into the recipe's")


def _pointing(stage: Stage, recipe: str, text: str, title: str) -> Iterator[Finding]:
    for kind, pattern in POINTS:
        if found := pattern.search(text):
            said = f"stage {stage.kind}: the prompt says '{found[0]}', and {title}'s text encoder sees no picture"
            hint = "say in words what the person looks like; a LoRA of the character knows it"
            yield R037.at(recipe, f"{said}: {WHY[kind]}", hint)
            return


def _is_referred(stage: Stage) -> bool:
    """Whether a guide of the stage gives the model reference images."""
    takes = guides_of(stage.family).references
    return takes is not None and bool(takes.guide) and any(guide.kind == takes.guide for guide in stage.guides)


def _is_shown(stage: Stage, bill: Bill) -> bool:
    """Whether the stage's model is shown pictures that words can point at."""
    known = guides_of(stage.family)
    if "images" in known.takes or known.references is None:
        return "images" in known.takes
    entry = bill.entries.get(stage.model) if _is_referred(stage) else None
    identity = entry.contents.identity if entry is not None and entry.path is not None else None
    return isinstance(identity, Known) and identity.model.variant == known.references.variant
