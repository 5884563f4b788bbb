"""The one thing that an experiment compares: how it is measured, what it is in, and what stands for no score."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from sosie.core import Scorecard
from sosie.core.errors import nearest
from sosie.core.experiment_result import Design
from sosie.core.finding import RuleError
from sosie.lab.questions import Q005
from sosie.loop.judge import Judge
from sosie.scorers.cohort import Cohort

IDENTITY = "identity"

FLOOR = 0.05
"""The share of the cohort's faces that lies below what an image without a score counts."""

USUAL: Mapping[str, tuple[float, float, float]] = {
    IDENTITY: (0.2, 1.5, 0.64),
    "cosine": (0.02, 0.15, 0.064),
    "distance": (0.02, 0.15, 0.06),
}
"""Margin, clip and expected spread of paired differences, by end point or unit, where the design says nothing."""


@dataclass(frozen=True)
class Part:
    """A judge's share in the end point: its value is turned so that more is nearer, then counted from the cohort."""

    name: str
    higher_is_better: bool
    mean: float = 0.0
    spread: float = 1.0

    def of(self, value: float) -> float:
        """The judge's value as it counts."""
        return ((value if self.higher_is_better else -value) - self.mean) / self.spread


@dataclass(frozen=True)
class EndPoint:
    """What is compared; more is better. `floor` counts for an image without a value, `scale` says what it is in."""

    name: str
    scale: str
    floor: float
    parts: tuple[Part, ...]

    def measure(self, card: Scorecard) -> float | None:
        """The value of one image; None where a part of it could not be measured."""
        values = {score.name: score.value for score in card.scores}
        found = [values.get(part.name) for part in self.parts]
        known = [part.of(value) for part, value in zip(self.parts, found, strict=True) if value is not None]
        return sum(known) / len(known) if len(known) == len(self.parts) else None

    @property
    def judges(self) -> tuple[str, ...]:
        """The scores that it is made of."""
        return tuple(part.name for part in self.parts)


def usual(endpoint: str) -> tuple[float, float, float]:
    """Margin, clip and spread for an end point by its name alone: before any judge is opened."""
    return USUAL.get(endpoint, USUAL["distance" if endpoint == "dlib" else "cosine"])


LEAST_FRESH = 8
"""Fresh blocks below which no winner is confirmed, however large the difference."""


def filled(design: Design, blocks_a_pass: int, seeds: int) -> Design:
    """A number in each place; `every` in whole passes, as many fresh seeds as seeds, if that is enough."""
    margin, clip, sd = usual(design.endpoint)
    passes = -(-design.every // blocks_a_pass)
    return replace(
        design,
        margin=design.margin if design.margin is not None else margin,
        clip=design.clip if design.clip is not None else clip,
        sd=design.sd if design.sd is not None else sd,
        every=passes * blocks_a_pass,
        confirm=design.confirm if design.confirm is not None else max(seeds, -(-LEAST_FRESH // blocks_a_pass)),
    )


def end_point(name: str, judges: Sequence[Judge], cohort: Cohort | None, floor: float | None) -> EndPoint:
    """The end point of that name for arms that are judged by `judges`.

    Only judges of identity that judge every arm count: none that guided one. Raises `RuleError` (SOS-Q005) if nothing
    measures it in all arms, or nothing says what an image without a value counts.
    """
    gates = [{one.encoder.name: one for one in judge.gate.judges} for judge in judges]
    common = {key: one for key, one in gates[0].items() if all(key in gate for gate in gates)}
    near = {key: one.nearness(cohort) for key, one in common.items()} if cohort is not None else {}
    known = {key: values for key, values in near.items() if values is not None}
    if name == IDENTITY:
        return _identity(judges, cohort, known, floor, {key: one.higher_is_better for key, one in common.items()})
    if name in common:
        own = known.get(name)
        least = floor if floor is not None else float(np.quantile(own, FLOOR)) if own is not None else None
        unit = "cosine" if common[name].higher_is_better else "distance, negated so that more is nearer"
        return EndPoint(name, f"{name} {unit}", _floor(name, least), (Part(name, common[name].higher_is_better),))
    return _of_scores(name, judges, floor, common)


def _identity(
    judges: Sequence[Judge],
    cohort: Cohort | None,
    known: Mapping[str, np.ndarray[tuple[int, ...], np.dtype[np.float64]]],
    floor: float | None,
    higher: Mapping[str, bool],
) -> EndPoint:
    if cohort is None or not known:
        absent = "; ".join(f"{name}: {why}" for judge in judges for name, why in judge.gate.absent.items())
        message = f"no judge can compare all arms by a cohort{f' ({absent})' if absent else ''}"
        raise RuleError(Q005, message, "sosie calibrate CHARACTER, or name a judge as design.endpoint")
    parts = tuple(Part(name, higher[name], float(v.mean()), float(v.std()) or 1.0) for name, v in known.items())
    both = np.mean([(values - values.mean()) / (values.std() or 1.0) for values in known.values()], axis=0)
    least = floor if floor is not None else float(np.quantile(both, FLOOR))
    scale = f"standard deviations of the cohort '{cohort.name}', mean of {' and '.join(known)}"
    return EndPoint(IDENTITY, scale, least, parts)


def _of_scores(name: str, judges: Sequence[Judge], floor: float | None, common: Mapping[str, object]) -> EndPoint:
    """A score that is none of a judge of identity: of a look, a defect, or another package."""
    scales = {scale.name: scale for scorer in (*judges[0].reported, *judges[0].plugged) for scale in scorer.scales}
    if name not in scales:
        known = [IDENTITY, *common, *scales]
        raise RuleError(Q005, f"design.endpoint: nothing measures '{name}' in every arm{nearest(name, known)}")
    scale = scales[name]
    unit = f"{name}{f' {scale.unit}' if scale.unit else ''}"
    turned = "" if scale.higher_is_better else ", negated so that more is better"
    return EndPoint(name, unit + turned, _floor(name, floor), (Part(name, scale.higher_is_better),))


def _floor(name: str, floor: float | None) -> float:
    if floor is None:
        message = f"design.floor is missing: no cohort says what an image without a value of '{name}' counts"
        raise RuleError(Q005, message, "add floor = NUMBER to [design], turned so that more is better")
    return floor
