"""Where a ComfyUI server is and how patient and how generous Sosie is with it."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from sosie.core.errors import UsageError
from sosie.fetch.hubs import LOCAL, origin
from sosie.files.images import MAX_PIXELS

TOKEN = "SOSIE_COMFY_TOKEN"  # noqa: S105 - the name of a variable


@dataclass(frozen=True)
class Server:
    """A server's address without a slash at the end, and the bearer token for it (empty: none).

    `identity` is how the store and messages call it; empty: by its address. A tunnel gives the far
    end's, since the near end's port says nothing.
    """

    url: str
    token: str = field(default="", repr=False)
    identity: str = ""

    @property
    def name(self) -> str:
        """`host:port`, with the path of a proxy, or the identity that was given."""
        parts = urlsplit(self.url)
        return self.identity or f"{parts.netloc}{parts.path}"

    @property
    def is_local(self) -> bool:
        """Whether it is this machine (or a tunnel's near end), which no proxy is asked for."""
        return urlsplit(self.url).hostname in LOCAL

    @property
    def host_port(self) -> tuple[str, int]:
        """Host and port, the default ports written out."""
        _, host, port = origin(self.url)
        return host, port or 80

    @property
    def headers(self) -> dict[str, str]:
        """What every request to this server carries, and no request to another."""
        return {"Authorization": f"Bearer {self.token}"} if self.token else {}

    @property
    def socket_url(self) -> str:
        """The address of its websocket, without the client's id."""
        return f"ws{self.url.removeprefix('http')}/ws"


@dataclass(frozen=True)
class Limits:
    """The most that is read of an answer: bytes of JSON, of an image, of a websocket frame, and pixels.

    `seconds` is how long one answer may take in all, however steadily it drips.
    """

    json: int = 64_000_000
    image: int = 256_000_000
    frame: int = 32_000_000
    pixels: int = MAX_PIXELS
    seconds: float = 300.0


@dataclass(frozen=True)
class Patience:
    """Seconds. `connect` and `answer` bound one request.

    Without events for `quiet` a job is asked for, without a websocket every `poll`. A server that cannot be
    reached for `gone` is lost; from `away` on another one that is idle may draw its image. `free` is how long the
    server is left to let go of its memory. A prompt that was lost is sent again at most `restarts` times.
    """

    connect: float = 5.0
    answer: float = 60.0
    poll: float = 1.0
    quiet: float = 5.0
    gone: float = 60.0
    away: float = 2.0
    free: float = 1.0
    restarts: int = 2


def parse_servers(text: str, token: str = "") -> tuple[Server, ...]:
    """The servers of `URL1,URL2,...`, as they stand after `comfy:`.

    Raises `UsageError` for what is not an http(s) address, one that holds a password, one that is there
    twice, and for a token that would go over an open line to another machine.
    """
    servers: list[Server] = []
    for part in text.split(","):
        url = part.strip().rstrip("/")
        shown = re.sub(r"//[^/@]*@", "//...@", url)[:80]
        hint = "give it as in --engine comfy:http://127.0.0.1:8188"
        parts, sound = urlsplit(url), True
        try:
            sound = parts.port != 0
        except ValueError:
            sound = False
        if parts.scheme not in ("http", "https") or not parts.hostname or not sound or parts.query or parts.fragment:
            raise UsageError(f"'{shown}' is not an address of a ComfyUI server; expected http://HOST:PORT", hint)
        if parts.username is not None:
            raise UsageError(f"'{shown}' holds a name or password, which addresses must not", f"export {TOKEN}=...")
        server = Server(url, token)
        if any(server.url == other.url for other in servers):
            raise UsageError(f"server {server.name} is named twice", hint)
        if token and parts.scheme != "https" and not server.is_local:
            message = f"{TOKEN} is not sent to {server.name} by http: anybody on the way could read it"
            raise UsageError(message, f"give the server's https address, or unset {TOKEN}")
        servers.append(server)
    return tuple(servers)


def token_from_environment() -> str:
    """The bearer token for proxied servers, or empty. Raises `UsageError` for what no token looks like."""
    token = os.environ.get(TOKEN, "").strip()
    if token and not re.fullmatch(r"[!-~]+", token):
        raise UsageError(f"{TOKEN} holds spaces or characters that no token has", f"set {TOKEN} again")
    return token
