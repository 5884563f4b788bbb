"""ComfyUI servers by their addresses: as an engine, directly or through ssh, and recorded for bug reports."""

from __future__ import annotations

import threading
from collections.abc import Generator, Iterator, Mapping, MutableMapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import parse_qs, urlsplit

from sosie.core import Finding, Plan, Progress, Render
from sosie.core.errors import EngineError, UsageError
from sosie.core.finding import has_errors
from sosie.engines.comfy.engine import ComfyEngine, ComfySupplies
from sosie.engines.comfy.program import Compiler
from sosie.engines.comfy.server import Server, parse_servers, token_from_environment
from sosie.files.foreign import parse_object
from sosie.files.whole import write_json
from sosie.machines.ssh import Host, Tunnel, parse_host
from sosie.workspace.session import Session

if TYPE_CHECKING:
    from sosie.engines.comfy.program import Program
    from sosie.machines.ssh import SshError

DIRECT, FAR = "comfy:", "comfy+ssh://"
PORT = 8188
"""Where ComfyUI listens, if nobody says otherwise."""

HINT = "give it as in --engine comfy:http://127.0.0.1:8188 or --engine comfy+ssh://root@HOST:PORT"
MAX_STAMPS = 1_000_000


@dataclass(frozen=True)
class FarServer:
    """ComfyUI on a machine that is reached by ssh, listening on that machine's own 127.0.0.1:`port`.

    `folder` is ComfyUI's folder there, an absolute path; empty: the server is asked.
    """

    host: Host
    folder: str = ""
    port: int = PORT


def parse_far(text: str) -> tuple[FarServer, ...]:
    """The servers of `comfy+ssh://USER@HOST:PORT/FOLDER?port=8188`, several with commas between them.

    Everything but HOST may be left out. Raises `UsageError` for anything else.
    """
    found = tuple(_far(part.strip()) for part in text.split(","))
    if len({(server.host, server.port) for server in found}) < len(found):
        raise UsageError("a server is named twice", HINT)
    return found


def _far(text: str) -> FarServer:
    if not text.startswith(FAR):
        raise UsageError("every server of a list begins with comfy+ssh:// if one does", HINT)
    address, _, query = text.removeprefix("comfy+").partition("?")
    host = parse_host(address.partition("//")[0] + "//" + address.partition("//")[2].partition("/")[0])
    folder = urlsplit(address).path.rstrip("/")
    options = parse_qs(query, keep_blank_values=True)
    ports = options.pop("port", [str(PORT)])
    if options or len(ports) != 1 or not ports[0].isdecimal() or not 0 < int(ports[0]) < 2**16:
        raise UsageError("after '?' only port=NUMBER is known, ComfyUI's own port on that machine", HINT)
    return FarServer(host, folder, int(ports[0]))


@contextmanager
def reached(engine: str) -> Generator[tuple[tuple[Server, ...], tuple[tuple[FarServer, Tunnel], ...]]]:
    """The servers of an address, with tunnels to them open where they need ones.

    Raises `UsageError` for an address that is none, `SshError` for a machine that cannot be reached.
    """
    token = token_from_environment()
    if not engine.startswith(FAR):
        yield parse_servers(engine.removeprefix(DIRECT), token), ()
        return
    with ExitStack() as stack:
        tunnels = [(far, stack.enter_context(Tunnel(far.host, far.port))) for far in parse_far(engine)]
        servers = [
            Server(f"http://127.0.0.1:{tunnel.port}", token, f"ssh:{far.host.name}/{far.port}")
            for far, tunnel in tunnels
        ]
        yield tuple(servers), tuple(tunnels)


def open_comfy(session: Session, engine: str, compiler: Compiler, variant: str = "") -> ServedComfy:
    """The engine on the servers of an address; closing it closes the tunnels.

    A `variant` of the graphs ends the engine's name, so that images of another one are not taken for these.
    """
    from sosie.api.comfy_far import FarDoctor, Stamped
    from sosie.api.comfy_near import NearDoctor

    if engine == "comfy":
        raise UsageError("engine 'comfy' needs an address", HINT)
    stack = ExitStack()
    try:
        servers, tunnels = stack.enter_context(reached(engine))
        seen: dict[str, str] = {}
        far = zip(servers, tunnels, strict=False)
        doctors: list[MachineDoctor] = [FarDoctor(session.workspace, *line, server, seen) for server, line in far]
        if not tunnels:
            doctors += [NearDoctor(session.workspace, server, seen) for server in servers if server.is_local]
        stamps = Stamps(session.workspace.state / "comfy-files.json")
        chosen = Stamped(compiler, seen) if doctors else compiler
        inner = ComfyEngine(servers, ComfySupplies(chosen, session.source_image, stamps))
        stack.callback(inner.close)
        return ServedComfy(inner, chosen, doctors, stack, variant)
    except BaseException:
        stack.close()
        raise


