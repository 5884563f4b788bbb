"""Addresses of the hubs, the tokens for them, and addresses as messages may show them."""

from __future__ import annotations

import ipaddress
import os
import re
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from sosie.core.address import show_address as shown
from sosie.core.errors import UsageError

__all__ = ["LOCAL", "Hubs", "origin", "shown"]

LOCAL = ("127.0.0.1", "::1", "localhost")

PUBLIC, PRIVATE, OWN = range(3)
"""How near an address is: the internet, a network that is somebody's own, this machine."""


@dataclass(frozen=True)
class Hubs:
    """Where the hubs are, without a slash at the end, and the tokens for them (empty: none)."""

    huggingface: str = "https://huggingface.co"
    civitai: str = "https://civitai.com"
    huggingface_token: str = field(default="", repr=False)
    civitai_token: str = field(default="", repr=False)

    @staticmethod
    def from_environment() -> Hubs:
        """HF_ENDPOINT, CIVITAI_ENDPOINT, HF_TOKEN, CIVITAI_TOKEN; no other place is looked at."""
        return Hubs(
            _endpoint("HF_ENDPOINT", Hubs.huggingface),
            _endpoint("CIVITAI_ENDPOINT", Hubs.civitai),
            _token("HF_TOKEN"),
            _token("CIVITAI_TOKEN"),
        )

    def token(self, url: str) -> tuple[str, str]:
        """The variable that holds the token for `url` and the token; both empty where none belongs there."""
        for base, name, token in (
            (self.huggingface, "HF_TOKEN", self.huggingface_token),
            (self.civitai, "CIVITAI_TOKEN", self.civitai_token),
        ):
            if origin(url) == origin(base):
                return name, token
        return "", ""


def origin(url: str) -> tuple[str, str, int | None]:
    """Scheme, host and port of an address, the default ports written out."""
    parts = urlsplit(url)
    return parts.scheme, parts.hostname or "", parts.port or {"http": 80, "https": 443}.get(parts.scheme)


def zone(address: str) -> int:
    """How near an IP address is: `PUBLIC`, `PRIVATE` or `OWN`, where link-local ones count as own.

    Clouds answer there with the machine's own secrets. What is no IP address is public.
    """
    try:
        found = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return PUBLIC
    found = getattr(found, "ipv4_mapped", None) or found
    if found.is_loopback or found.is_unspecified or found.is_link_local:
        return OWN
    return PUBLIC if found.is_global else PRIVATE


def _endpoint(name: str, default: str) -> str:
    text = os.environ.get(name, "").strip().rstrip("/") or default
    parts = urlsplit(text)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.username is not None or parts.query:
        raise UsageError(f"{name} is not an address like {default}", f"unset {name}")
    return text


def _token(name: str) -> str:
    token = os.environ.get(name, "").strip()
    if token and not re.fullmatch(r"[!-~]+", token):
        raise UsageError(f"{name} holds spaces or characters that no token has", f"set {name} again")
    return token
