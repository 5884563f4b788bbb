"""Where a file comes from: `hf:OWNER/REPO:FILE`, `civitai:NUMBER`, an address, or a path.

    hf:OWNER/REPO:FILE              Hugging Face; hf:OWNER/REPO@REVISION:FILE names a branch or commit
    civitai:NUMBER                  CivitAI: a model (its newest version) or a version
    civitai:MODEL@VERSION           both numbers, as in the address of a page; :FILE names one of several
    civitai:SHA256                  whichever version has a file of this digest
    https://...                     any address; those of the hubs' pages and files mean the above
    PATH                            a file of this machine

Tokens are never part of a source: they come from the environment.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from urllib.parse import parse_qsl, unquote, urlsplit

from sosie.core.errors import UsageError
from sosie.core.recipe import Commercial
from sosie.fetch.download import Wanted
from sosie.fetch.hubs import Hubs, origin, shown

SECRET = re.compile(r"token|api_?key|access_?key|password|secret", re.IGNORECASE)
TRAITS = {"type", "format", "size", "fp", "fileId"}
MAX_NAME = 200


@dataclass(frozen=True)
class HuggingFaceFile:
    """A file of a repository of models."""

    repo: str
    file: str
    revision: str = "main"

    def __str__(self) -> str:
        at = "" if self.revision == "main" else f"@{self.revision}"
        return f"hf:{self.repo}{at}:{self.file}"


@dataclass(frozen=True)
class CivitaiFile:
    """A file of a version of a model; 0 or empty is what is not told.

    `number` is a model's or a version's. `traits` are a file's `type`, `format`, `size`, `fp` or
    `fileId`, as addresses of downloads name them.
    """

    number: int = 0
    model: int = 0
    version: int = 0
    sha256: str = ""
    file: str = ""
    traits: tuple[tuple[str, str], ...] = ()

    def __str__(self) -> str:
        both = f"{self.model}@{self.version}" if self.model and self.version else ""
        which = self.sha256 or both or str(self.number or self.model or self.version)
        return f"civitai:{which}" + (f":{self.file}" if self.file else "")


@dataclass(frozen=True)
class WebFile:
    """Any address. It may be signed, so that messages show it without its query."""

    url: str = field(repr=False)

    def __str__(self) -> str:
        return shown(self.url)


@dataclass(frozen=True)
class LocalFile:
    """A file of this machine."""

    path: str

    def __str__(self) -> str:
        return self.path


Address = HuggingFaceFile | CivitaiFile | WebFile | LocalFile


@dataclass(frozen=True)
class Source:
    """A file that can be fetched, as its publisher describes it.

    `text` is the source written so that it means the same file later (commit, version). `name` is its
    file's name, safe in a folder. `size` (bytes) and `sha256` are None and empty where nobody says.
    `title` is what people call it, `token` the variable without which it is refused (empty: none).
    """

    text: str
    url: str = field(repr=False)
    name: str
    size: int | None = None
    sha256: str = ""
    licence: str = ""
    commercial: Commercial = "ask"
    title: str = ""
    token: str = ""

    @property
    def wanted(self) -> Wanted:
        """What the download must be."""
        return Wanted(self.url, self.text, self.size, self.sha256)


def parse_source(text: str, hubs: Hubs) -> Address:
    """What a source means; asks nobody. Raises `UsageError` for one that is written wrong."""
    scheme, colon, rest = text.partition(":")
    if colon and scheme == "hf":
        return _huggingface(text, rest)
    if colon and scheme == "civitai":
        return _civitai(text, rest)
    if scheme in ("http", "https") and rest.startswith("//"):
        return _web(text, hubs)
    if rest.startswith("//") or not text.strip():
        raise UsageError(f"'{text}' is no source", _FORMS)
    return LocalFile(text)


def is_source(text: str) -> bool:
    """Whether `text` is written as a source of the network (a path is not told from a recipe's name)."""
    return re.match(r"hf:|civitai:|https?://", text) is not None


def safe_name(text: str) -> str:
    """The last part of a name that a server gives, as a file name; `UsageError` if nothing safe is left.

    No folders, no drive, no control characters, no dot at the beginning, at most 200 characters.
    """
    name = re.split(r"[/\\:]", text.strip())[-1]
    name = re.sub(r"[\x00-\x1f\x7f<>\"|?*]", "", name).strip().rstrip(". ")
    stem, dot, ending = name.rpartition(".")
    if len(name) > MAX_NAME:
        name = f"{stem[: MAX_NAME - len(ending) - 1]}.{ending}" if dot and len(ending) < 20 else name[:MAX_NAME]
    reserved = re.fullmatch(r"(?i)con|prn|aux|nul|com\d|lpt\d", name.partition(".")[0])
    if not name or name.startswith(".") or reserved or not name.isprintable():
        raise UsageError(f"the server names the file {text[:80]!r}, which is no file name", "name it: --as NAME")
    return name


def _huggingface(text: str, rest: str) -> HuggingFaceFile:
    match = re.fullmatch(r"([\w.-]+/[\w.-]+)(?:@([\w./-]+))?:([^:\\?#\x00-\x1f]+)", rest, re.ASCII)
    if match is None:
        raise UsageError(f"'{text}' is not written as hf:OWNER/REPO:FILE", _FORMS)
    parts = "/".join((match[1], match[2] or "main", match[3])).split("/")
    if any(part in ("", ".", "..") for part in parts):
        raise UsageError(f"'{text}' has an empty part, '.' or '..' in it", _FORMS)
    return HuggingFaceFile(match[1], match[3], match[2] or "main")


def _civitai(text: str, rest: str) -> CivitaiFile:
    match = re.fullmatch(r"(?:(\d{1,12})(?:@(\d{1,12}))?|([0-9a-fA-F]{64}))(?::(.+))?", rest, re.ASCII)
    if match is None:
        raise UsageError(f"'{text}' is not written as civitai:NUMBER or civitai:MODEL@VERSION", _FORMS)
    file = match[4] or ""
    if match[3]:
        return CivitaiFile(sha256=match[3].lower(), file=file)
    if match[2]:
        return CivitaiFile(model=int(match[1]), version=int(match[2]), file=file)
    return CivitaiFile(number=int(match[1]), file=file)


def _web(text: str, hubs: Hubs) -> Address:
    """An address; a page or file of a hub means what the hub's own form means."""
    try:
        parts = urlsplit(text)
        here = origin(text)
    except ValueError:
        raise UsageError("the address has a wrong port or host", _FORMS) from None
    query = dict(parse_qsl(parts.query))
    if not parts.hostname or parts.username is not None or any(SECRET.search(key) for key in query):
        raise UsageError(
            f"{shown(text)} holds a name, a password or a token; they come from the environment only",
            "export CIVITAI_TOKEN=... or HF_TOKEN=..., and leave it out of the address",
        )
    path = unquote(parts.path)
    if here == origin(hubs.huggingface):
        match = re.fullmatch(r"/([^/]+/[^/]+)/(?:resolve|blob|raw)/([^/]+)/(.+)", path)
        if match:
            return _huggingface(shown(text), f"{match[1]}@{match[2]}:{match[3]}")
    if here == origin(hubs.civitai):
        version = query.get("modelVersionId", "")
        if match := re.match(r"/models/(\d{1,12})(?:/|$)", path):
            found = int(version) if re.fullmatch(r"\d{1,12}", version, re.ASCII) else 0
            return CivitaiFile(model=int(match[1]), version=found)
        if (match := re.fullmatch(r"/api/download/models/(\d{1,12})", path)) and set(query) <= TRAITS:
            return CivitaiFile(version=int(match[1]), traits=tuple(sorted(query.items())))
    return WebFile(text)


_FORMS = "a source is hf:OWNER/REPO:FILE, civitai:NUMBER, civitai:MODEL@VERSION, https://... or a path"
