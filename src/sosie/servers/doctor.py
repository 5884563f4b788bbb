"""The doctor on a server's machine: its model files, and by ssh its cards, its disk and the LoRAs that it lacks.

The files of a server on this machine are looked at where they lie, and only if it runs on this machine, for a port
here may be the near end of a tunnel.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator, Mapping, MutableMapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import cached_property
from pathlib import Path, PurePosixPath

from sosie.core import Finding, Plan
from sosie.core.errors import SosieError, UsageError
from sosie.core.finding import Rule
from sosie.doctor.examined import Examined
from sosie.doctor.machine import Needs
from sosie.doctor.remote import X010, check_line, check_remote_machine, examine_on
from sosie.engines.comfy.answers import System
from sosie.engines.comfy.client import Client
from sosie.engines.comfy.errors import ComfyError
from sosie.engines.comfy.names import places
from sosie.engines.comfy.program import FileUse, GraphProgram
from sosie.engines.comfy.server import Server
from sosie.files.pickles.records import K001
from sosie.machines.here import Here
from sosie.machines.machine import Machine, MachineFile
from sosie.machines.memory import machine_memory
from sosie.machines.remote import Remote
from sosie.machines.ssh import SshError, Tunnel
from sosie.servers.address import HINT, Reached, RemoteServer, reach
from sosie.workspace.bill import resolve_one
from sosie.workspace.workspace import Workspace

X008 = Rule("SOS-X008", "info", "A file was brought to a machine")
X009 = Rule("SOS-X009", "error", "Nothing listens where ComfyUI was expected")
X011 = Rule("SOS-X011", "warning", "A LoRA on a machine is another one than here")

LORA = ("lora", "loras")
"""The role of LoRAs: of recipes, and of workflows, which know only the folder."""

Folders = Mapping[str, tuple[str, ...]]
"""Absolute paths of folders of models, by their kind."""


class ServerDoctor:
    """The files of one server, looked at when a plan names them or they have changed.

    On this machine it has no `line`, and only files are looked at.
    """

    def __init__(self, workspace: Workspace, reached: Reached, seen: MutableMapping[str, str]) -> None:
        """`seen` gets the stamp of each file by its name: the server is made to read it again when that changes."""
        self._workspace = workspace
        self._server = reached.server
        self._line = _Line(reached.remote, reached.tunnel) if reached.remote and reached.tunnel else None
        self._seen = seen
        self._examined: dict[tuple[str, str], Examined] = {}

    @property
    def trouble(self) -> SshError | None:
        """Why there is no line to the machine now."""
        return self._line.tunnel.trouble if self._line else None

    def refused(self) -> list[Finding]:
        """SOS-X009 if the remote machine is there and nothing listened at ComfyUI's port since this was asked last."""
        return self._line.refused() if self._line else []

    def check(self, plan: Plan, program: GraphProgram) -> list[Finding]:
        """Line, cards and disk (once), LoRAs that are missing there (brought), and every file that the plan uses."""
        uses = [use for step in program.steps for use in step.draft.files]
        findings: list[Finding] = []
        try:
            if self._line is not None:
                if not self._folders:
                    return [self._line.untold()]
                findings += self._line.look_once(self._folders)
                findings += self._bring(self._line, plan, uses)
            for examined in self.examine_files(uses):
                findings += examined.findings
        except SshError as error:
            return [error.finding(self._name)]
        return findings

    def examine_machine(self, needs: Needs | None = None) -> list[Finding]:
        """Line, cards and disk of a remote machine against what is needed; without a known folder the disk of `/`."""
        if self._line is None:
            return []
        try:
            looked = self._line.look(self._folders or {"": ("/",)}, needs)
            return [*looked, *([] if self._folders else [self._line.untold()])]
        except SshError as error:
            return [error.finding(self._name)]

    def examine_files(self, uses: Iterable[FileUse] | None) -> Iterator[Examined]:
        """The files that `uses` name, or all that are in the model folders, each once. Raises `SshError`."""
        listed = self._machine.files(path for paths in self._folders.values() for path in paths)
        for file in dict.fromkeys(listed if uses is None else self._used(uses, listed)):
            key = (file.path, file.stamp)
            if key not in self._examined:
                found = examine_on(self._machine, file, self._workspace.known_table)
                self._examined[key] = replace(found, findings=tuple(map(on_detector, found.findings)))
            yield self._examined[key]

    @property
    def _name(self) -> str:
        return self._line.name if self._line else self._server.name

    @cached_property
    def _machine(self) -> Machine:
        return self._line.machine if self._line else Here()

    @cached_property
    def _folders(self) -> Folders:
        """As the address says, else as the server says. Empty if it is not there, or runs elsewhere without a line."""
        if self._line is not None and self._line.address.folder:
            return {"": (f"{self._line.address.folder}/models",)}
        client = Client(self._server)
        try:
            if self._line is None and not is_here(client.system()):
                return {}
            told = client.model_folders()
        except ComfyError:
            # Whatever it is, the server's own check says it.
            return {}
        finally:
            client.close()
        if self._line is None:
            return told
        folders = {kind: tuple(path for path in paths if path.startswith("/")) for kind, paths in told.items()}
        return {kind: paths for kind, paths in folders.items() if paths}

    def _used(self, uses: Iterable[FileUse], listed: Iterable[MachineFile]) -> Iterator[MachineFile]:
        """The files that have the names of those a graph uses; where several fit, the server's check says so."""
        by_path = {file.path: file for file in listed}
        for use in uses:
            found = [by_path[path] for path in places(use, by_path)]
            if found:
                stamps = sorted({f"{file.machine} {file.path} {file.stamp}".strip() for file in found})
                self._seen[use.names[0]] = "; ".join(stamps)
            yield from found

    def _bring(self, line: _Line, plan: Plan, uses: Sequence[FileUse]) -> list[Finding]:
        """Copies the plan's LoRAs that are here and not there; one there with another content is a warning."""
        findings: list[Finding] = []
        folders = self._folders
        wanted = {use.names[0]: use for use in uses if use.role.casefold() in LORA}
        for local in self._local_loras(plan):
            if local.name not in wanted:
                continue
            listed = line.machine.files(path for paths in folders.values() for path in paths)
            there = [f for f in listed if PurePosixPath(f.path).name.casefold() == local.name.casefold()]
            if there:
                findings += _compared(line.machine, local, there)
                continue
            folder = folders["loras"][0] if "loras" in folders else f"{folders[next(iter(folders))][0]}/loras"
            done = line.machine.put(local, f"{folder}/{local.name}")
            message = f"{local.name} ({done.size / 1e6:,.1f} MB) was brought to {line.name}:{done.path}"
            findings.append(X008.at(line.name, message))
        return findings

    def _local_loras(self, plan: Plan) -> Iterator[Path]:
        for name in dict.fromkeys(use.file for stage in plan.stages for use in stage.loras):
            try:
                path = resolve_one(self._workspace, name).located
            except SosieError:
                continue
            if path.is_file():
                yield path


