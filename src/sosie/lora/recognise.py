"""Which family a LoRA is for: the one whose table has its modules, by names first and by shapes then."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from sosie.lora.adapters import Adapter
from sosie.lora.lora import LoraFamily
from sosie.lora.modules import Table
from sosie.lora.training import plain

SHARE = 0.9
"""A family is known if it has at least this share of the modules; the others are strangers to it."""


@dataclass(frozen=True)
class Recognised:
    """The family and the variant; or None, the title of what is nearest (maybe empty), and why it is not that."""

    family: LoraFamily | None = None
    variant: str = ""
    nearest: str = ""
    because: str = ""


def recognise(adapters: Sequence[Adapter], families: Iterable[LoraFamily]) -> Recognised:
    """The family with the largest share of the modules, if their shapes are its own or smaller.

    A table that has every module in its exact shape counts for more than another family's sign, which counts for
    more than a table that has them in part or in smaller shapes.
    """
    families = tuple(families)
    compared = [
        _compare(family, table, adapters) for family in families if (table := family.adapters.table) is not None
    ]
    best = max(compared, key=lambda each: each.rank, default=None)
    if best is not None and best.exact:
        equal = [each.title for each in compared if each.rank == best.rank]
        if len(equal) > 1:
            return Recognised(
                nearest=best.title, because=f"its modules are as much those of {' as of '.join(equal[1:])}"
            )
        return best.answer
    names = "\n".join(adapter.module[:200] for adapter in adapters)
    signs = (sign for family in families for sign in family.adapters.signs)
    if seen := next((sign for sign in signs if sign.fits(adapters, names)), None):
        return Recognised(nearest=seen.title, because=seen.because)
    if best is None or not best.known:
        first = plain(adapters[0].name) if adapters else ""
        return Recognised(because=f"none of its {len(adapters)} modules is known (the first is '{first}')")
    return best.answer


@dataclass(frozen=True)
class _Compared:
    """How many modules a family's table has, whether it has all of them in their sizes, and the answer."""

    title: str
    known: int
    exact: bool
    answer: Recognised

    @property
    def rank(self) -> tuple[bool, bool, bool, int]:
        """The larger, the nearer."""
        return self.exact, self.answer.variant == "base", bool(self.answer.variant), self.known


def _compare(family: LoraFamily, table: Table, adapters: Sequence[Adapter]) -> _Compared:
    known = larger = smaller = 0
    for adapter in adapters:
        targets = table.find(adapter.prefix.component, adapter.module)
        known += bool(targets)
        if targets and all(adapter.shape):
            rows, columns = sum(module.shape[0] for module in targets), math.prod(targets[0].shape[1:])
            larger += adapter.shape[0] > rows or adapter.shape[1] > columns
            smaller += adapter.shape[0] < rows or adapter.shape[1] < columns
    count = max(len(adapters), 1)
    exact = known == count and not larger and not smaller
    if known < SHARE * count:
        answer = Recognised(None, "", family.title, f"{family.title} has {known} of its {count} modules")
    elif larger > count * (1 - SHARE):
        answer = Recognised(None, "", family.title, f"{larger} of its {count} modules are larger than {family.title}'s")
    else:
        answer = Recognised(family, "reduced" if smaller > count / 2 else "base")
    return _Compared(family.title, known, exact, answer)
