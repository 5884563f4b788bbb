"""The modules of a model that a LoRA can adapt: their names in either layout and their shapes.

A module is written as diffusers names it, one a projection (*split* q, k, v). `single` is its name
in a single file (ComfyUI, kohya); some models hold several modules there in one *fused* weight, stacked
along the rows in their order: q, k, v, or k and v, or q, k, v and the feed-forward layer.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from types import MappingProxyType
from typing import Literal

Component = Literal["denoiser", "text-encoder", "text-encoder-2", "text-encoder-3"]
"""A model of its own in a pipeline, which a LoRA can adapt."""


@dataclass(frozen=True)
class Module:
    """One weight: its component, its two names, its shape (out, in[, height, width]).

    `part` is its place (0, 1, ...) among those that make up the fused weight `single`, otherwise None. `turned`:
    the single file has its two halves of rows in the other order.
    """

    component: Component
    name: str
    single: str
    shape: tuple[int, ...]
    part: int | None = None
    turned: bool = False


def same(component: Component, name: str, shape: tuple[int, ...]) -> Module:
    """A module that has one name in both layouts."""
    return Module(component, name, name, shape)


def fused(component: Component, single: str, *parts: tuple[str, tuple[int, ...]]) -> Iterable[Module]:
    """The modules of a fused weight in their order, each as (name, shape)."""
    return (Module(component, name, single, shape, place) for place, (name, shape) in enumerate(parts))


def _no_other(_: str) -> str:
    return ""


@dataclass(frozen=True)
class Table:
    """A family's modules in one of its sizes, made by `make` when they are first asked for.

    `title` tells it from the family's other sizes. `other` gives a third name of what a single file names so, as
    trainers write it that keep the names of the model's first publication; empty: there is none.
    """

    make: Callable[[], Iterable[Module]]
    title: str = ""
    other: Callable[[str], str] = _no_other

    @cached_property
    def modules(self) -> tuple[Module, ...]:
        """Every module that can be adapted."""
        return tuple(self.make())

    @cached_property
    def wholes(self) -> Mapping[tuple[Component, str], tuple[Module, ...]]:
        """The modules of each weight of a single file, by its name there: one, or those that are fused in it."""
        found: dict[tuple[Component, str], tuple[Module, ...]] = {}
        for module in self.modules:
            place = module.component, module.single
            found[place] = (module,) if module.part is None else (*found.get(place, ()), module)
        return MappingProxyType(found)

    @cached_property
    def _by_name(self) -> Mapping[tuple[Component, str], tuple[Module, ...]]:
        """The modules under every name, with underscores."""
        found: dict[tuple[Component, str], tuple[Module, ...]] = {}
        for module in self.modules:
            found[module.component, underscored(module.name)] = (module,)
        for (component, single), modules in self.wholes.items():
            found[component, underscored(single)] = modules
            if other := self.other(single):
                found[component, underscored(other)] = modules
        return MappingProxyType(found)

    @cached_property
    def last_blocks(self) -> Mapping[str, int]:
        """The last number of each kind of block."""
        return last_blocks(self.modules)

    @cached_property
    def components(self) -> frozenset[Component]:
        """The components that are listed."""
        return frozenset(module.component for module in self.modules)

    def find(self, component: Component, name: str) -> tuple[Module, ...]:
        """The modules that `name` means, in any spelling: a fused weight's all, in order; another's one; or none."""
        flat = underscored(name).rstrip("_")
        found = self._by_name.get((component, flat), ())
        if not found and flat.endswith(("to_out", "to_out_0")):
            found = self._by_name.get((component, flat.removesuffix("_0") if flat.endswith("_0") else flat + "_0"), ())
        return found

    @property
    def fuses(self) -> bool:
        """True if the family's single files fuse modules."""
        return any(module.part is not None for module in self.modules)


def last_blocks(modules: Iterable[Module]) -> dict[str, int]:
    """The last number of each kind of block, as `layers.29` has 29, by the denoiser's names in diffusers."""
    last: dict[str, int] = {}
    for module in modules:
        if module.component == "denoiser" and (found := _BLOCK.match(module.name)):
            last[found[1]] = max(last.get(found[1], 0), int(found[2]))
    return last


_BLOCK = re.compile(r"([a-z_.]*?)\.(\d+)\.")


def underscored(name: str) -> str:
    """A module's name as kohya writes it."""
    return name.replace(".", "_")
