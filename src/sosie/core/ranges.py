"""Ranges of numbers, written at the fields that they bound: `steps: Annotated[int, Range(1, 1000)] = 25`.

They bound what a user may ask for, so a recipe and a job are checked and stored plans are not: an image that was made
stays readable when a range gets narrower.
"""

from __future__ import annotations

import dataclasses
import functools
import math
import typing
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol, cast, runtime_checkable


@dataclass(frozen=True)
class Range:
    """The numbers from `low` to `high`, without these if `above` and `below`; multiples of `step`, if given."""

    low: float
    high: float = math.inf
    above: bool = False
    below: bool = False
    step: int = 0

    def holds(self, value: float) -> bool:
        """Whether `value` is in it; NaN is in none."""
        from_low = value > self.low if self.above else value >= self.low
        to_high = value < self.high if self.below else value <= self.high
        return from_low and to_high and not (self.step and value % self.step)

    @property
    def complaint(self) -> str:
        """What is wrong with a value that is not in it: "is not 1 to 1000", "is below 0"."""
        low, high = _shown(self.low), _shown(self.high)
        if math.isinf(self.high):
            return f"is not above {low}" if self.above else f"is below {low}"
        if self.above and self.below:
            return f"is not between {low} and {high}"
        if self.above:
            return f"is not above {low} and at most {high}"
        multiple = f" and a multiple of {self.step}" if self.step else ""
        return f"is not {low} to {'below ' if self.below else ''}{high}{multiple}"


@runtime_checkable
class Consistent(Protocol):
    """A noun whose fields bound each other."""

    def conflicts(self) -> Iterator[str]:
        """What is wrong, each as `FIELD = VALUE is not ...`."""
        ...


def out_of_range(noun: object, at: str) -> Iterator[str]:
    """Every value of a noun, and of the nouns in it, that its field's range does not hold; None is in every range.

    `at` is the noun's place ("stages[0]", or empty): "stages[0].sampler.steps = 0 is not 1 to 1000".
    """
    prefix = f"{at}." if at else ""
    for name, bounds in _fields(type(noun)):
        value = getattr(noun, name)
        if bounds is not None and value is not None and not bounds.holds(value):
            yield f"{prefix}{name} = {_shown(value)} {bounds.complaint}"
        for inner, place in _nouns(value, prefix + name):
            yield from out_of_range(inner, place)
    if _may_conflict(type(noun)) and isinstance(noun, Consistent):
        yield from (prefix + conflict for conflict in noun.conflicts())


@functools.cache
def _fields(cls: type) -> tuple[tuple[str, Range | None], ...]:
    """The fields of a noun, each with its range."""
    known = _ranges(cls)
    return tuple((field.name, known.get(field.name)) for field in dataclasses.fields(cast(Any, cls)))


@functools.cache
def _may_conflict(cls: type) -> bool:
    """Whether it has `conflicts`, before `isinstance` looks closer: that costs ten times as much."""
    return hasattr(cls, "conflicts")


def _ranges(cls: type) -> dict[str, Range]:
    hints = typing.get_type_hints(cls, include_extras=True).items()
    return {name: one for name, hint in hints for one in getattr(hint, "__metadata__", ()) if isinstance(one, Range)}


def _nouns(value: object, at: str) -> Iterator[tuple[object, str]]:
    if isinstance(value, str | int | float):
        return
    if dataclasses.is_dataclass(value):
        yield value, at
    elif isinstance(value, tuple):
        for index, item in enumerate(cast("tuple[object, ...]", value)):
            yield from _nouns(item, f"{at}[{index}]")


def _shown(number: float) -> str:
    return str(number) if isinstance(number, int) else f"{number:g}"