class MachineDoctor(Protocol):
    """The doctor on a server's machine."""

    @property
    def trouble(self) -> SshError | None:
        """Why there is no line to the machine now."""
        ...

    def refused(self) -> list[Finding]:
        """What nothing listens for there, since this was asked last."""
        ...

    def check(self, plan: Plan, program: Program) -> list[Finding]:
        """What is to be said of the machine and of the files there that a plan uses."""
        ...


class ServedComfy:
    """ComfyUI with what belongs to its machines: the doctor there, LoRAs that are brought there, and the tunnels."""

    def __init__(
        self,
        inner: ComfyEngine,
        compiler: Compiler,
        doctors: Sequence[MachineDoctor],
        resources: ExitStack,
        variant: str = "",
    ) -> None:
        self._inner = inner
        self._compiler = compiler
        self._doctors = doctors
        self._resources = resources
        self._variant = variant

    @property
    def name(self) -> str:
        """`comfy:`, the servers' names, and how their graphs are made if not as usual."""
        return self._inner.name + self._variant

    def check(self, plan: Plan) -> list[Finding]:
        """What the machines' doctors say, which bring missing LoRAs by ssh first; then what the servers say."""
        findings: list[Finding] = []
        program = self._compiler(plan) if self._doctors else None
        if program is not None and not has_errors(program.findings):
            findings = [finding for doctor in self._doctors for finding in doctor.check(plan, program)]
        findings += self._inner.check(plan)
        return [*findings, *(finding for doctor in self._doctors for finding in doctor.refused())]

    def run(self, plans: Sequence[Plan]) -> Iterator[Progress | Render]:
        """As the engine; an error says too what is wrong with the line to a machine."""
        try:
            for event in self._inner.run(plans):
                yield replace(event, engine=self.name) if isinstance(event, Render) else event
        except EngineError as error:
            trouble = next((doctor.trouble for doctor in self._doctors if doctor.trouble), None)
            if trouble is None:
                raise
            raise EngineError(f"{error.message}; {trouble.message}", trouble.hint) from error

    def close(self) -> None:
        """Takes back what still runs, and closes lines and tunnels."""
        self._resources.close()


class Stamps(MutableMapping[str, str]):
    """What was known of servers' files when they were last used, kept in a file of the workspace.

    Each change is written at once, so that a run that is killed leaves no old word of what its server has loaded;
    what other processes have written meanwhile stays. A file that cannot be written costs one look more.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._known = self._read()

    def __getitem__(self, key: str) -> str:
        return self._known[key]

    def __setitem__(self, key: str, stamp: str) -> None:
        with self._lock:
            if self._known.get(key) != stamp:
                self._write({**self._read(), key: stamp})
                self._known[key] = stamp

    def __delitem__(self, key: str) -> None:
        with self._lock:
            del self._known[key]
            self._write({other: stamp for other, stamp in self._read().items() if other != key})

    def __iter__(self) -> Iterator[str]:
        return iter(list(self._known))

    def __len__(self) -> int:
        return len(self._known)

    def _write(self, stamps: Mapping[str, str]) -> None:
        with suppress(OSError):
            self._path.parent.mkdir(parents=True, exist_ok=True)
            write_json(self._path, dict(stamps), sort_keys=True)

    def _read(self) -> dict[str, str]:
        try:
            text = self._path.read_text(encoding="utf-8")
        except (OSError, ValueError):
            return {}
        found = parse_object(text, MAX_STAMPS) or {}
        return {key: str(value) for key, value in found.items()}


def record_server(address: str, with_prompts: bool = False) -> dict[str, Any]:
    """A recording of one server for bug reports, without secrets (`engines.comfy.recording`).

    `address` is an http(s) address, or one of `comfy+ssh`. Raises `UsageError`, `SshError`, `ComfyError`.
    """
    from sosie.engines.comfy.recording import record

    with reached(address) as (servers, tunnels):
        if len(servers) != 1:
            raise UsageError("one server is recorded at a time", "sosie comfy record URL")
        return record(servers[0], with_prompts, [far.host.address for far, _ in tunnels])
