"""The guides that no family brings itself: of several families or of none, and those of other packages."""

from __future__ import annotations

import importlib
import importlib.metadata
import pkgutil
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

from sosie.families.contract.guides import GuideKind

GROUP = "sosie.guides"

OWN = "sosie.families.guides"


@dataclass(frozen=True)
class BrokenGuide:
    """A guide of another package that cannot be used, by its entry point's name, and why."""

    name: str
    why: str


@cache
def plugged_guides() -> tuple[GuideKind | BrokenGuide, ...]:
    """Every such guide, by name. One that is broken breaks nothing but itself."""
    found: dict[str, GuideKind | BrokenGuide] = {}
    for name, guide in _discovered():
        twice = name in found and isinstance(guide, GuideKind)
        found[name] = BrokenGuide(name, "two packages bring it; uninstall one") if twice else guide
    return tuple(found[name] for name in sorted(found))


def _discovered() -> Iterator[tuple[str, GuideKind | BrokenGuide]]:
    for module in pkgutil.iter_modules(importlib.import_module(OWN).__path__):
        guide: GuideKind = importlib.import_module(f"{OWN}.{module.name}").GUIDE
        yield guide.name, guide
    for entry in importlib.metadata.entry_points(group=GROUP):
        yield entry.name, _loaded(entry)


def _loaded(entry: importlib.metadata.EntryPoint) -> GuideKind | BrokenGuide:
    source = f"entry point '{entry.name} = {entry.value}' of {entry.dist.name if entry.dist else 'a package'}"
    try:
        guide = entry.load()
    except Exception as error:  # another project's code: it may fail in any way
        return BrokenGuide(entry.name, f"{source} cannot be loaded: {type(error).__name__}: {error}")
    if not isinstance(guide, GuideKind):
        return BrokenGuide(entry.name, f"{source} names a {type(guide).__name__}, not a GuideKind")
    if guide.name != entry.name:
        return BrokenGuide(entry.name, f"{source} brings guide '{guide.name}', expected one of its own name")
    return guide
