"""Which checkpoint is delivered, and when a run is over-trained: rules on the curve of judgements."""

from __future__ import annotations

from collections.abc import Sequence

from sosie.training.events import Judged

TIE = 0.005
"""Likeness that differs by less is the same: the earlier checkpoint is then the less over-trained one."""

FALL = 0.1
"""Adherence, or the share of sound pictures, may be this much below the first judgement's."""

DRIFT = 0.01
"""Copy-paste index and adherence move when they move by more than this."""


def best(curve: Sequence[Judged]) -> Judged | None:
    """The judgement whose checkpoint is delivered, or None if no likeness was measured.

    The greatest likeness, or the earliest within `TIE` of it, among those whose adherence and share of
    sound pictures fell by at most `FALL` since the first judgement; if none held them, among all. The
    judgement of step 0, before anything was learned, is the measure, never the choice.
    """
    measured = [judged for judged in curve if judged.scores.likeness is not None and judged.step > 0]
    held = [judged for judged in measured if _held(judged, curve[0])] or measured
    if not held:
        return None
    most = max(_likeness(judged) for judged in held)
    return next(judged for judged in held if _likeness(judged) >= most - TIE)


def over_trained(curve: Sequence[Judged], patience: int) -> bool:
    """Whether the last `patience` judgements say so: identity flat, copy-paste index up, adherence down.

    Flat: none of them is more than `TIE` above the best before. The other two are compared with the
    judgement of the best likeness before. False while anything of this was not measured.
    """
    before, last = curve[:-patience], curve[-patience:]
    learned = [judged for judged in before if judged.step > 0 and judged.scores.likeness is not None]
    if not learned:
        return False
    top = max(learned, key=_likeness)
    return all(_is_worse(judged, top) for judged in last)


def _is_worse(judged: Judged, top: Judged) -> bool:
    now, then = judged.scores, top.scores
    flat = now.likeness is not None and now.likeness <= _likeness(top) + TIE
    return flat and _above(now.copy_paste, then.copy_paste) and _above(then.adherence, now.adherence)


def _above(one: float | None, other: float | None) -> bool:
    return one is not None and other is not None and one > other + DRIFT


def _likeness(judged: Judged) -> float:
    return judged.scores.likeness if judged.scores.likeness is not None else float("-inf")


def _held(judged: Judged, first: Judged) -> bool:
    pairs = (
        (judged.scores.adherence, first.scores.adherence),
        (judged.scores.sound, first.scores.sound),
    )
    return all(now is None or then is None or now >= then - FALL for now, then in pairs)
