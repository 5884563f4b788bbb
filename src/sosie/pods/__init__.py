"""Rented machines: what providers offer, and what still bills. One file a provider, that keeps `provider.Provider`.

Sosie brings `vast` and `runpod`. Other distributions name theirs in the entry point group `sosie.pods`, under the
provider's name:

    [project.entry-points."sosie.pods"]
    vast = "sosie_vast:PROVIDER"

A provider is imported when it is asked for.
"""

from __future__ import annotations

from importlib.metadata import EntryPoint, entry_points
from typing import cast

from sosie.core.errors import ConfigError, NotFoundError, nearest
from sosie.pods.provider import Provider

GROUP = "sosie.pods"

BUILT_IN = (
    EntryPoint("runpod", "sosie.pods.providers.runpod:PROVIDER", GROUP),
    EntryPoint("vast", "sosie.pods.providers.vast:PROVIDER", GROUP),
)
"""Those that Sosie brings; asked without being named if there is a key for them (`is_set_up`)."""


def provider_names() -> tuple[str, ...]:
    """The names of the providers that can be asked, in order: those of other packages, and our own that have a key."""
    ours = {entry.name for entry in BUILT_IN if getattr(entry.load(), "is_set_up", False)}
    return tuple(sorted({entry.name for entry in entry_points(group=GROUP)} | ours))


def provider_of(name: str) -> Provider:
    """The provider of that name. Raises `NotFoundError` that names the nearest, `ConfigError` for a broken one."""
    entries = [entry for entry in (*BUILT_IN, *entry_points(group=GROUP)) if entry.name == name]
    if not entries:
        near = nearest(name, {*provider_names(), *(entry.name for entry in BUILT_IN)})
        raise NotFoundError(f"pod provider '{name}' is not installed{near}", f"a package brings it in group {GROUP}")
    if len(entries) > 1:
        raise ConfigError(f"{_source(entries[-1])} brings provider '{name}', which is there already", "uninstall one")
    return _load(entries[0])


def _load(entry: EntryPoint) -> Provider:
    hint = "update or uninstall that package"
    try:
        found = entry.load()
    except Exception as error:  # another project's code: it may fail in any way
        raise ConfigError(f"{_source(entry)} cannot be loaded: {type(error).__name__}: {error}", hint) from error
    lacks = [name for name in ("name", "search", "rent", "leases", "end") if not hasattr(found, name)]
    if lacks:
        raise ConfigError(f"{_source(entry)} names {_kind(found)}, which lacks {', '.join(lacks)}", hint)
    provider = cast("Provider", found)
    if provider.name != entry.name:
        raise ConfigError(f"{_source(entry)} brings provider '{provider.name}', expected one of its own name", hint)
    return provider


def _source(entry: EntryPoint) -> str:
    return f"entry point '{entry.name} = {entry.value}' of {entry.dist.name if entry.dist else 'a package'}"


def _kind(found: object) -> str:
    name = type(found).__name__
    return f"{'an' if name[0] in 'AEIOUaeiou' else 'a'} {name}"
