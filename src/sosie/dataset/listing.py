"""Lists of images on the network: a text file with an address a line, or JSON as Cloudinary and S3 export it.

    TXT                                            an address a line; lines that begin with # do not count
    ["https://...", {"url": ..., "caption": ...}]  any list; sha256 and bytes are checked where they are given
    {"resources": [{"secure_url", "bytes"...}]}    Cloudinary's Admin API (resources), or its CLI's export
    {"Name": ..., "Contents": [{"Key", "Size"}]}   S3's ListObjectsV2; --base-url where it has no Name

Addresses may be signed: what messages and records show of them is without the query.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import parse_qsl, quote, urlsplit

from sosie.core.address import bare
from sosie.core.errors import ConfigError, UsageError
from sosie.core.schema import digest
from sosie.fetch.download import Wanted, download
from sosie.fetch.hubs import shown
from sosie.fetch.web import Web
from sosie.files.foreign import as_list, as_object, list_or_none, object_or_none, parse_json
from sosie.files.picture_kinds import is_named_as_picture
from sosie.files.regular import read_text

MAX_BYTES = 20_000_000
"""Bytes of the longest list that is read."""

SIGNED = re.compile(
    r"x-amz-|x-goog-|^(signature|sig|se|sp|sv|sr|expires|awsaccesskeyid|key-pair-id|policy|token)$", re.I
)
"""Parameters of an address that change with each signing, and do not say which file it is."""

FORMATS = "a text file with an address a line, or JSON: a list, Cloudinary's resources, or S3's Contents"


@dataclass(frozen=True)
class Listed:
    """One image of a list: its address, and what the list says of it (None and empty: nothing)."""

    url: str = field(repr=False)
    size: int | None = None
    sha256: str = ""
    caption: str = ""

    @property
    def source(self) -> str:
        """The address as records show it."""
        return shown(self.url)

    @property
    def key(self) -> str:
        """What is the same for one image whenever it is listed: 16 hex digits and the ending."""
        parts = urlsplit(self.url)
        query = sorted(pair for pair in parse_qsl(parts.query) if not SIGNED.search(pair[0]))
        suffix = PurePosixPath(parts.path).suffix.lower()
        ending = suffix if is_named_as_picture(Path(f"x{suffix}")) else ".img"
        return digest([bare(self.url), query])[:16] + ending


@dataclass(frozen=True)
class ImageList:
    """The images of a list, each once, and its notes."""

    images: tuple[Listed, ...]
    notes: tuple[str, ...] = ()


def read_listing(path: Path, base_url: str = "") -> ImageList:
    """Reads a list of images; `base_url` stands before the keys of an S3 listing.

    ConfigError for a file that is none of the forms, UsageError for an address that cannot be fetched or a
    listing that names no bucket.
    """
    text = read_text(path, MAX_BYTES, "the list of images")
    notes: list[str] = []
    if text.lstrip()[:1] in ("[", "{"):
        found = _from_json(text, path, base_url, notes)
    else:
        lines = ((number, line.strip()) for number, line in enumerate(text.splitlines(), 1))
        found = [Listed(_address(line, f"{path}:{number}")) for number, line in lines if line and line[0] != "#"]
    if not found:
        raise ConfigError(f"{path} lists no image; expected {FORMATS}")
    return ImageList(tuple({item.key: item for item in found}.values()), tuple(notes))


def fetch_listed(web: Web, item: Listed, folder: Path) -> Path:
    """Downloads an image into `folder`, resumed and checked; what is there is not fetched again."""
    wanted = Wanted(item.url, item.source, item.size, item.sha256)
    return download(web, wanted, folder / item.key).path


def _from_json(text: str, path: Path, base_url: str, notes: list[str]) -> list[Listed]:
    try:
        found = parse_json(text, strict=True)
    except ValueError as error:
        raise ConfigError(f"{path} is not JSON ({str(error)[:100]}); expected {FORMATS}") from None
    items, table = list_or_none(found), as_object(found)
    if items is not None:
        return [_any(item, f"{path}[{index}]") for index, item in enumerate(items)]
    if isinstance(table.get("resources"), list):
        if table.get("next_cursor"):
            notes.append(f"{path} has a next_cursor: it is one page of a longer list; export the others too")
        return _cloudinary(table["resources"], str(path))
    if isinstance(table.get("Contents"), list):
        if table.get("IsTruncated") or table.get("NextToken"):
            notes.append(f"{path} is truncated: it is one page of a longer list; export the others too")
        return _s3(table, str(path), base_url)
    raise ConfigError(f"{path} has the keys {', '.join(sorted(table))[:100]}; expected {FORMATS}")


def _any(item: Any, where: str) -> Listed:
    if isinstance(item, str):
        return Listed(_address(item, where))
    row = _table(item, where)
    url = row.get("url", row.get("secure_url"))
    if not isinstance(url, str):
        raise ConfigError(f"{where} has no url; expected an address or an object with url")
    size = row.get("bytes", row.get("size"))
    return Listed(
        _address(url, where),
        size if isinstance(size, int) and not isinstance(size, bool) and size > 0 else None,
        _sha256(str(row.get("sha256") or ""), where),
        str(row.get("caption") or ""),
    )


def _cloudinary(rows: Sequence[Any], where: str) -> list[Listed]:
    """The images among the resources; a caption is the contextual metadata `caption`, or `alt`."""
    found: list[Listed] = []
    for index, item in enumerate(rows):
        place = f"{where}: resources[{index}]"
        row = _table(item, place)
        if row.get("resource_type", "image") != "image":
            continue
        listed = _any(row, place)
        context = as_object(row.get("context"))
        words = as_object(context.get("custom", context))
        caption = listed.caption or str(words.get("caption") or words.get("alt") or "")
        found.append(Listed(listed.url, listed.size, listed.sha256, caption))
    return found


def _s3(table: Mapping[str, Any], where: str, base_url: str) -> list[Listed]:
    """The objects whose keys end as images do. An ETag is no digest that could be relied on, so it is not checked."""
    name = table.get("Name")
    if not base_url and not isinstance(name, str):
        raise UsageError(
            f"{where} does not name its bucket, so its keys are not addresses",
            "--base-url https://BUCKET.s3.amazonaws.com",
        )
    base = (base_url or f"https://{name}.s3.amazonaws.com").rstrip("/")
    found: list[Listed] = []
    for index, item in enumerate(as_list(table["Contents"])):
        row = _table(item, f"{where}: Contents[{index}]")
        key, size = row.get("Key"), row.get("Size")
        if not isinstance(key, str) or not is_named_as_picture(Path(key)):
            continue
        address = _address(f"{base}/{quote(key)}", f"{where}: Contents[{index}]")
        found.append(Listed(address, size if isinstance(size, int) and size > 0 else None, _checksum(row, where)))
    return found


def _checksum(row: Mapping[str, Any], where: str) -> str:
    """The SHA-256 of a whole object, which S3 gives in base64; that of an upload in parts is another thing."""
    text = row.get("ChecksumSHA256")
    if not isinstance(text, str) or "-" in text or row.get("ChecksumType", "FULL_OBJECT") != "FULL_OBJECT":
        return ""
    try:
        return _sha256(base64.b64decode(text, validate=True).hex(), where)
    except ValueError:
        raise ConfigError(f"{where}: ChecksumSHA256 {text[:50]!r} is not base64") from None


def _sha256(text: str, where: str) -> str:
    if text and not re.fullmatch(r"[0-9a-fA-F]{64}", text):
        raise ConfigError(f"{where}: sha256 {text[:70]!r} is not 64 hex digits")
    return text.lower()


def _table(item: Any, where: str) -> dict[str, Any]:
    found = object_or_none(item)
    if found is None:
        raise ConfigError(f"{where} is not an object; expected {FORMATS}")
    return found


def _address(text: str, where: str) -> str:
    try:
        parts = urlsplit(text)
        right = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.username is None
        parts.port  # noqa: B018 - raises for a port that is none
    except ValueError:
        right = False
    if not right:
        raise UsageError(f"{where}: {text[:60]!r} is not an address to fetch; expected https://... without a password")
    return text