class _Line:
    """The tunnel to a remote server's machine, and what is known through it."""

    def __init__(self, address: RemoteServer, tunnel: Tunnel) -> None:
        self.address = address
        self.tunnel = tunnel
        self.name = address.host.name
        # ComfyUI names folders that nobody has made; a folder that the user names must be there.
        self.machine = Remote(tunnel.host, optional=not address.folder)
        self._looked = False
        self._refusals = 0

    def refused(self) -> list[Finding]:
        before, self._refusals = self._refusals, self.tunnel.refusals
        if self._refusals == before:
            return []
        message = f"{self.name} is there, but nothing listens at its 127.0.0.1:{self.address.port}"
        hint = "start ComfyUI there (main.py --listen 127.0.0.1), or name its port: comfy+ssh://...?port=NUMBER"
        return [X009.at(self.name, message, hint)]

    def untold(self) -> Finding:
        """Why no file was examined: an old server, or none at all, which its own check says."""
        message = f"the models on {self.name} were not examined: the server does not tell in which folders they are"
        hint = "name ComfyUI's folder in the address: comfy+ssh://USER@HOST:PORT/FOLDER"
        return X010.at(self.name, message, hint)

    def look(self, folders: Folders, needs: Needs | None = None) -> list[Finding]:
        first = next(path for paths in folders.values() for path in paths)
        return [*check_line(self.tunnel), *check_remote_machine(self.machine, first, needs)]

    def look_once(self, folders: Folders) -> list[Finding]:
        findings = [] if self._looked else self.look(folders)
        self._looked = True
        return findings


@contextmanager
def with_doctors(
    workspace: Workspace, address: str, seen: MutableMapping[str, str]
) -> Generator[tuple[Sequence[Server], Sequence[ServerDoctor]]]:
    """The servers of an address (`reach`), and a doctor on each machine that is this one or has a line to it.

    For a workspace it is a `engines.comfy.reach.Reach`.
    """
    if address in ("comfy", "comfy+ssh"):
        raise UsageError(f"engine '{address}' needs an address", HINT)
    with reach(address, workspace) as found:
        examined = [one for one in found if one.remote or one.server.is_local]
        yield [one.server for one in found], [ServerDoctor(workspace, one, seen) for one in examined]


def is_here(system: System) -> bool:
    """Whether a server's machine has this one's memory, to the byte; False where either is not told."""
    return system.ram > 0 and system.ram == machine_memory()


def on_detector(found: Finding) -> Finding:
    """A warning in place of the error that a detector of Ultralytics is a pickle of its own classes: they all are."""
    if found.code != K001.code or " holds ultralytics." not in found.message:
        return found
    hint = "there are no other files of these detectors: take it from its publisher alone, who can run code by it"
    return replace(found, severity="warning", hint=hint)


def _compared(machine: Remote, local: Path, there: Sequence[MachineFile]) -> Iterator[Finding]:
    from sosie.files.digest import asset_digest

    size = local.stat().st_size
    for file in there:
        if file.size != size or machine.digest(file) != asset_digest(local):
            message = f"{file.name} has another content than {local}, and the server loads its own"
            hint = "rename one of the two, or remove the one there: it is then brought again"
            yield X011.at(file.name, message, hint)
