"""ComfyUI servers by their addresses: directly, or through ssh."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from urllib.parse import parse_qs, urlsplit

from sosie.core.errors import UsageError
from sosie.engines.comfy.server import Server, parse_servers, token_from_environment
from sosie.machines.ssh import Host, Tunnel, parse_host
from sosie.pods.pod import find_pod, host_of
from sosie.workspace.workspace import Workspace

DIRECT, REMOTE, POD = "comfy:", "comfy+ssh://", "comfy+ssh:"
PORT = 8188
"""Where ComfyUI listens, if nobody says otherwise."""

TEMPLATE_PORT = 18188
"""Where that of Vast.ai's template listens on its own 127.0.0.1; 8188 of the machine asks for a login before it."""

HINT = "give it as in --engine comfy:http://127.0.0.1:8188 or --engine comfy+ssh://root@HOST:PORT"


@dataclass(frozen=True)
class RemoteServer:
    """ComfyUI on a machine that is reached by ssh, listening on that machine's own 127.0.0.1:`port`.

    `folder` is ComfyUI's folder there, an absolute path; empty: the server is asked.
    """

    host: Host
    folder: str = ""
    port: int = PORT


@dataclass(frozen=True, eq=False)
class Reached:
    """A server that can be asked; with `remote` through an open `tunnel` to that machine."""

    name: str
    server: Server
    remote: RemoteServer | None = None
    tunnel: Tunnel | None = None


def parse_remote(text: str, workspace: Workspace | None = None) -> tuple[RemoteServer, ...]:
    """The servers of `comfy+ssh://USER@HOST:PORT/FOLDER?port=8188`, several with commas between them.

    Everything but HOST may be left out; `comfy+ssh:NAME?port=18188` is a pod of the workspace. Raises `UsageError` for
    anything else, `NotFoundError` for what is no pod.
    """
    found = tuple(_remote(part.strip(), workspace) for part in text.split(","))
    if len({(server.host, server.port) for server in found}) < len(found):
        raise UsageError("a server is named twice", HINT)
    return found


def _remote(text: str, workspace: Workspace | None) -> RemoteServer:
    address, _, query = text.removeprefix("comfy+").partition("?")
    if text.startswith(POD) and not text.startswith(REMOTE) and workspace is not None:
        pod = find_pod(workspace, address.removeprefix("ssh:"))
        return RemoteServer(host_of(workspace, pod), "", _port(query, TEMPLATE_PORT if pod.template else PORT))
    if not text.startswith(REMOTE):
        raise UsageError("every server of a list begins with comfy+ssh:// if one does", HINT)
    host = parse_host(address.partition("//")[0] + "//" + address.partition("//")[2].partition("/")[0])
    folder = urlsplit(address).path.rstrip("/")
    return RemoteServer(host, folder, _port(query, PORT))


def _port(query: str, usual: int) -> int:
    options = parse_qs(query, keep_blank_values=True)
    ports = options.pop("port", [str(usual)])
    if options or len(ports) != 1 or not ports[0].isdecimal() or not 0 < int(ports[0]) < 2**16:
        raise UsageError("after '?' only port=NUMBER is known, ComfyUI's own port on that machine", HINT)
    return int(ports[0])


@contextmanager
def reach(address: str, workspace: Workspace | None = None) -> Generator[tuple[Reached, ...]]:
    """The servers of an address, with tunnels to them open where they need ones; pods are those of the workspace.

    Raises `UsageError` for an address that is none, `SshError` for a machine that cannot be reached.
    """
    token = token_from_environment()
    if not address.startswith(POD):
        text = address.removeprefix(DIRECT)
        pairs = zip(text.split(","), parse_servers(text, token), strict=True)
        yield tuple(Reached(f"{DIRECT}{part.strip()}", server) for part, server in pairs)
        return
    with ExitStack() as stack:
        lines = [(one, stack.enter_context(Tunnel(one.host, one.port))) for one in parse_remote(address, workspace)]
        names = [part.strip() for part in address.split(",")]
        yield tuple(
            Reached(name, Server(f"http://127.0.0.1:{line.port}", token, f"ssh:{one.host.name}/{one.port}"), one, line)
            for name, (one, line) in zip(names, lines, strict=True)
        )
