"""Which tensor of a file, or which of its rows, is which parameter of a model. No torch here."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from sosie.files.safetensors import Header

Rows = tuple[int, int]
"""First row, and the one after the last."""

Members = Callable[[str, Sequence[int], Header], Sequence[tuple[str, tuple[int, ...]]]]
"""Name and shape of the weights in a DFloat11 stream, in order, by the block's name and how many numbers each has."""


@dataclass(frozen=True)
class Source:
    """Where a parameter's numbers are: a tensor's name in the file, and some of its rows (None: all)."""

    name: str
    rows: Rows | None = None


Sources = Mapping[str, Source]
"""By the parameter's name in the model."""
