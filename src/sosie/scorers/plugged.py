"""Scorers of other packages: an entry point in the group `sosie.scorers` that names an object that keeps `Scorer`.

[project.entry-points."sosie.scorers"]
skin = "sosie_skin:SCORER"
"""

from __future__ import annotations

import importlib.metadata
import math
from dataclasses import dataclass
from functools import cache
from typing import Any, cast

from sosie.core.score import Score
from sosie.scorers.adherence import ADHERENCE
from sosie.scorers.copy_paste import COPY_PASTE
from sosie.scorers.defects import DEFECTS
from sosie.scorers.looks import LOOKS
from sosie.scorers.sample import Sample
from sosie.scorers.scorer import Scale, Scorer, measure, why_not

GROUP = "sosie.scorers"

OWN = (*DEFECTS, *(look.name for look in LOOKS), ADHERENCE.name, COPY_PASTE.name)
"""The names of Sosie's own scores but those of judges."""


@dataclass(frozen=True, eq=False)
class Plugged:
    """A scorer of another package: whatever that does, each scale has a valid score, or one without a value and why.

    It gives values and reasons; what passes is decided by its scales. `source` names it with the package's version.
    Where it cannot be used, `scorer` is None, `broken` says why, and it has one scale of the entry point's name.
    """

    name: str
    source: str
    scorer: Scorer | None
    broken: str = ""
    needs: tuple[str, ...] = ()

    def __reduce__(self) -> tuple[Any, ...]:
        """Another process loads it by its entry point, where it has one."""
        if any(one is self for one in plugged_scorers()):
            return _plugged, (self.name,)
        return Plugged, (self.name, self.source, self.scorer, self.broken, self.needs)

    @property
    def why_not(self) -> str:
        """Why it gives no value for any image; empty if it may."""
        return self.broken or (why_not(self.scorer) if self.scorer else "")

    @property
    def scales(self) -> tuple[Scale, ...]:
        """What it measures."""
        return self.scorer.scales if self.scorer else (Scale(self.name, None, "", 0.0, 1.0, kind="unknown"),)

    def score(self, sample: Sample, /) -> list[Score]:
        """One score for each scale, in their order."""
        if self.scorer is None:
            return [scale.unmeasured(f"{self.source}: {self.broken}") for scale in self.scales]
        try:
            found = {score.name: score for score in measure(self.scorer, sample)}
            return [_valid(scale, found.get(scale.name)) for scale in self.scales]
        except Exception as error:  # another project's code: it may fail in any way
            why = f"{self.source} failed: {type(error).__name__}: {error}"
            return [scale.unmeasured(why) for scale in self.scales]


@cache
def plugged_scorers() -> tuple[Plugged, ...]:
    """Every scorer of another package, by name; those that cannot be used too."""
    found: list[Plugged] = []
    for entry in sorted(importlib.metadata.entry_points(group=GROUP), key=lambda entry: entry.name):
        source = f"scorer '{entry.name}' of {f'{entry.dist.name} {entry.dist.version}' if entry.dist else 'a package'}"
        taken = {scale.name for one in found for scale in one.scales}.union(OWN)
        found.append(_loaded(entry, source, taken))
    return tuple(found)


def _plugged(name: str) -> Plugged:
    return next(one for one in plugged_scorers() if one.name == name)


def _loaded(entry: importlib.metadata.EntryPoint, source: str, taken: set[str]) -> Plugged:
    try:
        scorer = cast("Scorer", entry.load())
        why = _complaint(entry.name, scorer, taken)
    except Exception as error:  # another project's code: it may fail in any way
        scorer, why = None, f"it cannot be loaded: {type(error).__name__}: {error}"
    return Plugged(entry.name, source, None, why) if why else Plugged(entry.name, source, scorer)


def _complaint(name: str, scorer: Scorer, taken: set[str]) -> str:
    """What is wrong with a scorer; empty if nothing is. Raises whatever an object of another kind raises."""
    if scorer.name != name:
        return f"it calls itself '{scorer.name}'"
    if not callable(scorer.score) or not scorer.scales:
        return "it measures nothing"
    if any(scale.kind == "identity" for scale in scorer.scales):
        return "it claims to judge identity, which judges alone do"
    names = [scale.name for scale in scorer.scales]
    twice = [one for one in names if one in taken or names.count(one) > 1]
    return f"it measures '{twice[0]}', which is measured already" if twice else ""


def _valid(scale: Scale, score: Score | None) -> Score:
    """The score, or one without a value that says what is wrong with it."""
    if score is None:
        return scale.unmeasured("its scorer gave no such score")
    if score.value is None:
        return scale.unmeasured(score.reason or "its scorer gives no reason")
    value = float(score.value)
    if not math.isfinite(value):
        return scale.unmeasured(f"its scorer measured {value}")
    return scale.score(value, score.reason)
