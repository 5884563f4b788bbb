"""Secrets taken out of what is shown to others: tokens, names of users, addresses, and private texts.

Patterns find secrets that look like ones; what is known to be one (values of the environment, this machine's user,
the server's address, users whose home folders are named) is replaced wherever it stands. Too much is taken out
rather than too little.
"""

from __future__ import annotations

import ipaddress
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

REMOVED = "[removed]"

LONGEST = 20_000
"""Letters of one text that are kept."""

DEEPEST = 40

SECRET_NAME = re.compile(
    r"token|secret|passw|passphrase|api[-_ ]?key|access[-_ ]?key|private[-_ ]?key|authori[sz]ation|^auth|[-_]auth|"
    r"credential|cookie|session|signature|bearer|webhook|^--?key$",
    re.IGNORECASE,
)
"""What a variable, an option, a header or a JSON key is called that holds a secret."""

COMMON_NAMES = frozenset(
    {"root", "user", "users", "ubuntu", "debian", "runner", "admin", "public", "shared", "default"}
)
"""Names of users that say nothing of anybody, and stand in too many other words to be replaced there."""

_HOME = re.compile(
    r"(?:/home|/Users|/export/home|/data/users|/var/home|/run/media|/media|[A-Za-z]:[\\/]+Users|/mnt/[a-z]/Users)"
    r"[\\/]+([^\\/\s\"'<>:;,|*?]{1,64})",
    re.IGNORECASE,
)
_ADDRESS_4 = re.compile(r"(?<![\d.])(\d{1,3}(?:\.\d{1,3}){3})(?!\.?\d)")
_ADDRESS_6 = re.compile(
    r"(?<![\w:.])\[?((?:[0-9A-Fa-f]{0,4}:){2,7}[0-9A-Fa-f]{0,4}(?:\.\d{1,3}){0,3})(?:%\w+)?\]?(?![\w:])"
)
_PATTERNS: tuple[tuple[re.Pattern[str], str], ...] = (
    (re.compile(r"-----BEGIN [A-Z ]{0,40}KEY-----.*?(?:-----END [A-Z ]{0,40}-----|\Z)", re.DOTALL), REMOVED),
    (re.compile(r"\b(\w{1,20}://)[^\s/@\"'<>]{1,500}@"), rf"\1{REMOVED}@"),
    (re.compile(r"\b((?:https?|wss?|ftp|s3)://[^\s?\"'<>]{1,2000})\?[^\s\"'<>]{1,4000}"), rf"\1?{REMOVED}"),
    (re.compile(r"\b(Bearer|Basic|Digest|Token)\s+[A-Za-z0-9._~+/=:-]{4,}", re.IGNORECASE), rf"\1 {REMOVED}"),
    (
        re.compile(
            r"([\w-]{0,40}(?:token|secret|passw(?:or)?d|passphrase|api[-_ ]?key|access[-_ ]?key|authori[sz]ation|"
            r"cookie|credentials?|signature|session[-_]?id)[\w-]{0,20}[\"']?\s{0,3}(?:=|:|=>|\s(?!is\b|was\b|not\b))\s{0,3})"
            r"(?:\"[^\"\n]{0,2000}\"|'[^'\n]{0,2000}'|[^\s,;&\"'}\])]{1,2000})",
            re.IGNORECASE,
        ),
        rf"\1{REMOVED}",
    ),
    (
        re.compile(
            r"\b(?:(?:hf|sk|rk|gh[pousr]|glpat|xox[a-z]|r8|rpa)[-_]"
            r"|(?:pk|npm|pypi|vast|civitai|comfyui|key|tok)[-_](?=[A-Za-z_-]{0,40}\d))[A-Za-z0-9_-]{12,}"
        ),
        REMOVED,
    ),
    (
        re.compile(r"\bgithub_pat_\w{10,}|\bAKIA[A-Z0-9]{12,}|\bAIza[\w-]{20,}|\beyJ[\w-]{8,}(?:\.[\w-]{4,}){1,2}"),
        REMOVED,
    ),
    (re.compile(r"\b[0-9a-fA-F]{32,}\b"), REMOVED),
    (
        re.compile(
            r"\b(?=[A-Za-z0-9+/]{0,200}[a-z])(?=[A-Za-z0-9+/]{0,200}[A-Z])(?=[A-Za-z0-9+/]{0,200}\d)"
            r"(?<!/)[A-Za-z0-9]{28,}={0,2}"
        ),
        REMOVED,
    ),
    (re.compile(r"\b[\w.+-]{1,64}@[A-Za-z0-9-]{1,63}(?:\.[A-Za-z0-9-]{1,63}){0,8}\b"), "[address]"),
)


