"""The families of models that Sosie knows. One folder each; adding one edits nothing else.

A family is a subpackage here with a `FAMILY`, or an object that another distribution names in the
entry point group `sosie.families`. Finding them imports no torch: what runs a family stands in
modules of its own (`on_diffusers`), which only an engine imports.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import pkgutil
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

from sosie.core.errors import ConfigError
from sosie.files.signature import Part

GROUP = "sosie.families"


@dataclass(frozen=True)
class Family:
    """A family of models: its name in recipes, its title for people, and how its files are known.

    `package` is the Python package that holds what runs it (`PACKAGE.on_diffusers`). `parts` are
    the kinds of file, the more particular before the more general: the first that matches counts.
    """

    name: str
    title: str
    package: str
    parts: tuple[Part, ...]


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
    return tuple(found[name] for name in sorted(found))


def _discovered() -> Iterator[tuple[object, str]]:
    """Each family with a text that says where it comes from."""
    for module in pkgutil.iter_modules(__path__):
        if module.ispkg:
            yield importlib.import_module(f"{__name__}.{module.name}").FAMILY, f"{__name__}.{module.name}"
    for entry in importlib.metadata.entry_points(group=GROUP):
        source = f"entry point '{entry.name} = {entry.value}' of {entry.dist.name if entry.dist else 'a package'}"
        try:
            yield entry.load(), source
        except Exception as error:
            raise ConfigError(f"{source} cannot be loaded: {error}", "update or uninstall that package") from error
