"""The identity scorer: how like the character, by judges that did not guide the image.

A judge's threshold comes from a cohort of impostors. Where no cohort knows it, it may come from the character's
own references, each compared to the template of the others: that bounds how much less alike than the least alike
reference an image may be, and says nothing of impostors.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from sosie.core import Calibrated, CohortRate, Score
from sosie.core.schema import digest
from sosie.faces.encoders import Metric, similarity
from sosie.faces.encoders import template as template_of
from sosie.scorers.cohort import STEP, Cohort, choose_thresholds, rate
from sosie.scorers.scorer import Scale

if TYPE_CHECKING:
    from sosie.faces.detect import Face
    from sosie.faces.encoders import Encoder
    from sosie.scorers.sample import Sample

MAX_YAW = 60.0
MIN_INTEROCULAR = 12.0

MIN_REFERENCES = 4
"""References that a threshold needs at least: with so many, one in five images that are as alike falls below it."""


@dataclass(frozen=True)
class Guidance:
    """An encoder that guided the image: the name its recipe uses and the SHA-256 of its weights."""

    name: str
    sha256: str


@dataclass(frozen=True, eq=False)
class JudgeGate:
    """One judge, the character's template [d] in its space, and its threshold (None: nothing to set it by).

    `basis` says what set it where it was no cohort of people as they are: then no rate is known.
    """

    encoder: Encoder
    template: NDArray[np.float32]
    threshold: float | None
    rate: CohortRate | None
    basis: str = ""

    @property
    def higher_is_better(self) -> bool:
        """Cosine similarities rise with likeness, distances fall."""
        return self.encoder.metric == "cosine"

    def measure(self, embedding: NDArray[np.float32]) -> float:
        """The judge's value for one face."""
        return similarity(self.encoder.metric, self.template, embedding)

    def nearness(self, cohort: Cohort) -> NDArray[np.float64] | None:
        """How near each of a cohort's n faces is, [n], so that more is nearer; None if it does not know the judge."""
        return _oriented(self, _cohort_scores(cohort, self)) if _knows(cohort, self) else None


@dataclass(frozen=True, eq=False)
class Gate:
    """Everything that identity is judged by: the same gate gives the same scores for an image.

    `absent` names judges that cannot judge and why (not installed, or they guided the image).
    `joint` is the share of the cohort that passes all judges together, `others` the same against
    other people; judges that the cohort does not know can only lower it.
    """

    judges: tuple[JudgeGate, ...]
    absent: Mapping[str, str]
    guided_by: tuple[str, ...] = ()
    joint: CohortRate | None = None
    others: CohortRate | None = None

    @cached_property
    def id(self) -> str:
        """SHA-256 over judges, templates and thresholds."""
        parts = [
            [
                g.encoder.name,
                g.encoder.sha256,
                g.template.round(6).tobytes().hex(),
                g.threshold,
                *filter(None, [g.basis]),
            ]
            for g in self.judges
        ]
        return digest([parts, dict(self.absent), list(self.guided_by), self.joint, self.others])

    @property
    def open(self) -> tuple[JudgeGate, ...]:
        """The judges without a threshold."""
        return tuple(gate for gate in self.judges if gate.threshold is None)

    @property
    def unrated(self) -> tuple[JudgeGate, ...]:
        """The judges with a threshold and a `basis`: how many strangers pass them is not known."""
        return tuple(gate for gate in self.judges if gate.basis)


def build_gate(
    templates: Mapping[str, tuple[Encoder, NDArray[np.float32]]],
    absent: Mapping[str, str],
    guides: tuple[Guidance, ...],
    cohorts: tuple[Cohort | None, Cohort | None],
    fmr: float,
) -> Gate:
    """The gate for a character.

    `templates` maps each installed judge to its encoder and the character's template; `cohorts`
    are the one that sets the thresholds and the one of other people (either may be missing).
    A judge whose weights guided the image, or that the cohort does not know, does not judge.
    """
    names = tuple(guide.name for guide in guides)
    guiding = {guide.sha256: guide.name for guide in guides}
    hard, others = cohorts
    absent = dict(absent)
    open_judges: dict[str, JudgeGate] = {}
    for name, (encoder, template) in templates.items():
        if encoder.sha256 in guiding:
            absent[name] = f"it guided the image (as {guiding[encoder.sha256]}), so it cannot judge it"
        else:
            open_judges[name] = JudgeGate(encoder, template, None, None)
    known = {name: gate for name, gate in open_judges.items() if hard is not None and _knows(hard, gate)}
    if hard is None or not known:
        return Gate(tuple(open_judges.values()), absent, names)
    scores = {name: _cohort_scores(hard, gate) for name, gate in known.items()}
    thresholds = choose_thresholds({name: _oriented(known[name], values) for name, values in scores.items()}, fmr)
    gated = {
        name: replace(gate, threshold=_threshold(gate, thresholds[name])) if name in known else gate
        for name, gate in open_judges.items()
    }
    gated = {
        name: replace(gate, rate=rate(hard.name, _passes(gate, scores[name]))) if name in known else gate
        for name, gate in gated.items()
    }
    judging = {name: gated[name] for name in known}
    beside = _joint(others, judging) if others is not None and others.sha256 != hard.sha256 else None
    return Gate(tuple(gated.values()), absent, names, _joint(hard, judging), beside)


def withdraw_rates(gate: Gate, basis: str) -> Gate:
    """The gate with the same thresholds and no rate: `basis` says what set them."""
    judges = (one if one.threshold is None else replace(one, rate=None, basis=basis) for one in gate.judges)
    return replace(gate, judges=tuple(judges), joint=None, others=None)


