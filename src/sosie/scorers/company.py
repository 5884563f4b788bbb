"""Several people in one picture: which face is whose, and how like each person is to their own references."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace

from sosie.core import Score
from sosie.faces.detect import Face
from sosie.scorers.identity import Gate, Identity, JudgeGate, why_not_judged
from sosie.scorers.sample import Sample
from sosie.scorers.scorer import Scale

FACES = 8
"""Faces that are looked at, the largest first."""

FAR = -10.0
"""Below any nearness of a face: less than that of the most unlike one, so that nobody is matched by nothing."""


@dataclass(frozen=True, eq=False)
class Person:
    """One of them, by name, with the gate of their own references."""

    name: str
    gate: Gate

    def called(self, judge: str) -> str:
        """What this person's score by a judge is called."""
        return f"{self.name}: {judge}"


@dataclass(frozen=True, eq=False)
class Company:
    """The people of a picture. As a scorer: identity of each of them, by the judges of their gates.

    Faces are shared out so that the sum of nearness over all people is the largest; each face is one person's. A person
    for whom no face is left has no score, and why. Strangers are the framing's matter.
    """

    persons: tuple[Person, ...]
    name: str = "company"
    needs: tuple[str, ...] = ()

    @property
    def scales(self) -> tuple[Scale, ...]:
        """Those of each person, in their order."""
        return tuple(
            replace(scale, name=person.called(scale.name))
            for person in self.persons
            for scale in Identity(person.gate).scales
        )

    def score(self, sample: Sample, /) -> list[Score]:
        """Of each person, by each judge."""
        seen = [face for face in sample.faces if not why_not_judged(face)]
        made: list[Score] = []
        for person, face in zip(self.persons, self._shared_out(sample, seen), strict=True):
            own = Sample(sample.pixels, () if face is None else (face,), sample.prompt, None, sample.picture)
            made += [_of(person, score) for score in Identity(person.gate).score(own)]
        return made

    def _shared_out(self, sample: Sample, faces: Sequence[Face]) -> list[Face | None]:
        """The face of each person, or None."""
        largest = sorted(faces, key=lambda face: face.box[2] * face.box[3], reverse=True)[:FACES]
        nearness = [self._nearness(sample, face) for face in largest]
        count = len(self.persons)
        nobodys = range(len(largest), len(largest) + count)
        best = max(
            itertools.permutations([*range(len(largest)), *nobodys], count),
            key=lambda places: sum(
                nearness[place][person] if place < len(largest) else FAR for person, place in enumerate(places)
            ),
        )
        return [largest[place] if place < len(largest) else None for place in best]

    def _nearness(self, sample: Sample, face: Face) -> list[float]:
        """Of a face to each person: the sum over the judges of how far it is on the right side of their threshold."""
        own = Sample(sample.pixels, (face,), sample.prompt, None, sample.picture)
        return [sum(_lead(judge, own) for judge in person.gate.judges) for person in self.persons]


def _lead(judge: JudgeGate, sample: Sample) -> float:
    value, threshold = judge.measure(sample.embedding(judge.encoder)), judge.threshold or 0.0
    return max(FAR, value - threshold if judge.higher_is_better else threshold - value)


def _of(person: Person, score: Score) -> Score:
    reason = f"{person.name}: {score.reason}" if score.reason else ""
    return replace(score, name=person.called(score.name), reason=reason)
