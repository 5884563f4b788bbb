"""Serving a page: the address, the names that it may be called by, and the server itself."""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from types import FrameType

from sosie.core.errors import MissingExtraError, UsageError
from sosie.servers.pages.guard import App, Doors
from sosie.servers.pages.key import Key

LOOPBACK = "127.0.0.1"
HTTP = 80


@dataclass(frozen=True)
class Listening:
    """Where to listen: an address of this machine, a port (0: any that is free), and names it is also reached by."""

    address: str = LOOPBACK
    port: int = 0
    names: tuple[str, ...] = ()

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine can reach it."""
        return ipaddress.ip_address(self.address).is_loopback


def bound(listening: Listening) -> socket.socket:
    """A socket that listens there. Raises `UsageError` for an address or a port that cannot be had, and a wrong name.

    An address that stands for all of a machine's is refused without a name: which `Host` is right is not known then.
    """
    try:
        address = ipaddress.ip_address(listening.address)
    except ValueError:
        raise UsageError(
            f"--listen '{listening.address}' is not an IP address", f"--listen {LOOPBACK}, or this machine's own"
        ) from None
    if address.is_unspecified and not listening.names:
        raise UsageError(
            f"--listen {address} stands for every address of this machine; expected the one that people will open",
            "add --host-name with the name or address that they type, or listen to that address",
        )
    if bad := [name for name in listening.names if not name or any(letter in name for letter in " /@#?\\\r\n\t")]:
        raise UsageError(f"--host-name '{bad[0]}' is not a host's name; expected one such as studio.local")
    family = socket.AF_INET6 if address.version == 6 else socket.AF_INET
    found = socket.socket(family, socket.SOCK_STREAM)
    try:
        found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        found.bind((str(address), listening.port))
        found.listen(64)
    except OSError as error:
        found.close()
        place = f"{address}, port {listening.port}"
        raise UsageError(f"cannot listen at {place}: {error.strerror or error}", "use another --port") from None
    return found


def doors(listening: Listening, port: int, shell: frozenset[str], key: Key) -> Doors:
    """Who may come in: by the exact names and addresses that it is reached by, and no other."""
    address = ipaddress.ip_address(listening.address)
    names = [f"[{address}]" if address.version == 6 else str(address)]
    if address.is_unspecified:
        names = []
    if address.is_loopback:
        names += [LOOPBACK, "localhost", "[::1]"]
    hosts = [f"{name.lower()}:{port}" for name in (*names, *listening.names)]
    if port == HTTP:  # which browsers leave out
        hosts += [host.removesuffix(f":{port}") for host in hosts]
    return Doors(tuple(dict.fromkeys(hosts)), shell, key)


def address_of(doors: Doors) -> str:
    """What people open: the key stands behind `#`, which browsers send to nobody."""
    return f"http://{doors.hosts[0]}/#{doors.key.secret}"


def serve(
    app: App, listener: socket.socket, ready: Callable[[], None], ending: Callable[[], None] = lambda: None
) -> None:
    """Serves until it is interrupted; `ready` is called when it answers. Addresses and keys are logged nowhere.

    `ending` is called at the interrupt, in the signal's handler: streams without an end must end then.

    Raises `MissingExtraError` without uvicorn.
    """
    try:
        import uvicorn
    except ImportError:
        raise MissingExtraError(
            "a page cannot be served: uvicorn is not installed", "pip install 'sosie[panel]'"
        ) from None
    config = uvicorn.Config(
        app,  # pyright: ignore[reportArgumentType] - an ASGI application, by the types of the guard
        log_level="warning",
        access_log=False,
        server_header=False,
        lifespan="off",
        ws_max_size=1 << 16,
        timeout_keep_alive=15,
        limit_concurrency=256,
        h11_max_incomplete_event_size=1 << 15,
    )
    server = uvicorn.Server(config)
    told = server.handle_exit

    def handle_exit(sig: int, frame: FrameType | None) -> None:
        ending()
        told(sig, frame)

    server.handle_exit = handle_exit
    ready()
    with suppress(KeyboardInterrupt):  # the way to end it; uvicorn raises it again when all is answered
        server.run(sockets=[listener])
