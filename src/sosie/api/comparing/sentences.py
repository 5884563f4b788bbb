"""A comparison in words, in the language of its reader."""

from __future__ import annotations

import math

from sosie.lab.comparison import Comparison, Row
from sosie.reports.comparison.page import ROOM, Line
from sosie.reports.words import Language, Words, words_of


def in_words(row: Row, language: Language = "en") -> Line:
    """A row as a person reads it."""
    words = words_of(ROOM, language)
    if not row.n:
        missing = words.said(row.why_not) or words("no_values", a=row.a_missing, b=row.b_missing)
        return Line(row.name, "-", "-", "-", "0", missing)
    interval = "" if row.low is None or row.high is None else f" ({words.between(row.low, row.high, 3, True)})"
    counts = words("better_in" if row.is_directed else "lower_in", n=row.n, a=row.a_better, b=row.b_better)
    counts += f", {words('equal', n=row.equal)}" if row.equal else ""
    missing = [
        words("without", n=count, side=side) for side, count in (("A", row.a_missing), ("B", row.b_missing)) if count
    ]
    verdict = ""
    if row.is_directed and row.low is not None and row.high is not None and (row.low > 0 or row.high < 0):
        verdict = "b" if (row.low > 0) == row.higher_is_better else "a"
    better = words("higher" if row.higher_is_better else "lower" if row.is_directed else "neither")
    a, b, difference = (math.nan if value is None else value for value in (row.a, row.b, row.difference))
    return Line(
        row.name,
        words.number(a, 3),
        words.number(b, 3),
        f"{words.number(difference, 3, True)}{interval}",
        counts,
        "; ".join([better, *missing]),
        verdict,
    )


def notes(comparison: Comparison, language: Language = "en") -> tuple[str, ...]:
    """What must be known to read the figures."""
    words = words_of(ROOM, language)
    sides = (("A", comparison.a), ("B", comparison.b))
    said = [words("side", side=side, name=one.name, note=words.said(one.note)) for side, one in sides]
    if len(comparison.pairs) < 2:
        said.append(words("only_one"))
    else:
        shown = sum(row.n > 1 for row in comparison.rows)
        said.append(words("many", pairs=len(comparison.pairs), scores=shown))
    if comparison.alone:
        said.append(words("alone", n=len(comparison.alone), names=_some(comparison.alone, words)))
    return tuple(said)


def how_many(pairs: int, words: Words) -> str:
    """The number of pairs, in words."""
    return words("pair") if pairs == 1 else words("pairs", n=pairs)


def _some(names: tuple[str, ...], words: Words) -> str:
    shown = ", ".join(names[:5])
    return words("more", names=shown, n=len(names) - 5) if len(names) > 5 else shown
