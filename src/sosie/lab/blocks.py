"""The blocks of an experiment, (prompt, seed), in the order in which all arms draw them."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from sosie.core.plan import derive_seed


@dataclass(frozen=True)
class Block:
    """What all arms draw alike: the place of a prompt, and a seed."""

    prompt: int
    seed: int


def passes(prompts: int, seeds: tuple[int, ...], key: str) -> list[tuple[Block, ...]]:
    """One pass through all prompts for each seed, in an order that `key` (hex digits) gives by chance.

    So each look after whole passes has seen every prompt equally often.
    """
    random = np.random.default_rng(int(key[:16], 16))
    return [tuple(Block(int(prompt), seed) for prompt in random.permutation(prompts)) for seed in seeds]


def passes_between_looks(prompts: int, every: int) -> int:
    """How many passes make `every` blocks, rounded up."""
    return math.ceil(every / prompts)


def fresh_seeds(seeds: tuple[int, ...], count: int, key: str) -> tuple[int, ...]:
    """The first of the seeds that `key` gives, without those of `seeds`, by which the choice was made.

    More of them go on where fewer ended: one who measures longer keeps what was measured.
    """
    found: list[int] = []
    index = 0
    while len(found) < count:
        seed = derive_seed(int(key[:15], 16), index, 1)
        index += 1
        if seed not in seeds and seed not in found:
            found.append(seed)
    return tuple(found)
