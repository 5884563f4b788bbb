"""What the publisher of a file says of it: size, SHA-256, licence, version, before anything is downloaded."""

from __future__ import annotations

from email.message import Message
from urllib.parse import unquote, urlsplit

from sosie.core.errors import UsageError
from sosie.fetch.sources import CivitaiFile, HuggingFaceFile, Source, WebFile, safe_name
from sosie.fetch.web import Web, WebResponse


def resolve(web: Web, address: HuggingFaceFile | CivitaiFile | WebFile, sha256: str = "") -> Source:
    """Asks the publisher; `sha256` helps to pick a file where an address means several.

    Raises `DownloadError` as `download` does, `UsageError` for an address that means several files.
    """
    from sosie.fetch.civitai import resolve_civitai
    from sosie.fetch.huggingface import resolve_huggingface

    if isinstance(address, HuggingFaceFile):
        return resolve_huggingface(web, address)
    if isinstance(address, CivitaiFile):
        return resolve_civitai(web, address, sha256)
    return web.retry(str(address), lambda: _head(web, address))


def _head(web: Web, address: WebFile) -> Source:
    """From the head of an answer to GET, since signed addresses refuse HEAD; its body is not read."""
    with web.ask(address.url) as answer:
        name = _name(answer, address)
        return Source(str(address), address.url, name, answer.length, title=name)


def _name(answer: WebResponse, address: WebFile) -> str:
    """The name that the server gives, else the address's; only its last part, and only if it is safe."""
    message = Message()
    message["Content-Disposition"] = answer.headers.get("content-disposition", "attachment")
    named = message.get_filename()
    if named:
        return safe_name(named)
    try:
        return safe_name(unquote(urlsplit(address.url).path))
    except UsageError:
        return safe_name(unquote(urlsplit(answer.url).path))
