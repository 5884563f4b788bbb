"""Strict mapping of TOML tables to frozen dataclasses, and canonical JSON back.

An unknown key, a missing key or a value of another type is a `ConfigError` that names the place
(`stages[0].sampler.steps`) and, for an unknown key, the nearest valid one.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
import reprlib
import types
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, TypeVar, Union, cast, get_args, get_origin

from sosie.core.errors import ConfigError, nearest

T = TypeVar("T")

LATER: Mapping[str, bool] = types.MappingProxyType({"later": True})
"""Metadata of a field that came after digests of its class were kept: at its default it is left out of tables."""

_SHORT = reprlib.Repr()
_SHORT.maxstring = _SHORT.maxother = _SHORT.maxlong = 120


def from_table(cls: type[T], table: Mapping[str, Any], where: str, at: str = "") -> T:
    """Builds the dataclass `cls` from `table`; `where` is the file, `at` the place in it."""
    fields, hints = _fields(cls), _hints(cls)
    for key in table:
        if key not in fields:
            place = f" in [{at}]" if at else ""
            raise ConfigError(f"{where}: unknown key '{key[:80]}'{place}{nearest(key, fields)}")
    values: dict[str, Any] = {}
    for name, spec in fields.items():
        place = f"{at}.{name}" if at else name
        if name in table:
            values[name] = _value(hints[name], table[name], where, place)
        elif spec.default is dataclasses.MISSING and spec.default_factory is dataclasses.MISSING:
            raise ConfigError(f"{where}: key '{place}' is missing")
    return cls(**values)


@functools.cache
def _fields(cls: type) -> dict[str, dataclasses.Field[Any]]:
    return {f.name: f for f in dataclasses.fields(cast(Any, cls)) if f.init}


@functools.cache
def _hints(cls: type) -> dict[str, Any]:
    return typing.get_type_hints(cls)


@functools.cache
def _parts(hint: Any) -> tuple[Any, tuple[Any, ...]]:
    return get_origin(hint), get_args(hint)


def _value(hint: Any, value: Any, where: str, at: str) -> Any:
    if hint is object:
        return value
    origin, args = _parts(hint)
    if origin in (Union, types.UnionType):
        options = [a for a in args if a is not type(None)]
        if value is None and len(options) < len(args):
            return None
        return _value(options[0], value, where, at)
    if origin is Literal:
        if value not in args:
            raise ConfigError(f"{where}: {at} = {shown(value)} is not allowed{nearest(str(value), map(str, args))}")
        return value
    if origin is tuple:
        _expect(isinstance(value, list | tuple), where, at, "a list", value)
        return tuple(_value(args[0], item, where, f"{at}[{i}]") for i, item in enumerate(value))
    if origin is dict:
        _expect(isinstance(value, dict), where, at, "a table", value)
        return {str(k): _value(args[1], v, where, f"{at}.{k}") for k, v in value.items()}
    if dataclasses.is_dataclass(hint):
        _expect(isinstance(value, dict), where, at, "a table", value)
        return from_table(cast(type[Any], hint), value, where, at)
    return _scalar(hint, value, where, at)


def _scalar(hint: Any, value: Any, where: str, at: str) -> Any:
    if hint is float:
        _expect(isinstance(value, int | float) and not isinstance(value, bool), where, at, "a number", value)
        return float(value)
    names = {int: "a whole number", str: "a text", bool: "true or false"}
    right = isinstance(value, hint) and (hint is bool or not isinstance(value, bool))
    _expect(right, where, at, names.get(hint, str(hint)), value)
    return value


def shown(value: object) -> str:
    """A value as errors show it: as Python writes it, cut where it is long or deep."""
    return _SHORT.repr(value)


def _expect(right: bool, where: str, at: str, expected: str, value: Any) -> None:
    if not right:
        raise ConfigError(f"{where}: {at} = {shown(value)} is not {expected}")


def to_table(value: Any) -> Any:
    """A dataclass as plain dicts, lists and scalars, in declaration order; a path as text.

    A field that is marked `LATER` is left out where it holds its default.
    """
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = ((f, getattr(value, f.name)) for f in dataclasses.fields(value))
        return {f.name: to_table(held) for f, held in fields if not (f.metadata.get("later") and held == f.default)}
    if isinstance(value, tuple | list):
        return [to_table(item) for item in cast("list[Any]", value)]
    if isinstance(value, dict):
        return {key: to_table(item) for key, item in cast("dict[str, Any]", value).items()}
    if isinstance(value, Path):
        return str(value)
    return value


def canonical(value: Any) -> bytes:
    """Canonical JSON: sorted keys, no spaces, UTF-8, shortest round-trip floats, no NaN."""
    table = to_table(value)
    text = json.dumps(table, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return text.encode("utf-8", errors="surrogatepass")


def digest(value: Any) -> str:
    """SHA-256 of the canonical JSON, 64 hex digits."""
    return hashlib.sha256(canonical(value)).hexdigest()
