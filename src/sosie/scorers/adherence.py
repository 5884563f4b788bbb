"""Prompt adherence: how many of the attributes that a prompt names can be seen in the image."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sosie.scorers.attributes import Attribute, AttributeClassifier
from sosie.scorers.scorer import Scale

if TYPE_CHECKING:
    from sosie.core.score import Score
    from sosie.scorers.sample import Sample

ADHERENCE = Scale("adherence", None, "share of what the prompt names", 0.0, 1.0, higher_is_better=True, kind="prompt")

NEGATIONS = frozenset({"no", "not", "without", "never"})


@dataclass(frozen=True)
class Answer:
    """One attribute that the prompt names: the value asked for with its probability, and the likeliest in the image."""

    attribute: str
    asked: str
    seen: str
    probability: float

    @property
    def is_met(self) -> bool:
        """Whether what was asked for is what is seen."""
        return self.asked == self.seen


@dataclass(frozen=True)
class Adherence:
    """The share, 0 to 1, of the named attributes that are seen as asked; None when nothing could be measured, and why.

    It says nothing of what the classifier has no words for. No gate uses it.
    """

    value: float | None
    reason: str = ""
    answers: tuple[Answer, ...] = ()


@dataclass(frozen=True, eq=False)
class PromptAdherence:
    """The scorer of adherence, by the classifier that a model brings (None: no value). It passes and fails nothing."""

    classifier: AttributeClassifier | None
    name: str = "adherence"
    needs: tuple[str, ...] = ("onnxruntime",)
    scales: tuple[Scale, ...] = (ADHERENCE,)

    def score(self, sample: Sample, /) -> list[Score]:
        """`adherence`: the share, 0 to 1, of the attributes named in the sample's prompt that are seen as asked."""
        found = score_adherence(sample, sample.prompt, self.classifier)
        if found.value is None:
            return [ADHERENCE.unmeasured(found.reason)]
        unmet = (f"{one.attribute}: {one.asked} asked, {one.seen} seen" for one in found.answers if not one.is_met)
        return [ADHERENCE.score(found.value, "; ".join(unmet))]


def score_adherence(sample: Sample, prompt: str, classifier: AttributeClassifier | None) -> Adherence:
    """The adherence of one image to its (positive, final) prompt.

    None without a classifier: it knows one model's pictures, and a model that brings none has none
    until the user names a file. None too for a prompt that names nothing that the classifier knows.
    """
    if classifier is None:
        return Adherence(None, "the model brings no attribute classifier and none was named")
    wanted = asked_for(prompt, classifier.attributes)
    if not wanted:
        known = ", ".join(attribute.name for attribute in classifier.attributes)
        return Adherence(None, f"the prompt names nothing that the classifier knows ({known})")
    seen = classifier.see(sample.pixels)
    answers = tuple(
        Answer(name, value, max(seen[name], key=lambda one, name=name: seen[name][one]), round(seen[name][value], 4))
        for name, value in wanted.items()
    )
    return Adherence(sum(answer.is_met for answer in answers) / len(answers), "", answers)


def asked_for(prompt: str, attributes: Sequence[Attribute]) -> dict[str, str]:
    """What a prompt asks for: attribute name to value name, for the attributes that it names.

    Phrases are looked for as whole words between the prompt's commas; the longest counts ("short
    beard", not "beard"), of equally long ones the first. A part with a negation ("not smiling")
    counts only for phrases that hold it themselves. Weights such as `(smiling:1.2)` do not matter.
    """
    parts = [" ".join(re.findall(r"[a-z]+", part.lower())) for part in prompt.split(",")]
    wanted: dict[str, str] = {}
    for attribute in attributes:
        found = [
            (-distance, len(phrase), -place, value.name)
            for place, part in enumerate(parts)
            for value in attribute.values
            for phrase in value.phrases
            if (distance := _distance(part, phrase, attribute.near)) is not None
        ]
        if found:
            wanted[attribute.name] = max(found, key=lambda item: item[:3])[3]
    return wanted


def _distance(part: str, phrase: str, near: Sequence[str]) -> int | None:
    """Words, at most two, between the phrase and one of `near` behind it (0 where none is needed); None: not said."""
    if NEGATIONS & (set(part.split()) - set(phrase.split())):
        return None
    behind = rf"((?: \w+){{0,2}}?) (?:{'|'.join(map(re.escape, near))})\b" if near else "()"
    match = re.search(rf"\b{re.escape(phrase)}\b{behind}", part)
    return len(match[1].split()) if match else None
