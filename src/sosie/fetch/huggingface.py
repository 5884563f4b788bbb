"""Hugging Face as a source: size, SHA-256 and commit from the head of a file, the licence from its repository.

Source: the hub answers HEAD .../resolve/REVISION/FILE with X-Repo-Commit, X-Linked-Size and X-Linked-Etag
(the SHA-256 of a file in LFS) before it redirects to its storage (huggingface_hub `get_hf_file_metadata`).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

from sosie.core.recipe import Commercial
from sosie.fetch.retries import DownloadError
from sosie.fetch.sources import HuggingFaceFile, Source, safe_name
from sosie.fetch.web import Web
from sosie.files.foreign import as_list, as_object, as_text

FREE = ("apache-2.0", "mit", "bsd-3-clause", "cc0-1.0", "cc-by-4.0", "openrail", "openrail++", "creativeml-openrail-m")
"""Licences, by the hub's names, that let the images be sold."""


def resolve_huggingface(web: Web, address: HuggingFaceFile) -> Source:
    """What the hub says of a file, its address pinned to the commit. Raises `DownloadError`."""
    headers = web.retry(str(address), lambda: _head(web, _url(web, address, address.revision)))
    commit = headers.get("x-repo-commit", "")
    if not re.fullmatch(r"[0-9a-f]{40}", commit):
        commit = ""
    etag = headers.get("x-linked-etag", headers.get("etag", "")).removeprefix("W/").strip('"').lower()
    size = headers.get("x-linked-size", headers.get("content-length", ""))
    repository = _repository(web, address, commit)
    licence = _licence(repository)
    revision = commit or address.revision
    return Source(
        text=str(HuggingFaceFile(address.repo, address.file, revision)),
        url=_url(web, address, revision),
        name=safe_name(address.file),
        size=int(size) if re.fullmatch(r"\d{1,18}", size) else None,
        sha256=etag if re.fullmatch(r"[0-9a-f]{64}", etag) else "",
        licence=licence,
        commercial=_commercial(licence),
        token="HF_TOKEN" if repository.get("gated") else "",
    )


def _url(web: Web, address: HuggingFaceFile, revision: str) -> str:
    return f"{web.hubs.huggingface}/{address.repo}/resolve/{quote(revision, safe='')}/{quote(address.file)}"


def _head(web: Web, url: str) -> Mapping[str, str]:
    with web.ask(url, "HEAD", same_host=True) as answer:
        return answer.headers


def _repository(web: Web, address: HuggingFaceFile, commit: str) -> dict[str, Any]:
    """What the hub says of the repository; empty where it says nothing, since only the licence is lost."""
    at = f"/revision/{commit}" if commit else ""
    try:
        return as_object(web.json(f"{web.hubs.huggingface}/api/models/{address.repo}{at}"))
    except DownloadError:
        return {}


def _licence(repository: Mapping[str, Any]) -> str:
    card = as_object(repository.get("cardData"))
    named = card.get("license")
    if named == "other" and isinstance(name := card.get("license_name"), str):
        named = name
    text = as_text(named) or ", ".join(map(str, as_list(named)))
    return "".join(letter for letter in text if letter.isprintable())[:100]


def _commercial(licence: str) -> Commercial:
    if licence in FREE:
        return "yes"
    return "no" if re.search(r"(^|-)nc(-|$)|non-?commercial", licence) else "ask"
