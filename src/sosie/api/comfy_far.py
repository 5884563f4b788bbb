"""What Sosie does on a server's machine that it reaches by ssh: the doctor on its files, and LoRAs brought there."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, MutableMapping
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from sosie.core import Finding, Plan
from sosie.core.errors import SosieError
from sosie.core.finding import Rule
from sosie.doctor.machine import Needs
from sosie.doctor.remote import X010, FarModel, check_far_file, check_far_machine, check_line, finding_of
from sosie.engines.comfy.client import Client
from sosie.engines.comfy.errors import ComfyError
from sosie.engines.comfy.names import places
from sosie.engines.comfy.program import Compiled, Compiler, FileUse, Program, Step
from sosie.engines.comfy.server import Server
from sosie.families.contract.draws import StageOutput
from sosie.files.pickles.records import K001
from sosie.machines.ssh import FarFile, SshError, Tunnel, far_digest, list_models, push
from sosie.workspace.library import find_asset
from sosie.workspace.workspace import Workspace

if TYPE_CHECKING:
    from PIL.Image import Image

    from sosie.api.comfy import FarServer

X008 = Rule("SOS-X008", "info", "A file was brought to a machine")
X009 = Rule("SOS-X009", "error", "Nothing listens where ComfyUI was expected")
X011 = Rule("SOS-X011", "warning", "A LoRA on a machine is another one than here")

LORA = ("lora", "loras")
"""The role of LoRAs: of recipes, and of workflows, which know only the folder."""


class FarDoctor:
    """One machine: looked at once, its files whenever a plan names them for the first time or they have changed."""

    def __init__(
        self, workspace: Workspace, far: FarServer, tunnel: Tunnel, server: Server, seen: MutableMapping[str, str]
    ) -> None:
        """`seen` gets the stamp of each file by its name: the server is made to read it anew when that changes."""
        self._workspace = workspace
        self._far = far
        self._tunnel = tunnel
        self._server = server
        self._seen = seen
        self._folders: Mapping[str, tuple[str, ...]] | None = None
        self._files: tuple[FarFile, ...] | None = None
        self._known: dict[tuple[str, str], tuple[Finding, ...]] = {}
        self._looked = False
        self._refusals = 0

    @property
    def trouble(self) -> SshError | None:
        """Why there is no line to the machine now."""
        return self._tunnel.trouble

    def refused(self) -> list[Finding]:
        """SOS-X009 if the machine is there and nothing listened at ComfyUI's port since this was asked last."""
        before, self._refusals = self._refusals, self._tunnel.refusals
        if self._refusals == before:
            return []
        name = self._far.host.name
        message = f"{name} is there, but nothing listens at its 127.0.0.1:{self._far.port}"
        hint = "start ComfyUI there (main.py --listen 127.0.0.1), or name its port: comfy+ssh://...?port=NUMBER"
        return [X009.at(name, message, hint)]

    def check(self, plan: Plan, program: Program) -> list[Finding]:
        """Line, cards and disk (once), LoRAs that are missing there (brought), and every file that the plan uses."""
        name = self._far.host.name
        try:
            folders = self._model_folders()
            if not folders:
                return self._untold()
            findings = [] if self._looked else self._look(folders)
            self._looked = True
            uses = [use for step in program.steps for use in step.draft.files]
            findings += self._bring(plan, uses, folders)
            for file in self._used(uses):
                findings += self._check_file(file)
        except SshError as error:
            return [finding_of(error, name)]
        return findings

    def examine_machine(self, needs: Needs | None = None) -> list[Finding]:
        """Line, cards and disk against what is needed; where no folder is known, the disk of `/`."""
        try:
            folders = self._model_folders()
            return [*self._look(folders or {"": ("/",)}, needs), *([] if folders else self._untold())]
        except SshError as error:
            return [finding_of(error, self._far.host.name)]

    def examine_files(self, uses: Iterable[FileUse] | None) -> Iterator[FarModel]:
        """The files that `uses` name, or all that are in the model folders, each once. Raises `SshError`."""
        known = self._workspace.known_table
        for file in dict.fromkeys(self._listing() if uses is None else self._used(uses)):
            found = check_far_file(file, known)
            yield replace(found, findings=tuple(map(on_detector, found.findings)))

    def _untold(self) -> list[Finding]:
        """Why no file was examined: an old server, or none at all, which its own check says."""
        name = self._far.host.name
        message = f"the models on {name} were not examined: the server does not tell in which folders they are"
        hint = "name ComfyUI's folder in the address: comfy+ssh://USER@HOST:PORT/FOLDER"
        return [X010.at(name, message, hint)]

    def _look(self, folders: Mapping[str, tuple[str, ...]], needs: Needs | None = None) -> list[Finding]:
        first = next(path for paths in folders.values() for path in paths)
        return [*check_line(self._tunnel), *check_far_machine(self._tunnel.host, first, needs)]

    def _model_folders(self) -> Mapping[str, tuple[str, ...]]:
        """Kind of model to folders there: as the address says, else as the server says. Empty if it is not there."""
        if self._folders is None:
            if self._far.folder:
                self._folders = {"": (f"{self._far.folder}/models",)}
            else:
                self._folders = self._told_folders()
        return self._folders

    def _told_folders(self) -> Mapping[str, tuple[str, ...]]:
        client = Client(self._server)
        try:
            told = client.model_folders()
        except ComfyError:
            return {}
        finally:
            client.close()
        folders = {kind: tuple(path for path in paths if path.startswith("/")) for kind, paths in told.items()}
        return {kind: paths for kind, paths in folders.items() if paths}

    def _listing(self) -> tuple[FarFile, ...]:
        if self._files is None:
            folders = _outermost(path for paths in self._model_folders().values() for path in paths)
            # ComfyUI names folders that nobody has made; a folder that the user names must be there.
            optional = not self._far.folder
            self._files = list_models(self._tunnel.host, *folders, optional=optional) if folders else ()
        return self._files

    def _used(self, uses: Iterable[FileUse]) -> Iterator[FarFile]:
        """The files there that have the names of those a graph uses; where several fit, the server's check says so."""
        listed = {file.path: file for file in self._listing()}
        for use in uses:
            found = [listed[path] for path in places(use, listed)]
            if found:
                stamps = sorted({f"{file.host.name} {file.path} {file.stamp}" for file in found})
                self._seen[use.names[0]] = "; ".join(stamps)
            yield from found

    def _check_file(self, file: FarFile) -> tuple[Finding, ...]:
        key = (file.path, file.stamp)
        if key not in self._known:
            found = check_far_file(file, self._workspace.known_table).findings
            self._known[key] = tuple(map(on_detector, found))
        return self._known[key]

    def _bring(self, plan: Plan, uses: list[FileUse], folders: Mapping[str, tuple[str, ...]]) -> list[Finding]:
        """Copies the plan's LoRAs that are here and not there; one there with another content is a warning."""
        findings: list[Finding] = []
        wanted = {use.names[0]: use for use in uses if use.role.casefold() in LORA}
        for local in self._local_loras(plan):
            if local.name not in wanted:
                continue
            there = [f for f in self._listing() if PurePosixPath(f.path).name.casefold() == local.name.casefold()]
            if there:
                findings += _compared(local, there)
                continue
            folder = folders["loras"][0] if "loras" in folders else f"{folders[next(iter(folders))][0]}/loras"
            done = push(self._tunnel.host, local, f"{folder}/{local.name}")
            self._files = None
            message = f"{local.name} ({done.size / 1e6:,.1f} MB) was brought to {self._far.host.name}:{done.path}"
            findings.append(X008.at(self._far.host.name, message))
        return findings

    def _local_loras(self, plan: Plan) -> Iterator[Path]:
        for name in dict.fromkeys(use.file for stage in plan.stages for use in stage.loras):
            try:
                path = find_asset(self._workspace, name)
            except SosieError:
                continue
            if path.is_file():
                yield path


