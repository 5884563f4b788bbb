"""CivitAI as a source: a model's or a version's number, the version's files with size and SHA-256, the terms.

Source: the site's API v1 (`models/ID`, `model-versions/ID`, `model-versions/by-hash/HASH`). `sizeKB` counts
1024 bytes and has the fraction that makes it exact. Numbers of models and of versions overlap.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sosie.core.errors import UsageError
from sosie.core.recipe import Commercial
from sosie.fetch.sources import CivitaiFile, Source, safe_name
from sosie.fetch.web import NotThereError, Web
from sosie.files.foreign import as_count, as_list, as_object, as_objects

Table = Mapping[str, Any]


@dataclass(frozen=True)
class _Version:
    """A version and its model, as the site describes them."""

    model: Table
    version: Table

    @property
    def source(self) -> str:
        return f"civitai:{_number(self.model)}@{_number(self.version)}"

    @property
    def title(self) -> str:
        base = _text(self.version, "baseModel")
        name = f"{_text(self.model, 'name')}, version '{_text(self.version, 'name')}'"
        return f"{name} ({base})" if base else name

    @property
    def files(self) -> Sequence[Table]:
        return as_objects(self.version.get("files"))


def resolve_civitai(web: Web, address: CivitaiFile, sha256: str = "") -> Source:
    """The file that is meant, its version pinned; `sha256` picks it where it is known.

    Raises `DownloadError`, and `UsageError` where a number means a model and a version, or a file is not told.
    """
    sha256 = sha256 or address.sha256
    found = _with_hash(_versions(web, address), sha256)
    if not found:
        raise NotThereError(f"CivitAI has no {address}")
    if len(found) > 1:
        readings = "; ".join(f"{one.source} is {one.title}" for one in found)
        raise UsageError(f"{address} is a model and a version: {readings}", f"say which: {found[0].source}")
    chosen = found[0]
    file = _choose(chosen, address, sha256)
    primary = file.get("primary") is True or len(chosen.files) == 1
    size = file.get("sizeKB")
    size_bytes = size * 1024 if isinstance(size, int | float) else 0
    allowed = _allowed(chosen.model)
    query = "" if primary else f"?fileId={_number(file)}"
    return Source(
        text=chosen.source if primary else f"{chosen.source}:{_text(file, 'name')}",
        url=f"{web.hubs.civitai}/api/download/models/{_number(chosen.version)}{query}",
        name=safe_name(_text(file, "name")),
        size=round(size_bytes) if size_bytes > 0 and abs(size_bytes - round(size_bytes)) < 0.01 else None,
        sha256=_hash(file),
        licence=f"civitai.com/models/{_number(chosen.model)} (allowed: {', '.join(allowed) or 'nothing for sale'})",
        commercial=_commercial(allowed, chosen.model),
        title=chosen.title,
    )


def _versions(web: Web, address: CivitaiFile) -> list[_Version]:
    """Everything that the address can mean; of a model all versions, the newest first."""
    if address.sha256:
        return _of_version(web, f"by-hash/{address.sha256}")
    if address.version:
        found = _of_version(web, str(address.version))
        for one in found:
            if address.model and _number(one.model) != address.model:
                raise UsageError(f"version {address.version} belongs to {one.source}, not to {address}", one.source)
        return found
    if address.model:
        return _of_model(web, address.model)
    return [*_of_version(web, str(address.number)), *_of_model(web, address.number)]


def _of_version(web: Web, which: str) -> list[_Version]:
    version = as_object(web.json(f"{web.hubs.civitai}/api/v1/model-versions/{which}"))
    if not version:
        return []
    model = as_object(web.json(f"{web.hubs.civitai}/api/v1/models/{as_count(version.get('modelId'))}"))
    return [_Version({**as_object(version.get("model")), "id": version.get("modelId"), **model}, version)]


def _of_model(web: Web, number: int) -> list[_Version]:
    model = as_object(web.json(f"{web.hubs.civitai}/api/v1/models/{number}"))
    return [_Version(model, version) for version in as_objects(model.get("modelVersions"))]


def _with_hash(found: Sequence[_Version], sha256: str) -> list[_Version]:
    """The first version with a file of that digest; without one, the newest of each model that is meant."""
    if sha256:
        exact = [one for one in found if any(_hash(file) == sha256 for file in one.files)]
        if exact:
            return exact[:1]
    newest: dict[int, _Version] = {}
    for one in found:
        newest.setdefault(_number(one.model), one)
    return list(newest.values())


def _choose(version: _Version, address: CivitaiFile, sha256: str) -> Table:
    """The file by digest, name or traits; else the primary one, else the only model file."""
    files = version.files
    traits = dict(address.traits)
    if address.file or traits:
        files = [file for file in files if _matches(file, address.file, traits)]
    for file in files:
        if sha256 and _hash(file) == sha256:
            return file
    models = [file for file in files if _text(file, "type") in ("Model", "Pruned Model", "VAE")] or files
    primary = [file for file in models if file.get("primary") is True] or models
    if len(primary) == 1:
        return primary[0]
    names = ", ".join(_text(file, "name") for file in version.files) or "none"
    hint = f"{version.source}:FILE"
    raise UsageError(f"{version.source} ({version.title}) has the files {names}; {address} names none of them", hint)


def _matches(file: Table, name: str, traits: Mapping[str, str]) -> bool:
    metadata = as_object(file.get("metadata"))
    values = {**metadata, "type": file.get("type"), "fileId": str(file.get("id"))}
    return (not name or _text(file, "name") == name) and all(values.get(key) == value for key, value in traits.items())


def _allowed(model: Table) -> list[str]:
    """What the model's maker allows to be sold: Image, Rent, RentCivit, Sell; older answers hold one text."""
    found: Any = model.get("allowCommercialUse")
    if isinstance(found, str):
        found = found.strip("{}").split(",")
    return [str(value)[:20] for value in as_list(found) if str(value) not in ("None", "")]


def _commercial(allowed: Sequence[str], model: Table) -> Commercial:
    if "allowCommercialUse" not in model:
        return "ask"
    return "yes" if {"Image", "Sell"} & set(allowed) else "no"


def _hash(file: Table) -> str:
    return _text(as_object(file.get("hashes")), "SHA256").lower()


def _number(table: Table) -> int:
    value = table.get("id")
    return value if isinstance(value, int) else 0


def _text(table: Table, key: str) -> str:
    value = table.get(key)
    return "".join(letter for letter in value if letter.isprintable())[:200] if isinstance(value, str) else ""
