"""One part of a model: its tensors wherever they lie, and the module that they make.

A part is in a folder of diffusers, in a file, or in a part of a file, however stored. The names and shapes are checked
before a number is read.
"""

from __future__ import annotations

import inspect
import math
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeVar, cast

import accelerate
import torch
from torch import nn

from sosie.core.errors import BadModelError
from sosie.diffusion.flow.memory import CAST, PartSize
from sosie.diffusion.loading import quiet
from sosie.diffusion.weights.filling import fill
from sosie.diffusion.weights.reading import Weights, read_weights
from sosie.diffusion.weights.sources import Members, Source, Sources
from sosie.files.foreign import read_object
from sosie.files.gguf import ARCHITECTURE
from sosie.files.model_file import read_any_header, weight_files

SHOW = "sosie model show says what it is"

Shapes = Mapping[str, tuple[int, ...]]

T = TypeVar("T")


class SplitNames(Protocol):
    """Renames a file's tensors to those of a class; `split` gives one of so many equal parts of a tensor's rows."""

    def __call__(self, found: Mapping[str, T], split: Callable[[T, int, int], T], /) -> Mapping[str, T]:
        """What is known of each tensor, by the names of the class."""
        ...


_empty: Any = accelerate.init_empty_weights


@dataclass(frozen=True)
class PartKind:
    """A part of a family's models: what it is called in messages, and one of the names that end `marks`.

    `component` is its folder's name in a diffusers model. `describe` says what a path is, in a sentence. `members` is
    what DFloat11 joins.
    """

    title: str
    component: str
    marks: tuple[str, ...]
    describe: Callable[[Path], str]
    members: Members | None = None


@dataclass(frozen=True)
class PartWeights:
    """A part's tensors, without the prefix that their names have in the file.

    `config` is that of config.json beside them; empty where there is none. `architecture` is what a GGUF file says of
    itself.
    """

    path: Path
    stored: Weights
    config: Mapping[str, Any]
    kind: PartKind
    architecture: str = ""

    @property
    def shapes(self) -> Shapes:
        """By name."""
        return {name: self.stored.shape(name) for name in self.stored.names}

    @property
    def described(self) -> str:
        """What it is, in a sentence for an error."""
        return self.kind.describe(self.path)


@dataclass(frozen=True)
class Loading:
    """In what precision, through which device, and which modules stay packed (None: none)."""

    dtype: torch.dtype
    through: str = "cpu"
    keep: Callable[[str], bool] | None = None


@dataclass(frozen=True)
class Naming:
    """Under the names of the class: the shapes of the tensors, and where they are."""

    shapes: Shapes
    sources: Sources


def open_part(path: Path, kind: PartKind) -> PartWeights:
    """The part of a kind in the model at `path`.

    `path` is a diffusers folder, the component's own, or a file that may hold other parts too. No tensor is read.
    Raises `BadModelError` for what does not hold the part, and for a storage that is not read.
    """
    place = path / kind.component if (path / kind.component).is_dir() else path
    try:
        stored = read_weights(place, members=kind.members)
    except BadModelError as error:
        raise BadModelError(error.message, error.hint or SHOW) from None
    prefixes = [name.removesuffix(mark) for mark in kind.marks for name in stored.names if name.endswith(mark)]
    if not prefixes:
        raise BadModelError(f"{kind.describe(path)}; expected the {kind.title}", SHOW)
    first = weight_files(place)[0] if place.is_dir() else place
    beside = first.with_name("config.json")
    config = read_object(beside, "download it again") if beside.is_file() else {}
    architecture = read_any_header(first)[0].metadata.get(ARCHITECTURE, "")
    return PartWeights(path, stored.under(min(prefixes, key=len)), config, kind, architecture)