def on_detector(found: Finding) -> Finding:
    """A warning in place of the error that a detector of Ultralytics is a pickle of its own classes: they all are."""
    if found.code != K001.code or " holds ultralytics." not in found.message:
        return found
    hint = "there are no other files of these detectors: take it from its publisher alone, who can run code by it"
    return replace(found, severity="warning", hint=hint)


def _compared(local: Path, there: list[FarFile]) -> Iterator[Finding]:
    from sosie.files.digest import asset_digest

    size = local.stat().st_size
    for file in there:
        if file.size != size or far_digest(file.host, file.path) != asset_digest(local):
            message = f"{file.name} has another content than {local}, and the server loads its own"
            hint = "rename one of the two, or remove the one there: it is then brought again"
            yield X011.at(file.name, message, hint)


def _outermost(paths: Iterable[str]) -> list[str]:
    """Folders without those that lie within another."""
    found: list[str] = []
    for path in sorted({str(PurePosixPath(path)) for path in paths}):
        if not any(path == kept or path.startswith(f"{kept}/") for kept in found):
            found.append(path)
    return found


class Stamped:
    """A compiler whose files carry the stamps of a machine's own files, as far as they are `seen`."""

    def __init__(self, inner: Compiler, seen: Mapping[str, str]) -> None:
        self._inner = inner
        self._seen = seen

    def __call__(self, plan: Plan, *, smaller: bool = False) -> Program:
        """The program of a plan."""
        program = self._inner(plan, smaller=smaller)
        return replace(program, steps=tuple(self._step(step) for step in program.steps))

    def _step(self, step: Step) -> Step:
        later = self._later(step.compile) if step.compile else None
        return replace(step, draft=self._stamped(step.draft), compile=later)

    def _later(
        self, compile_: Callable[[Image | None], Compiled | StageOutput]
    ) -> Callable[[Image | None], Compiled | StageOutput]:
        def stamped(image: Image | None) -> Compiled | StageOutput:
            made = compile_(image)
            return self._stamped(made) if isinstance(made, Compiled) else made

        return stamped

    def _stamped(self, compiled: Compiled) -> Compiled:
        files = tuple(replace(use, stamp=self._seen.get(use.names[0], use.stamp)) for use in compiled.files)
        return replace(compiled, files=files)
