"""The modules of a model that a LoRA can adapt: their names in either layout and their shapes.

A module is written as diffusers names it, one a projection (*split* q, k, v). `single` is its name
in a single file (ComfyUI, kohya); some models hold q, k and v there in one *fused* weight, stacked
along the rows in that order.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from types import MappingProxyType
from typing import Literal

Component = Literal["denoiser", "text-encoder", "text-encoder-2"]
"""A model of its own in a pipeline, which a LoRA can adapt."""


@dataclass(frozen=True)
class Module:
    """One weight: its component, its two names, its shape (out, in[, height, width]).

    `third` is 0, 1, 2 for the q, k, v that make up the fused weight `single`, otherwise None.
    """

    component: Component
    name: str
    single: str
    shape: tuple[int, ...]
    third: int | None = None


def same(component: Component, name: str, shape: tuple[int, ...]) -> Module:
    """A module that has one name in both layouts."""
    return Module(component, name, name, shape)


@dataclass(frozen=True)
class Table:
    """A family's modules, made by `make` when they are first asked for."""

    make: Callable[[], Iterable[Module]]

    @cached_property
    def modules(self) -> tuple[Module, ...]:
        """Every module that can be adapted."""
        return tuple(self.make())

    @cached_property
    def by_name(self) -> Mapping[tuple[Component, str], tuple[Module, ...]]:
        """The modules under every spelling, dotted or with underscores.

        A name of a fused weight gives its three modules in order, any other name gives one.
        """
        found: dict[tuple[Component, str], tuple[Module, ...]] = {}
        for module in self.modules:
            for name in {module.name, underscored(module.name)}:
                found[module.component, name] = (module,)
        for module in self.modules:
            for name in {module.single, underscored(module.single)}:
                place = module.component, name
                found[place] = (module,) if module.third is None else (*found.get(place, ()), module)
        return MappingProxyType(found)

    def find(self, component: Component, name: str) -> tuple[Module, ...]:
        """The modules that `name` means, or none."""
        return self.by_name.get((component, name), ())

    @property
    def fuses(self) -> bool:
        """True if the family's single files fuse q, k and v."""
        return any(module.third is not None for module in self.modules)


def underscored(name: str) -> str:
    """A module's name as kohya writes it."""
    return name.replace(".", "_")
