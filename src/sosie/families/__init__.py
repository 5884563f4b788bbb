"""The families of models that Sosie knows. One folder each; adding one edits nothing else.

A family is a subpackage here with a `FAMILY`, or an object that another distribution names in the
entry point group `sosie.families`. What it may bring stands in `contract`. Finding families imports no torch:
what runs one is imported by `drawer_of`, `grapher_of` or `trainer_of`. Guides that others bring (`plugged`) are
among those of the families that they are for.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import pkgutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import cache
from typing import TypeVar

from sosie.core.errors import ConfigError, MissingPartError, NotFoundError, nearest
from sosie.families.contract.draws import OnDiffusers
from sosie.families.contract.family import Family
from sosie.families.contract.figures import Figures
from sosie.families.contract.graphs import OnComfy
from sosie.families.contract.guides import GuideKind, Guides
from sosie.families.contract.partners import Partners
from sosie.families.contract.trains import Trains
from sosie.families.plugged import plugged_guides
from sosie.files.model_file import ModelFile
from sosie.graph.guides import GuideNode, bring_guides
from sosie.graph.nodes import bring

GROUP = "sosie.families"

ELSEWHERE = "build it in ComfyUI, and run it by --workflow FILE.json --engine comfy:URL"
"""What draws models of a family that Sosie draws neither in this process nor as a graph."""

bring(lambda: (pack for family in families() for pack in family.nodes))

Part = TypeVar("Part")


@cache
def families() -> tuple[Family, ...]:
    """Every family, by name. Raises `ConfigError` for one that cannot be loaded or is there twice."""
    found: dict[str, Family] = {}
    for family, source in _discovered():
        if not isinstance(family, Family):
            raise ConfigError(f"{source} names a {type(family).__name__}, not a Family")
        if family.name in found:
            raise ConfigError(f"{source} brings family '{family.name}', which is there already", "uninstall one")
        found[family.name] = family
    return tuple(_with_plugged_guides(found[name]) for name in sorted(found))


def _with_plugged_guides(family: Family) -> Family:
    """The family with the guides that others bring for it; its own go first, and a name is there once."""
    own = {kind.name for kind in family.guides.kinds}
    more = [
        one
        for one in plugged_guides()
        if isinstance(one, GuideKind) and family.name in one.families and one.name not in own
    ]
    if not more:
        return family
    return replace(
        family,
        guides=replace(family.guides, kinds=(*family.guides.kinds, *more)),
        nodes=(*family.nodes, *(pack for one in more for pack in one.packs)),
        parts=(*(part for one in more for part in one.parts), *family.parts),
    )


def _guide_nodes() -> Iterator[GuideNode]:
    """The nodes of every guide, and those that take references."""
    for family in families():
        for kind in family.guides.kinds:
            yield from kind.nodes
        if family.guides.references:
            yield family.guides.references.node
    for one in plugged_guides():
        if isinstance(one, GuideKind):
            yield from one.nodes


bring_guides(_guide_nodes)


def find_family(name: str) -> Family | None:
    """The family of that name, or None."""
    return next((family for family in families() if family.name == name), None)


def family_of(name: str) -> Family:
    """The family of that name. Raises `NotFoundError` that names the nearest."""
    found = find_family(name)
    if found is None:
        known = [each.name for each in families()]
        raise NotFoundError(f"family '{name}' is not known{nearest(name, known)}", "sosie recipe check RECIPE")
    return found


def partners_of(name: str) -> Partners:
    """What a family's models are put together with; an empty one where it, or the family, is not known."""
    found = find_family(name)
    return found.partners if found else Partners()


def figures_of(name: str) -> Figures:
    """What a family's models take of a machine; without a figure where it, or the family, is not known."""
    found = find_family(name)
    return found.figures if found else Figures()


def guides_of(name: str) -> Guides:
    """The identity guides of a family; none where it, or the family, is not known."""
    found = find_family(name)
    return found.guides if found else Guides()


def drawer_of(name: str) -> OnDiffusers:
    """What draws a family's stages in this process; may import torch. Raises as `expect_drawer`."""
    return expect_drawer(name)()


def expect_drawer(name: str) -> Callable[[], OnDiffusers]:
    """The drawer, not imported yet. Raises `NotFoundError`, or `MissingPartError` that names an engine that can."""
    hint = "--engine comfy:URL" if family_of(name).on_comfy else ELSEWHERE
    return _expect(name, "{title} cannot be drawn in this process", lambda family: family.on_diffusers, hint)


def grapher_of(name: str) -> OnComfy:
    """What draws a family's stages as nodes. Raises `NotFoundError` or `MissingPartError`."""
    hint = ELSEWHERE
    return _expect(name, "Sosie draws no graphs for {title}", lambda family: family.on_comfy, hint)()


def trainer_of(name: str) -> Trains:
    """What trains a family's LoRAs; imports torch. Raises as `expect_trainer`."""
    return expect_trainer(name)()


def terms_of(model: ModelFile) -> str:
    """One sentence on a model that draws: its publisher's licence as it was noted, and what draws it; else empty."""
    family = find_family(model.family)
    if family is None or model.role not in ("checkpoint", "denoiser", "pipeline"):
        return ""
    licence = family.licence(model.variant)
    here = family.draws(model.variant)
    drawn = "drawn in this process" if here else "not drawn in this process"
    how = "" if here else f": {'--engine comfy:URL' if family.on_comfy and not family.undrawn else ELSEWHERE}"
    told = family.told_by_name(model.path.name)
    return f"licence: {licence or 'not noted'}; {drawn}{how}" + (f"; {told}" if told else "")


def expect_trainer(name: str) -> Callable[[], Trains]:
    """The trainer, not imported yet. Raises `NotFoundError` or `MissingPartError`."""
    hint = "choose a recipe whose first stage is of one of these"
    return _expect(name, "{title} cannot be trained", lambda family: family.trains, hint)


def _expect(
    name: str, message: str, part: Callable[[Family], Callable[[], Part] | None], hint: str
) -> Callable[[], Part]:
    """A family's part, not imported yet; the error names the families that have one."""
    found = part(family_of(name))
    if found is None:
        able = ", ".join(each.name for each in families() if part(each)) or "none"
        raise MissingPartError(f"{message.format(title=family_of(name).title)}; families that can: {able}", hint)
    return found


def _discovered() -> Iterator[tuple[object, str]]:
    """Each family with a text that says where it comes from."""
    for module in pkgutil.iter_modules(__path__):
        if module.ispkg and module.name not in ("contract", "guides"):
            yield importlib.import_module(f"{__name__}.{module.name}").FAMILY, f"{__name__}.{module.name}"
    for entry in importlib.metadata.entry_points(group=GROUP):
        source = f"entry point '{entry.name} = {entry.value}' of {entry.dist.name if entry.dist else 'a package'}"
        try:
            yield entry.load(), source
        except Exception as error:
            raise ConfigError(f"{source} cannot be loaded: {error}", "update or uninstall that package") from error
