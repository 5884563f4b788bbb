"""How a part of a model is known from its header: signatures as data, and their matching.

A family lists `Part`s. A part claims a file if all of its marks are there and none of `absent`.
Three answers differ: no family claims the file, one does, several do.
"""

from __future__ import annotations

import bisect
import dataclasses
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal, Protocol

from sosie.files.gguf import ARCHITECTURE
from sosie.files.safetensors import Header, TensorInfo
from sosie.files.storage import UNKNOWN_SIZE

Role = Literal[
    "checkpoint",
    "denoiser",
    "vae",
    "text-encoder",
    "image-encoder",
    "controlnet",
    "ip-adapter",
    "instantid",
    "upscaler",
    "model-patch",
    "projector",
]
"""A `model-patch` is added to a denoiser's blocks; a `projector` is how a language model in GGUF sees (mmproj)."""

COMFY = "model.diffusion_model."
"""The prefix of a denoiser's tensors in single files that can hold other parts too."""

COMPONENTS = {
    "model": (COMFY,),
    "text encoder": ("conditioner.embedders.", "cond_stage_model.", "text_encoders."),
    "VAE": ("first_stage_model.", "vae."),
}
"""The components of a checkpoint, and how their tensors' names begin."""


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
    """A name for files of a part that also have all these marks; `parameters` where they differ from the part's."""

    name: str
    marks: tuple[Mark, ...]
    parameters: int = 0


@dataclass(frozen=True)
class Part:
    """A kind of file of a family: what it is for, how its keys are named, and how it is known.

    `prefixes` are the beginnings that all names of `marks` may have. `absent` are names, written
    in full or with a `*` at the end, that another kind of file has. The first of `variants` that
    matches names the variant, else `variant` does. `parameters` is how many numbers a whole model
    of this kind has (0: sizes differ, or not known). `fingerprint` is a small tensor by whose bytes
    files can be told apart that share a header. `plain_file` is the published file in bf16, with its
    size, to take where a packed one cannot be loaded. `fed_by` names what an adapter was trained on: the variants of
    the image encoder, each known by marks of the adapter. `architecture` is what a GGUF file must say of itself, for
    kinds whose tensors are named alike (empty: anything, or nothing). `used_by` are nodes of ComfyUI that use what its
    loader gives. `blind` is said of an encoder whose model sees and that, in its own variant, does not: the name that
    the file of its eyes has beside it.
    """

    role: Role
    layout: str
    marks: tuple[Mark, ...]
    absent: tuple[str, ...] = ()
    prefixes: tuple[str, ...] = ("",)
    variants: tuple[Variant, ...] = ()
    variant: str = "base"
    parameters: int = 0
    fingerprint: str = ""
    plain_file: str = ""
    fed_by: tuple[Variant, ...] = ()
    architecture: str = ""
    used_by: str = ""
    blind: str = ""


def bundled(part: Part, *others: Mark) -> Part:
    """A denoiser's part as it stands in a single file that also has `others` (full names)."""
    marks = tuple(dataclasses.replace(mark, name=COMFY + mark.name) for mark in part.marks)
    variants = tuple(dataclasses.replace(variant, parameters=0) for variant in part.variants)
    return dataclasses.replace(
        part, role="checkpoint", marks=(*marks, *others), prefixes=("",), variants=variants, parameters=0
    )


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
class FamilyClaim:
    """A family knows a header as this part, in this variant."""

    family: str
    part: Part
    variant: str
    prefix: str = ""
    parameters: int = 0
    fed_by: str = ""


@dataclass(frozen=True)
class Near:
    """The family that comes nearest to a header: how near, and the first thing that keeps it from being that."""

    family: str
    because: str


def claims(header: Header, families: Iterable[Signed]) -> list[FamilyClaim]:
    """One claim for each family that knows the header, by the first of its parts that matches.

    A size of `UNKNOWN_SIZE` fits every mark of a part and none of a variant. Takes O(marks * log(tensors)).
    """
    names = _Names(header)
    found: list[FamilyClaim] = []
    for family in families:
        for part in family.parts:
            prefix = _prefix(names, part)
            if prefix is not None:
                variant, parameters = _variant(names, part, prefix)
                fed_by = _first(names, part.fed_by, (prefix,))
                fed = fed_by.name if fed_by else ""
                found.append(FamilyClaim(family.name, part, variant, prefix, parameters, fed))
                break
    return found


