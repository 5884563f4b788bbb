"""Addresses as people may see them: without user, password, query, fragment and signature, where secrets stand.

`show_address` is for one address, `conceal` for a text that may hold some, in whatever form they were typed.
"""

from __future__ import annotations

import re
from urllib.parse import urlsplit

LONGEST = 300

MOST = 20_000
"""Letters of a message; the rest of a longer one, which a program made, is cut off."""

_NAMES = "token|secret|password|passwd|pwd|api_?key|auth|hmac|sig|signature|se|expires|policy|credential|key-pair-id"
_SIGNED_PART = re.compile(
    r"(?<=/)(?:s--[\w-]{6,64}--|eyJ[\w-]{5,}\.[\w.-]+|[^/\s]*\b(?:hmac|sig|signature|token|exp|policy)=[^/\s]*)(?=/|$)",
    re.IGNORECASE,
)
"""Parts of a path that sign it: Cloudinary's, a JWT, Akamai's."""

_WITH_SCHEME = re.compile(
    r"(?P<scheme>(?:[A-Za-z][A-Za-z0-9+.-]{0,40}:)?//|\b(?:https?|wss?|s?ftp|(?:comfy\+)?ssh):/)"
    r"(?P<rest>(?:(?!,[a-z][a-z0-9+.-]*://)[^\s'\"<>`])+)"
)
"""Of one slash too: a path that an address was taken for has lost the other."""

_QUOTED = re.compile(r"(?<=')[^'\n]{0,4000}:/[^'\n]{0,4000}(?=')")
_PUBLIC_USERS = ("root", "USER")
"""Users that hints name: they say nothing of whoever typed the address."""

_BARE_USER = re.compile(
    rf"(?<![\w./@-])(?!civitai:|hf:|ssh:(?:{'|'.join(_PUBLIC_USERS)})@)[\w.%+~-]{{1,64}}:[^\s/'\"@:]{{1,200}}@(?=[\w\[])"
)
_BARE_QUERY = re.compile(rf"\?(?:[^\s'\"<>?]{{0,2000}}[&;-])?(?:{_NAMES})=[^\s'\"<>]*", re.IGNORECASE)
_PUBLIC_QUERY = re.compile(r"\?port=(?:\d{1,5}|NUMBER)(?=[:;,.)\]]*$)")
"""The port of a server behind ssh, by which two servers of one machine are told apart."""


def bare(url: str) -> str:
    """A sound address without user, query and fragment: what is the same however it is signed."""
    parts = urlsplit(url)
    port = f":{parts.port}" if parts.port else ""
    return f"{parts.scheme}://{parts.hostname or ''}{port}{parts.path}"[:LONGEST]


def show_address(url: str) -> str:
    """An address as people may see it, also one that is none; at most `LONGEST` letters."""
    try:
        parts = urlsplit(url)
        sound = parts.scheme and parts.hostname and "@" not in parts.path
        return _SIGNED_PART.sub("...", bare(url)) if sound else conceal(url)[:LONGEST]
    except ValueError:
        return conceal(url)[:LONGEST]


def conceal(text: str) -> str:
    """A text with every address in it as people may see it; the rest as it is."""
    if len(text) > MOST:
        text = text[:MOST] + "..."
    if ":/" in text or "//" in text:
        text = _QUOTED.sub(_shown_quoted, text)
        text = _WITH_SCHEME.sub(_shown, text)
    if "@" in text:
        text = _BARE_USER.sub("...@", text)
    return _BARE_QUERY.sub("", text) if "?" in text else text


def _shown_quoted(found: re.Match[str]) -> str:
    """What was typed with spaces in it is one address all the same."""
    return _WITH_SCHEME.sub(_shown, found[0].replace(" ", "\0")).replace("\0", " ")


def _shown(found: re.Match[str]) -> str:
    scheme, rest = found["scheme"], found["rest"]
    authority = re.split(r"[/?#\\]", rest, maxsplit=1)[0]
    if "@" in authority:
        user, rest = authority.rpartition("@")[0], rest[authority.rindex("@") + 1 :]
        rest = f"{user}@{rest}" if user in _PUBLIC_USERS and "ssh" in scheme else rest
    elif "@" in rest and not re.fullmatch(r"(?:\[[^\]]*\]|[^:]*)(?::\d*)?", authority):
        rest = rest.rpartition("@")[2]  # a password with a slash or a question mark in it
    end = re.search(r"[:;,.)\]]*$", rest)
    kept = re.split(r"[?#;]", rest, maxsplit=1)[0]
    if "ssh" in scheme and (port := _PUBLIC_QUERY.match(rest, len(kept))):
        kept += port[0]
    if kept != rest and end is not None:
        kept += end[0]
    return f"{scheme}{_SIGNED_PART.sub('...', re.sub(r'(?<=//)[^/@]*@', '', kept))}"
