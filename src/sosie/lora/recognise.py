"""Which family a LoRA is for: the one whose table has its modules, by names first and by shapes then."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from sosie.lora.adapters import Adapter
from sosie.lora.lora import LoraFamily
from sosie.lora.modules import Module, Table, last_blocks
from sosie.lora.training import plain

SHARE = 0.9
"""A family is known if it has at least this share of the modules; the others are strangers to it."""


@dataclass(frozen=True)
class Recognised:
    """The family, its size and the modules of it; or None, the title of what is nearest (maybe empty), and why.

    `also` are the names of other families that it fits as well.
    """

    family: LoraFamily | None = None
    variant: str = ""
    nearest: str = ""
    because: str = ""
    table: Table | None = None
    also: tuple[str, ...] = ()


def recognise(adapters: Sequence[Adapter], families: Iterable[LoraFamily], said: str = "") -> Recognised:
    """The family with the largest share of the modules, if their shapes are its own or smaller.

    A table that has every module in its exact shape counts for more than another family's sign, which counts for
    more than a table that has them in part or in smaller shapes. `said` is what the metadata say of its base.
    """
    families = tuple(families)
    names = "\n".join(adapter.module[:200] for adapter in adapters)
    compared = list(_all_compared(adapters, families, names))
    exact = [each for each in compared if each.exact]
    if exact:
        return _chosen(exact, said)
    best = max(_first_of_alike(compared), key=lambda each: each.rank, default=None)
    signs = (sign for family in families for sign in family.adapters.signs)
    if seen := next((sign for sign in signs if sign.fits(adapters, names)), None):
        return Recognised(nearest=seen.title, because=seen.because)
    if best is None or not best.known:
        return Recognised(because=f"none of its {len(adapters)} modules is known ({_described(adapters)})")
    if best.answer.family is None:
        return replace(best.answer, because=f"{best.answer.because} ({_described(adapters)})")
    return best.answer


def _described(adapters: Sequence[Adapter]) -> str:
    """What its modules are: the most frequent kind of block, how many there are, and how wide."""
    blocks: dict[str, set[int]] = {}
    widths: dict[int, int] = {}
    for adapter in adapters:
        if found := re.match(r"(.*?)[._](\d+)[._]", adapter.module[:200]):
            blocks.setdefault(found[1], set()).add(int(found[2]))
        if adapter.shape[1]:
            widths[adapter.shape[1]] = widths.get(adapter.shape[1], 0) + 1
    first = f"the first is '{plain(adapters[0].name)}'" if adapters else "it has none"
    if not blocks:
        return first
    kinds = [f"{max(numbers) + 1} of {plain(name, 60)}" for name, numbers in blocks.items()]
    wide = f", {max(widths, key=lambda width: widths[width])} wide" if widths else ""
    return f"blocks: {', '.join(kinds[:3])}{wide}; {first}"


@dataclass(frozen=True)
class _Compared:
    """How many modules a table has, whether they reach its last blocks and what share they are, and the answer then.

    `exact`: it has all of them in their sizes. `alike` have as many rows for each column as its own, as those of a
    smaller model have.
    """

    family: LoraFamily
    known: int
    exact: bool
    share: tuple[bool, float]
    alike: int
    answer: Recognised

    @property
    def rank(self) -> tuple[bool, bool, int, int, tuple[bool, float]]:
        """The larger, the nearer."""
        whole = bool(self.answer.variant) and self.answer.variant != "reduced"
        return whole, bool(self.answer.variant), self.known, self.alike, self.share


def _all_compared(adapters: Sequence[Adapter], families: Sequence[LoraFamily], names: str) -> Iterator[_Compared]:
    """Each size of each family whose names are not quite other ones; the best size of a family stands for it."""
    for family in families:
        support = family.adapters
        if support.tables and (not support.named or re.search(support.named, names, re.MULTILINE)):
            sizes = [_compare(family, table, adapters) for table in support.tables]
            yield max(sizes, key=lambda each: (each.exact, *each.rank))


def _first_of_alike(compared: Sequence[_Compared]) -> list[_Compared]:
    """Without those whose LoRAs look as another's that has as many of the modules."""
    known = {each.family.name: each.known for each in compared}
    return [each for each in compared if known.get(each.family.adapters.like, -1) < each.known]


def _chosen(exact: Sequence[_Compared], said: str) -> Recognised:
    """Of several that have every module in its size: the one that the metadata name, else the one it is most of."""
    chosen = [each for each in exact if _is_named(each.family, said)] or _first_of_alike(exact)
    best = max(chosen, key=lambda each: each.share)
    equal = [each.family.title for each in chosen if each.share == best.share]
    if len(equal) > 1:
        return Recognised(nearest=equal[0], because=f"its modules are as much those of {' as of '.join(equal[1:])}")
    also = tuple(each.family.name for each in exact if each is not best)
    return replace(best.answer, also=also)


def _is_named(family: LoraFamily, said: str) -> bool:
    letters = re.sub(r"[^a-z0-9]", "", said.lower())
    return any(re.sub(r"[^a-z0-9]", "", name.lower()) in letters for name in (family.name, family.title))


def _compare(family: LoraFamily, table: Table, adapters: Sequence[Adapter]) -> _Compared:
    """How near a table is. Text encoders that it does not list count neither for it nor against it."""
    known = larger = smaller = alike = 0
    touched: set[Module] = set()
    judged = [a for a in adapters if a.prefix.component in table.components and not a.on_vectors]
    looked = [*judged[:20], *judged[:: len(judged) // 20 or 1]]
    if not any(table.find(adapter.prefix.component, adapter.module) for adapter in looked):
        return _Compared(family, 0, False, (False, 0.0), 0, Recognised())
    for adapter in judged:
        targets = table.find(adapter.prefix.component, adapter.module)
        known += bool(targets)
        touched.update(targets)
        if targets:
            wanted = sum(module.shape[0] for module in targets), math.prod(targets[0].shape[1:])
            pairs = [(size, own) for size, own in zip(adapter.shape, wanted, strict=True) if size]
            larger += any(size > own for size, own in pairs)
            smaller += any(size < own for size, own in pairs)
            alike += adapter.shape[0] * wanted[1] == adapter.shape[1] * wanted[0]
    count = max(len(judged), 1)
    exact = bool(judged) and known == count and not larger and not smaller
    title, support = family.title, family.adapters
    odd = smaller if smaller > larger and not support.reduced else larger
    if known < SHARE * count:
        answer = Recognised(None, "", title, f"{title} has {known} of its {count} modules")
    elif odd > count * (1 - SHARE):
        answer = Recognised(None, "", title, f"{odd} of its {count} modules have another size than {title}'s")
    else:
        reduced = support.reduced and smaller > count / 2
        answer = Recognised(family, "reduced" if reduced else table.title or "base", table=table)
    drawn = [module for module in touched if module.component == "denoiser"]
    share = len(drawn) / max(sum(module.component == "denoiser" for module in table.modules), 1)
    return _Compared(family, known, exact, (_reaches_ends(drawn, table), share), alike, answer)


def _reaches_ends(modules: Iterable[Module], table: Table) -> bool:
    """True if of every kind of block that is touched the last one is, too."""
    last = last_blocks(modules)
    return bool(last) and all(table.last_blocks.get(kind) == number for kind, number in last.items())