def filled(weights: PartWeights, naming: Naming, build: Callable[[Shapes], nn.Module], how: Loading) -> nn.Module:
    """The module that `build` makes of the shapes, with the tensors; all of them must be there and fit."""
    try:
        with quiet(), _empty():
            module: nn.Module = build(naming.shapes)
    except (KeyError, ValueError, TypeError, ZeroDivisionError) as error:
        message = f"{weights.described}; its tensors make no model: {str(error)[:200]}"
        raise BadModelError(message, SHOW) from error
    wanted = {name: tuple(tensor.shape) for name, tensor in module.state_dict().items()}
    _expect_shapes(weights, naming.shapes, wanted)
    fill(module, weights.stored, naming.sources, how.dtype, how.keep, how.through)
    _fill_buffers(module, weights, naming.sources)
    return _with_buffers(module).eval().requires_grad_(False)


def builder(
    kind: Callable[..., nn.Module], weights: PartWeights, derived: Callable[[Shapes], dict[str, Any]]
) -> Callable[[Shapes], nn.Module]:
    """Makes a class of diffusers by the part's own config.json, or by what its shapes tell where there is none."""

    def build(shapes: Shapes) -> nn.Module:
        known = inspect.signature(cast(Any, kind).__init__).parameters
        return kind(**(own_config(weights.config, known) or derived(shapes)))

    return build


def split_rows(shapes: Shapes, names: SplitNames) -> Naming:
    """Where a file may hold several layers in one, such as q, k and v: `names` tells their rows apart."""

    def rows(shape: tuple[int, ...], parts: int, _part: int) -> tuple[int, ...]:
        return (shape[0] // parts, *shape[1:])

    def source(whole: Source, parts: int, part: int) -> Source:
        height = shapes[whole.name][0] // parts
        return Source(whole.name, (part * height, (part + 1) * height))

    return Naming(names(shapes, rows), names({name: Source(name) for name in shapes}, source))


def part_size(stored: Weights, number: int, keep: Callable[[str], bool]) -> PartSize:
    """What a part's weights take once loaded, `number` bytes for each that does not stay packed."""
    held = eight = 0
    for name in stored.names:
        packed = stored.packed(name) if keep(name.removesuffix(".weight")) else None
        numbers = math.prod(stored.shape(name))
        held += number * numbers if packed is None else packed.bytes
        eight += round(CAST * numbers) if packed is None else packed.bytes
    packed = held < number * sum(math.prod(stored.shape(name)) for name in stored.names)
    return PartSize(held, held if packed else eight, packed)


def own_config(config: Mapping[str, Any], known: Iterable[str]) -> dict[str, Any]:
    """What of a config.json is one of the `known` arguments."""
    names = set(known)
    return {name: value for name, value in config.items() if name in names}


def blocks(list_of: str, shapes: Iterable[str]) -> int:
    """How many blocks a list has: as many as there are numbers, however large they are."""
    pattern = re.compile(re.escape(list_of) + r"\.(\d{1,4})\.")
    return len({int(found[1]) for name in shapes if (found := pattern.match(name))})


def _expect_shapes(weights: PartWeights, found: Shapes, wanted: Shapes) -> None:
    lacking = [name for name in wanted if name not in found]
    odd = [name for name in wanted if name in found and found[name] != wanted[name]]
    strange = [name for name in found if name not in wanted]
    for names, what in ((lacking, "lacks"), (odd, "has of another shape"), (strange, "has and should not")):
        if names:
            message = f"{weights.described}; it {what} {len(names)} tensors, first {names[0][:120]}"
            raise BadModelError(message, SHOW)


def _fill_buffers(module: nn.Module, weights: PartWeights, sources: Sources) -> None:
    """Gives buffers that a file holds their numbers, as they are stored."""
    kept = set(module.state_dict()) - {name for name, _ in module.named_parameters()}
    for name in kept:
        parent, _, own = name.rpartition(".")
        module.get_submodule(parent).register_buffer(own, weights.stored.tensor(sources[name].name).clone())


def _with_buffers(module: nn.Module) -> nn.Module:
    """The module with its buffers computed: what was built without memory has none, and no file holds them."""
    for part in module.modules():
        if any(buffer.is_meta for buffer in part.buffers(recurse=False)):
            fresh = type(part)(cast(Any, part).config)
            for name, buffer in fresh.named_buffers(recurse=False):
                part.register_buffer(name, buffer, persistent=False)
    return module
