"""Engines: from plans to renders. One file each that brings a `Scheme`; adding one edits nothing else.

Other distributions name theirs in the entry point group `sosie.engines`, under the scheme's name. An engine is
imported when its scheme is asked for.
"""

from __future__ import annotations

from importlib.metadata import EntryPoint, entry_points

from sosie.core.errors import ConfigError, UsageError, nearest
from sosie.engines.scheme import Scheme

GROUP = "sosie.engines"

DEFAULT = "diffusers"
"""The engine that commands take if none is named."""

BUILT_IN = (
    EntryPoint("comfy", "sosie.engines.comfy.served:DIRECT", GROUP),
    EntryPoint("comfy+ssh", "sosie.engines.comfy.served:BY_SSH", GROUP),
    EntryPoint("diffusers", "sosie.engines.diffusers:SCHEME", GROUP),
    EntryPoint("fake", "sosie.engines.fake:SCHEME", GROUP),
    EntryPoint("pod", "sosie.engines.far.pod:SCHEME", GROUP),
    EntryPoint("ray", "sosie.engines.ray.engine:SCHEME", GROUP),
    EntryPoint("shards", "sosie.engines.shards.engine:SCHEME", GROUP),
    EntryPoint("ssh", "sosie.engines.far.engine:SCHEME", GROUP),
)


def scheme_of(address: str) -> Scheme:
    """The scheme of an engine's address. Raises `UsageError` that names the nearest, `ConfigError` as `find_scheme`."""
    found = find_scheme(address)
    if found is None or (":" in address and ":" not in found.form):
        known = {entry.name for entry in _entries()}
        near = nearest(address.partition(":")[0], known)
        hint = f"engines: {', '.join(sorted(known))}; sosie generate --help"
        raise UsageError(f"engine '{address}' is not known{near}", hint)
    return found


def find_scheme(address: str) -> Scheme | None:
    """The scheme of an engine's address, or None. Raises `ConfigError` for one that is broken or is there twice."""
    name = address.partition(":")[0]
    entries = [entry for entry in _entries() if entry.name == name]
    if not entries:
        return None
    if len(entries) > 1:
        raise ConfigError(f"{_source(entries[-1])} brings engine '{name}', which is there already", "uninstall one")
    return _load(entries[0])


def _entries() -> tuple[EntryPoint, ...]:
    return (*BUILT_IN, *entry_points(group=GROUP))


def _load(entry: EntryPoint) -> Scheme:
    hint = "update or uninstall that package"
    try:
        found = entry.load()
    except Exception as error:
        raise ConfigError(f"{_source(entry)} cannot be loaded: {error}", hint) from error
    if not isinstance(found, Scheme):
        raise ConfigError(f"{_source(entry)} names a {type(found).__name__}, not a Scheme", hint)
    if found.name != entry.name:
        raise ConfigError(f"{_source(entry)} brings engine '{found.name}', expected one of its own name", hint)
    return found


def _source(entry: EntryPoint) -> str:
    return f"entry point '{entry.name} = {entry.value}' of {entry.dist.name if entry.dist else 'Sosie'}"
