"""Which pictures each step sees: a function of the seed and the step alone, so that a run can go on anywhere."""

from __future__ import annotations

import math
import random
from collections import defaultdict
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

from sosie.core.plan import derive_seed


@dataclass(frozen=True)
class Entry:
    """A picture in the order: its number, what it must have in common with the others of its batch, its part.

    `part` is the character that it shows; regularisation pictures have the part None. `others` are numbers and shapes
    of the same picture with other captions: each time one of all is taken. `repeats` is how often it comes in an epoch.
    """

    index: int
    shape: Hashable
    part: str | None
    others: tuple[tuple[int, Hashable], ...] = ()
    repeats: int = 1


class BatchOrder:
    """The batches of every epoch.

    In an epoch each character's pictures come equally often (a smaller set is repeated), and as many
    regularisation pictures as there are others, at most all. Pictures of one batch have the same shape.
    """

    def __init__(self, entries: Sequence[Entry], batch: int, seed: int) -> None:
        self._batch = batch
        self._seed = seed
        parts: dict[str, list[Entry]] = defaultdict(list)
        for entry in entries:
            if entry.part is not None:
                parts[entry.part].append(entry)
        own = [_repeated(part) for part in parts.values()]
        most = max(len(part) for part in own)
        self._own = [entry for part in own for entry in part * max(1, round(most / len(part)))]
        self._others = _repeated([entry for entry in entries if entry.part is None])
        self._epochs: dict[int, list[tuple[int, ...]]] = {}

    def batch(self, step: int) -> tuple[int, ...]:
        """The numbers of the pictures of a step (from 0)."""
        epoch, start = 0, 0
        while True:
            batches = self._epoch(epoch)
            if step < start + len(batches):
                return batches[step - start]
            epoch, start = epoch + 1, start + len(batches)

    def _epoch(self, number: int) -> list[tuple[int, ...]]:
        if number not in self._epochs:
            rng = random.Random(derive_seed(self._seed, number, 1))  # noqa: S311 - an order, not a secret
            others = rng.sample(self._others, min(len(self._others), len(self._own)))
            groups: dict[Hashable, list[int]] = defaultdict(list)
            captions = random.Random(derive_seed(self._seed, number, 4))  # noqa: S311 - a choice, not a secret
            for entry in rng.sample(self._own, len(self._own)) + others:
                index, shape = captions.choice(((entry.index, entry.shape), *entry.others))
                groups[shape].append(index)
            batches: list[tuple[int, ...]] = []
            for members in groups.values():
                rng.shuffle(members)
                batches += [tuple(members[i : i + self._batch]) for i in range(0, len(members), self._batch)]
            rng.shuffle(batches)
            self._epochs[number] = batches
        return self._epochs[number]


def _repeated(entries: Sequence[Entry]) -> list[Entry]:
    """Each entry as often as it is to come, beside one that comes once: what all repeat alike is no repetition."""
    common = math.gcd(*(entry.repeats for entry in entries)) or 1
    return [entry for entry in entries for _ in range(entry.repeats // common)]
