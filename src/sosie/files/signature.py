"""How a part of a model is known from its header: signatures as data, and their matching.

A family lists `Part`s. A part claims a file if all of its marks are there and none of `absent`.
Three answers differ: no family claims the file, one does, several do.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, Protocol

from sosie.files.safetensors import Header

Role = Literal["checkpoint", "denoiser", "vae", "text-encoder", "controlnet", "ip-adapter"]


@dataclass(frozen=True)
class Mark:
    """A tensor that must be there, and how large its axis `axis` must be.

    `name` is exact, or with a `*` at its end the beginning of a name. `sizes` are the allowed
    sizes (none: any), `below` is an upper limit that the size does not reach (0: none).
    """

    name: str
    axis: int = 0
    sizes: tuple[int, ...] = ()
    below: int = 0


@dataclass(frozen=True)
class Variant:
    """A name for files of a part that also have all these marks."""

    name: str
    marks: tuple[Mark, ...]


@dataclass(frozen=True)
class Part:
    """A kind of file of a family: what it is for, how its keys are named, and how it is known.

    `prefixes` are the beginnings that all names of `marks` may have. `absent` are names, written
    in full or with a `*` at the end, that another kind of file has. The first of `variants` that
    matches names the variant, else `variant` does.
    """

    role: Role
    layout: str
    marks: tuple[Mark, ...]
    absent: tuple[str, ...] = ()
    prefixes: tuple[str, ...] = ("",)
    variants: tuple[Variant, ...] = ()
    variant: str = "base"


class Signed(Protocol):
    """What can be recognised: a family."""

    @property
    def name(self) -> str:
        """The name in recipes."""
        ...

    @property
    def title(self) -> str:
        """The name that people use."""
        ...

    @property
    def parts(self) -> tuple[Part, ...]:
        """The kinds of file, the more particular before the more general."""
        ...


@dataclass(frozen=True)
class Claim:
    """A family knows a header as this part, in this variant."""

    family: str
    part: Part
    variant: str


@dataclass(frozen=True)
class Near:
    """The family that comes nearest to a header: how near, and the first thing that keeps it from being that."""

    family: str
    because: str


def claims(header: Header, families: Iterable[Signed]) -> list[Claim]:
    """One claim for each family that knows the header, by the first of its parts that matches."""
    found: list[Claim] = []
    for family in families:
        for part in family.parts:
            prefix = _prefix(header, part)
            if prefix is not None:
                found.append(Claim(family.name, part, _variant(header, part, prefix)))
                break
    return found


def nearest_part(header: Header, families: Iterable[Signed]) -> Near | None:
    """The part with the largest share of its marks in the header; None if none has any."""
    best: tuple[float, Near] | None = None
    for family in families:
        for part in family.parts:
            for prefix in part.prefixes:
                misses = [miss for mark in part.marks if (miss := _miss(header, prefix, mark))]
                share = 1 - len(misses) / len(part.marks)
                if share > 0 and (best is None or share > best[0]):
                    near = f"it has {len(part.marks) - len(misses)} of the {len(part.marks)} marks"
                    kind = f"{part.role} of {family.title} ({part.layout})"
                    why = misses[0] if misses else _intruder(header, part)
                    best = share, Near(family.name, f"{near} of a known {kind}, but {why}")
    return None if best is None else best[1]


def _prefix(header: Header, part: Part) -> str | None:
    """The prefix under which `part` matches, or None."""
    if _intruder(header, part):
        return None
    for prefix in part.prefixes:
        if not any(_miss(header, prefix, mark) for mark in part.marks):
            return prefix
    return None


def _variant(header: Header, part: Part, prefix: str) -> str:
    for variant in part.variants:
        if all(not _miss(header, prefix, mark) or not _miss(header, "", mark) for mark in variant.marks):
            return variant.name
    return part.variant


def _intruder(header: Header, part: Part) -> str:
    """Why `absent` forbids the part, or empty."""
    for name in part.absent:
        if _first(header, name) is not None:
            return f"it also has '{name}', which that has not"
    return ""


def _miss(header: Header, prefix: str, mark: Mark) -> str:
    """Why the header lacks the mark, or empty."""
    name = prefix + mark.name
    found = _first(header, name)
    if found is None:
        return f"it lacks '{name}'"
    if not mark.sizes and not mark.below:
        return ""
    shape = header.tensors[found].shape
    size = shape[mark.axis] if mark.axis < len(shape) else None
    if size is not None and (size in mark.sizes or size < mark.below):
        return ""
    return f"'{name}' has the shape {list(shape)}, expected {_expected(mark)} on axis {mark.axis}"


def _expected(mark: Mark) -> str:
    return " or ".join(map(str, mark.sizes)) if mark.sizes else f"less than {mark.below}"


def _first(header: Header, name: str) -> str | None:
    """The name of a tensor that `name` (exact, or a beginning and `*`) means."""
    if not name.endswith("*"):
        return name if name in header.tensors else None
    return next((tensor for tensor in header.tensors if tensor.startswith(name[:-1])), None)
