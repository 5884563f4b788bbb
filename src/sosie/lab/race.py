"""The race of the arms against the baseline: what is decided at each look, and which arms need no more images."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from sosie.core.experiment_result import Contrast, Design
from sosie.lab.blocks import Block
from sosie.lab.questions import Question
from sosie.lab.sheet import Sheet
from sosie.statistics.answers import Answer, Rules, answer, answers_at_the_end, is_behind
from sosie.statistics.power import looks
from sosie.statistics.student import holm, welch

LEAST_RUNS = 3
"""Training runs of each treatment without which nothing is tested: two say nothing of how runs differ."""


def rules_of(design: Design, contrasts: int) -> Rules:
    """The rules of a design whose numbers are filled in."""
    if design.margin is None or design.clip is None:
        raise ValueError("the design has no margin or no clip yet")
    return Rules(design.margin, design.clip, design.alpha, design.stopping, contrasts)


@dataclass(eq=False)
class Race:
    """Which questions are open, and at which block each was `decided`, or its arm `dropped` as behind."""

    design: Design
    questions: tuple[Question, ...]
    decided: dict[str, int] = field(default_factory=dict[str, int])
    dropped: dict[str, int] = field(default_factory=dict[str, int])

    @property
    def rules(self) -> Rules:
        """What was declared."""
        return rules_of(self.design, len(self.questions))

    @property
    def open(self) -> tuple[Question, ...]:
        """The questions that more images could answer."""
        return tuple(one for one in self.questions if one.name not in self.decided and one.name not in self.dropped)

    def needs(self, arm: str) -> bool:
        """Whether an arm is still drawn: a question about it is open."""
        return any(arm in (*one.arms, *one.against) for one in self.open)

    def look(self, sheet: Sheet, blocks: Sequence[Block]) -> list[Question]:
        """Looks at the blocks so far; the questions that were closed by it. Nothing where no look was declared."""
        if self.design.stopping == "none" or self.design.unit == "training run":
            return []
        closed: list[Question] = []
        for one in self.open:
            differences = sheet.differences(one, blocks)
            at = looks(len(differences), self.design.every)
            if answer(differences, self.rules, at).verdict != "undecided":
                self.decided[one.name] = len(differences)
                closed.append(one)
            elif self.design.compare == "arms" and is_behind(differences, self.rules, at):
                self.dropped[one.name] = len(differences)
                closed.append(one)
        return closed

    def contrasts(self, sheet: Sheet, blocks: Sequence[Block]) -> tuple[Contrast, ...]:
        """What is known of every question."""
        if self.design.unit == "training run":
            return _of_runs(self.design, self.questions, sheet)
        differences = [sheet.differences(one, blocks) for one in self.questions]
        if self.design.stopping == "none":
            whole = all(len(one) == len(blocks) for one in differences)
            found = answers_at_the_end(differences, self.rules)
            note = "" if whole else "blocks are missing, and the one look is at the end"
            decided = len(blocks) if whole else None
            return tuple(
                _contrast(question, values, one, self, decided, note)
                for question, values, one in zip(self.questions, differences, found, strict=True)
            )
        found = [answer(one, self.rules, looks(len(one), self.design.every)) for one in differences]
        return tuple(
            _contrast(question, values, one, self, self.decided.get(question.name), self._note(question))
            for question, values, one in zip(self.questions, differences, found, strict=True)
        )

    def _note(self, question: Question) -> str:
        at = self.dropped.get(question.name)
        return f"dropped from the race after {at} blocks as behind, which is no claim" if at else ""


def _contrast(
    question: Question,
    differences: np.ndarray[tuple[int, ...], np.dtype[np.float64]],
    found: Answer,
    race: Race,
    decided: int | None,
    note: str,
) -> Contrast:
    """One question's answer in plain numbers; one that was not decided by its look is undecided."""
    bound, n = found.bound, len(differences)
    is_open = decided is None
    return Contrast(
        question.name,
        question.arms,
        question.against,
        n,
        _finite(bound.mean),
        _finite(bound.low) if n else None,
        _finite(bound.high) if n else None,
        1 - race.design.alpha / len(race.questions),
        found.p if n else None,
        "undecided" if is_open else found.verdict,
        found.clipped,
        None if is_open or found.verdict == "undecided" else decided,
        note,
    )


def _of_runs(design: Design, questions: Sequence[Question], sheet: Sheet) -> tuple[Contrast, ...]:
    """Treatments by their training runs: each run's images are one value; tested where both have 3 runs or more."""
    level = 1 - design.alpha / len(questions)
    pairs = [(_run_means(one.arms, sheet), _run_means(one.against, sheet)) for one in questions]
    enough = [min(len(own), len(other)) >= LEAST_RUNS for own, other in pairs]
    tested = [welch(*pair, 1 - level) for pair, is_enough in zip(pairs, enough, strict=True) if is_enough]
    adjusted = iter(zip(tested, holm([p for _, p in tested]), strict=True))
    found: list[Contrast] = []
    for one, (own, other), is_enough in zip(questions, pairs, enough, strict=True):
        if not is_enough:
            runs = f"{len(own)} and {len(other)} training runs"
            note = f"{runs}: images of one run are no repetition of it; a test needs {LEAST_RUNS} runs of each"
            estimate = float(own.mean() - other.mean()) if len(own) and len(other) else None
            n = min(len(own), len(other))
            found.append(
                Contrast(one.name, one.arms, one.against, n, estimate, None, None, level, None, "undecided", note=note)
            )
            continue
        (bound, _), p = next(adjusted)
        verdict = "undecided" if p > design.alpha else "better" if bound.mean > 0 else "worse"
        n = min(len(own), len(other))
        margin = design.margin or 0.0
        if -margin <= bound.low and bound.high <= margin:
            verdict = "same"
        found.append(Contrast(one.name, one.arms, one.against, n, bound.mean, bound.low, bound.high, level, p, verdict))
    return tuple(found)


def _run_means(arms: Sequence[str], sheet: Sheet) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
    means = [float(np.mean([cell.counted for cell in cells])) for cells in map(sheet.of, arms) if cells]
    return np.array(means, np.float64)


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def winner(
    levels: Mapping[str, Mapping[str, str]], contrasts: Sequence[Contrast], questions: Sequence[Question], base: str
) -> str:
    """The arm that won: of those shown better, the one with the highest estimate; empty if none was.

    `levels` are the arms' values by axis. By axes the winner has, on each, the best level that was shown better, and
    else the baseline's.
    """
    better = [(one, asked) for one, asked in zip(contrasts, questions, strict=True) if one.verdict == "better"]
    if not better:
        return ""
    best = max(better, key=lambda pair: pair[0].estimate or 0.0)
    if not best[1].axis:
        return best[0].arms[0]
    wanted = dict(levels[base])
    for _, asked in sorted(better, key=lambda pair: pair[0].estimate or 0.0):
        wanted[asked.axis] = asked.level
    return next((name for name, own in levels.items() if dict(own) == wanted), "")