@dataclass(frozen=True)
class Redaction:
    """What is known to be secret: texts and what is put in their place, the longest first."""

    known: tuple[tuple[str, str], ...] = ()

    def and_texts(self, texts: Iterable[str], instead: str) -> Redaction:
        """With more texts; those of fewer than four letters would be found everywhere, and are left out."""
        more = {text: instead for text in texts if len(text.strip()) >= 4}
        together = {**more, **dict(self.known)}
        return Redaction(tuple(sorted(together.items(), key=lambda item: -len(item[0]))))


def redaction_here(server_host: str, token: str = "") -> Redaction:
    """What this machine knows to be secret: tokens of the environment, its user and name, the server's host."""
    secrets = [value for name, value in os.environ.items() if SECRET_NAME.search(name) and len(value) >= 6]
    known = Redaction().and_texts([*secrets, token], REMOVED)
    home = str(Path.home())
    people = [os.environ.get(name, "") for name in ("USER", "LOGNAME", "USERNAME")] + [Path(home).name]
    known = known.and_texts((name for name in people if name.lower() not in COMMON_NAMES), "[user]")
    known = known.and_texts([home], "~")
    is_public = server_host and not _is_loopback(server_host) and server_host.lower() != "localhost"
    return known.and_texts([server_host], "[server]") if is_public else known


def users_in(value: Any) -> Iterator[str]:
    """The users whose home folders are named anywhere in a JSON value, but for `COMMON_NAMES`."""
    for text in texts_in(value):
        yield from (match[1] for match in _HOME.finditer(text) if match[1].lower() not in COMMON_NAMES)


def texts_in(value: Any, depth: int = 0) -> Iterator[str]:
    """Every text in a JSON value, keys too."""
    if isinstance(value, str):
        yield value
    elif depth < DEEPEST and isinstance(value, Mapping):
        for key, item in cast("Mapping[Any, Any]", value).items():
            yield from texts_in(str(key), depth + 1)
            yield from texts_in(item, depth + 1)
    elif depth < DEEPEST and isinstance(value, list | tuple):
        for item in cast("list[Any]", value):
            yield from texts_in(item, depth + 1)


def redact(value: Any, redaction: Redaction, depth: int = 0) -> Any:
    """A JSON value without secrets. What stands under a key, or after an option, that is called a secret goes whole."""
    if isinstance(value, str):
        return redact_text(value, redaction)
    if depth >= DEEPEST:
        return REMOVED
    if isinstance(value, Mapping):
        found = cast("Mapping[Any, Any]", value)
        return {
            redact_text(str(key), redaction): REMOVED
            if _holds_secret(str(key), item)
            else redact(item, redaction, depth + 1)
            for key, item in found.items()
        }
    if isinstance(value, list | tuple):
        items = cast("list[Any]", value)
        before = ["", *items]
        return [
            REMOVED if _is_option(option) and isinstance(item, str) else redact(item, redaction, depth + 1)
            for option, item in zip(before, items, strict=False)
        ]
    return value


def redact_text(text: str, redaction: Redaction) -> str:
    """A text without secrets, cut after `LONGEST` letters."""
    text = text[: LONGEST + 4_000]
    for known, instead in redaction.known:
        text = _replace(text, known, instead)
    for pattern, instead in _PATTERNS:
        text = pattern.sub(instead, text)
    text = _HOME.sub("~", text)
    text = _ADDRESS_4.sub(_address, text)
    return _ADDRESS_6.sub(_address, text)[:LONGEST]


def _replace(text: str, known: str, instead: str) -> str:
    """Words as words (a user `anna` is not in `annadata`), anything else wherever it stands; letters of any case."""
    if known.lower() not in text.lower():
        return text
    pattern = re.escape(known)
    if instead == "[user]":
        pattern = rf"(?<![A-Za-z0-9]){pattern}(?![A-Za-z0-9])"
    return re.sub(pattern, lambda _: instead, text, flags=re.IGNORECASE)


def _holds_secret(key: str, value: Any) -> bool:
    return SECRET_NAME.search(key) is not None and value not in (None, False, "", 0)


def _is_option(word: Any) -> bool:
    return isinstance(word, str) and word.startswith("-") and "=" not in word and SECRET_NAME.search(word) is not None


def _address(match: re.Match[str]) -> str:
    try:
        found = ipaddress.ip_address(match[1])
    except ValueError:
        return match[0]
    return match[0] if found.is_loopback or found.is_unspecified else "[ip]"


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False