def components(header: Header) -> tuple[str, ...]:
    """The `COMPONENTS` of a checkpoint that a header has."""
    names = _Names(header)
    return tuple(part for part, begins in COMPONENTS.items() if any(names.first(f"{begin}*") for begin in begins))


def nearest_part(header: Header, families: Iterable[Signed]) -> Near | None:
    """The part with the largest share of its marks in the header, and of those most; None if none has any."""
    names = _Names(header)
    best: tuple[tuple[float, int], Near] | None = None
    for family in families:
        for part in family.parts:
            for prefix in part.prefixes if part.architecture in ("", names.architecture) else ():
                misses = [miss for mark in part.marks if (miss := _miss(names, prefix, mark))]
                held = len(part.marks) - len(misses)
                rank = (held / len(part.marks), held)
                if held and (best is None or rank > best[0]):
                    near = f"it has {held} of the {len(part.marks)} marks"
                    kind = f"{part.role} of {family.title} ({part.layout})"
                    why = misses[0] if misses else _intruder(names, part)
                    best = rank, Near(family.name, f"{near} of a known {kind}, but {why}")
    return None if best is None else best[1]


class _Names:
    """The tensors of a header, with a quick answer to "is there a name that begins so"."""

    def __init__(self, header: Header) -> None:
        self.tensors: Mapping[str, TensorInfo] = header.tensors
        self.architecture = header.metadata.get(ARCHITECTURE, "")
        self._sorted = sorted(header.tensors)

    def first(self, name: str) -> str | None:
        """The name of a tensor that `name` (exact, or a beginning and `*`) means."""
        if not name.endswith("*"):
            return name if name in self.tensors else None
        at = bisect.bisect_left(self._sorted, name[:-1])
        found = self._sorted[at] if at < len(self._sorted) else ""
        return found if found and found.startswith(name[:-1]) else None


def _prefix(names: _Names, part: Part) -> str | None:
    """The prefix under which `part` matches, or None."""
    if _intruder(names, part) or (part.architecture and names.architecture != part.architecture):
        return None
    for prefix in part.prefixes:
        if not any(_miss(names, prefix, mark) for mark in part.marks):
            return prefix
    return None


def _variant(names: _Names, part: Part, prefix: str) -> tuple[str, int]:
    """The variant's name, and how many parameters a whole file of it has."""
    # The marks of a bundled denoiser's variants stand under the denoiser's prefix, others under none.
    variant = _first(names, part.variants, (prefix, "", COMFY))
    if variant is None:
        return part.variant, part.parameters
    return variant.name, variant.parameters or part.parameters


def _first(names: _Names, variants: Iterable[Variant], places: tuple[str, ...]) -> Variant | None:
    """The first that has all of its marks, each under one of the prefixes `places`; a size must be known."""
    for variant in variants:
        if all(any(not _miss(names, place, mark, certain=True) for place in places) for mark in variant.marks):
            return variant
    return None


def _intruder(names: _Names, part: Part) -> str:
    """Why `absent` forbids the part, or empty."""
    for name in part.absent:
        if names.first(name) is not None:
            return f"it also has '{name}', which that has not"
    return ""


def _miss(names: _Names, prefix: str, mark: Mark, certain: bool = False) -> str:
    """Why the header lacks the mark, or empty. A size that is not known misses only if `certain`."""
    name = prefix + mark.name
    found = names.first(name)
    if found is None:
        return f"it lacks '{name}'"
    if not mark.sizes and not mark.below:
        return ""
    shape = names.tensors[found].shape
    size = shape[mark.axis] if mark.axis < len(shape) else None
    if size is not None and (size in mark.sizes or 0 <= size < mark.below or (size == UNKNOWN_SIZE and not certain)):
        return ""
    return f"'{name}' has the shape {list(shape)}, expected {_expected(mark)} on axis {mark.axis}"


def _expected(mark: Mark) -> str:
    return " or ".join(map(str, mark.sizes)) if mark.sizes else f"less than {mark.below}"