def leave_one_out(metric: Metric, embeddings: Sequence[NDArray[np.float32]]) -> NDArray[np.float64]:
    """Each of n embeddings [d] against the template of the n - 1 others, as a judge would value it: [n], n > 1."""
    others = [[*embeddings[:index], *embeddings[index + 1 :]] for index in range(len(embeddings))]
    values = [similarity(metric, template_of(metric, rest), own) for rest, own in zip(others, embeddings, strict=True)]
    return np.array(values, np.float64)


def set_by_references(gate: Gate, alone: Mapping[str, NDArray[np.floating]]) -> Gate:
    """The gate with thresholds for judges that had none: the value of the least alike reference.

    `alone` has, by judge, each usable reference's value against the others (`leave_one_out`). A judge with fewer
    than `MIN_REFERENCES` of them stays without a threshold. If an image is as alike as the n references are, it
    falls below the lowest of their values in 1 of n + 1 cases.
    """
    return replace(gate, judges=tuple(_set(judge, alone.get(judge.encoder.name)) for judge in gate.judges))


def _set(judge: JudgeGate, values: NDArray[np.floating] | None) -> JudgeGate:
    if judge.threshold is not None or values is None or len(values) < MIN_REFERENCES:
        return judge
    least = float(values.min()) if judge.higher_is_better else -float(values.max())
    rounded = round(math.floor(least / STEP + 1e-6) * STEP, 4)
    return replace(
        judge, threshold=_threshold(judge, rounded), basis=f"{len(values)} references, each against the others"
    )


def why_not_judged(face: Face | None) -> str:
    """Why nothing can be said of a face; empty if something can."""
    if face is None:
        return "no face was found"
    if face.interocular < MIN_INTEROCULAR:
        return (
            f"the face is too small: {face.interocular:.0f} px between the eyes, at least {MIN_INTEROCULAR:.0f} needed"
        )
    if abs(face.yaw) > MAX_YAW:
        return f"the face is turned {abs(face.yaw):.0f} degrees, at most {MAX_YAW:.0f} can be judged"
    return ""


@dataclass(frozen=True, eq=False)
class Identity:
    """The scorer of identity: the judges of a gate."""

    gate: Gate
    name: str = "identity"
    needs: tuple[str, ...] = ()

    @property
    def scales(self) -> tuple[Scale, ...]:
        """One for each judge, and one for each absent judge."""
        judges = (_scale(judge) for judge in self.gate.judges)
        return (*judges, *(Scale(name, None, "", 0.0, 1.0, kind="identity") for name in self.gate.absent))

    def score(self, sample: Sample, /) -> list[Score]:
        """The likeness of the sample's main face by each judge, and why the absent ones do not judge."""
        face = sample.main_face
        reason = why_not_judged(face)
        scores: list[Score] = []
        for scale, judge in zip(self.scales, self.gate.judges, strict=False):
            value = None
            if face is not None and not reason:
                value = round(judge.measure(sample.embedding(judge.encoder)), 4)
            scores.append(_score(scale, judge, value, reason, self.gate))
        absent = self.scales[len(self.gate.judges) :]
        whys = zip(absent, self.gate.absent.values(), strict=True)
        guided = Calibrated(guided_by=self.gate.guided_by)
        return scores + [replace(scale.unmeasured(why), evidence=guided) for scale, why in whys]


def _scale(judge: JudgeGate) -> Scale:
    unit, low, high = ("cosine", -1.0, 1.0) if judge.higher_is_better else ("distance", 0.0, 2.0)
    return Scale(judge.encoder.name, judge.threshold, unit, low, high, judge.higher_is_better, "identity")


def _score(scale: Scale, judge: JudgeGate, value: float | None, reason: str, gate: Gate) -> Score:
    passed: bool | None = None
    if value is not None and judge.threshold is None:
        reason = "nothing sets this judge's threshold: run `sosie calibrate CHARACTER`"
    elif value is not None and judge.threshold is not None:
        passed = value >= judge.threshold if judge.higher_is_better else value <= judge.threshold
        name, least = f"{judge.encoder.name} {value:.3f}", f"{judge.threshold:.3f}"
        reason = f"{name} is below {least}" if judge.higher_is_better else f"{name} is above {least}"
        reason = "" if passed else reason
    joint, others = (None, None) if judge.basis else (gate.joint, gate.others)
    evidence = Calibrated(judge.rate, joint, others, gate.guided_by, judge.basis)
    return replace(scale.unmeasured(reason), value=value, passed=passed, evidence=evidence)


def _knows(cohort: Cohort, gate: JudgeGate) -> bool:
    return cohort.encoders.get(gate.encoder.name) == gate.encoder.sha256


def _cohort_scores(cohort: Cohort, gate: JudgeGate) -> NDArray[np.float64]:
    rows = cohort.embeddings[gate.encoder.name]
    return np.array([gate.measure(row) for row in rows], np.float64)


def _oriented(gate: JudgeGate, values: NDArray[np.float64]) -> NDArray[np.float64]:
    return values if gate.higher_is_better else -values


def _threshold(gate: JudgeGate, oriented: float) -> float:
    return oriented if gate.higher_is_better else -oriented


def _passes(gate: JudgeGate, values: NDArray[np.float64]) -> NDArray[np.bool_]:
    threshold = math.inf if gate.threshold is None else _threshold(gate, gate.threshold)
    return _oriented(gate, values) >= threshold


def _joint(cohort: Cohort, judges: Mapping[str, JudgeGate]) -> CohortRate | None:
    judging = {name: gate for name, gate in judges.items() if _knows(cohort, gate)}
    if len(judging) < len(judges) or not judging:
        return None
    together = np.ones(cohort.n, np.bool_)
    for gate in judging.values():
        together &= _passes(gate, _cohort_scores(cohort, gate))
    return rate(cohort.name, together)
