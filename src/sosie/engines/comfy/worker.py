"""One server at work: a plan's program run on it, graph by graph, with everything that it does not say found out."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, MutableMapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol, TypeVar

from sosie import __version__
from sosie.core import Environment, Finding, Plan, Preview, Progress, Render
from sosie.core.errors import EngineError
from sosie.core.finding import Rule
from sosie.engines.comfy.answers import System
from sosie.engines.comfy.catalogue import NodeCatalogue
from sosie.engines.comfy.errors import HINTS, Y015, Y018, Y023, ComfyError, OutOfMemoryError
from sosie.engines.comfy.events import Event, Glimpse, SamplerStepped, Started, Waiting
from sosie.engines.comfy.link import ServerLink
from sosie.engines.comfy.load_log import LoadLog
from sosie.engines.comfy.logs import is_cut, last, read_entries, since
from sosie.engines.comfy.matching import check_system, match
from sosie.engines.comfy.pictures import check_picture
from sosie.engines.comfy.program import CompiledGraph, Compiler, GraphProgram, Step, Upload, inputs_of
from sosie.engines.comfy.run import Rendered, free, render
from sosie.engines.comfy.uploads import ROOM, size_of, smaller
from sosie.families.contract.draws import StageOutput

if TYPE_CHECKING:
    from PIL.Image import Image

Y034 = Rule("SOS-Y034", "info", "A server's log cannot be read")
Y035 = Rule("SOS-Y035", "info", "A server had a model loaded before")
Y036 = Rule("SOS-Y036", "info", "A server had to draw an image anew, because its file was gone")

T = TypeVar("T")

FRESH = 30.0
"""Seconds for which what a server said of its nodes and files is good for another check."""


@dataclass(frozen=True)
class Queued(Progress):
    """Progress of an image that waits for its server, which has `ahead` jobs to do before it (None: not known)."""

    ahead: int | None = None


@dataclass(frozen=True, eq=False)
class PlanWork:
    """A plan that is ready to be sent: its program, the image it starts from, and its first graph."""

    plan: Plan
    program: GraphProgram
    source: Image | None
    first: CompiledGraph | StageOutput


@dataclass(frozen=True)
class _Mark:
    """Where a server's log ended: the time of its last entry, and how often the line had broken until then."""

    time: str
    breaks: int


class MainThread(Protocol):
    """Where a worker's events go, and where Sosie's own work on images is done: always in one thread."""

    def report(self, progress: Progress) -> None:
        """Passes progress on."""
        ...

    def here(self, work: Callable[[], T]) -> T:
        """What `work` returns or raises, run in the thread that reads the engine's events."""
        ...


class ServerWorker:
    """A server that renders one plan after another. `stamps` is what is known of the files it has loaded."""

    def __init__(self, link: ServerLink, compiler: Compiler, stamps: MutableMapping[str, str]) -> None:
        self.link = link
        self.name = link.server.name
        self._compiler = compiler
        self._stamps = stamps
        self._load_log = LoadLog(self.name, stamps)
        self._catalogue: NodeCatalogue | None = None
        self._system: System | None = None
        self._stale = 0.0
        self._max_upload: int | None = None
        self._uploaded: dict[str, str] = {}
        self._said: set[str] = set()
        self._notes: list[Finding] = []

    def relink(self) -> None:
        """A fresh link after a stop; a thread that still hangs on the old one finds it closed."""
        old, self.link = self.link, ServerLink(self.link.server, self.link.limits, self.link.patience)
        old.close()

    def check(self, program: GraphProgram) -> list[Finding]:
        """What would stop or spoil a program here. Raises `ComfyError` if the server cannot be asked."""
        if time.monotonic() >= self._stale:
            self._system = self.link.client.system()
            self._catalogue = NodeCatalogue(self.link.client.object_info())
            self._stale = time.monotonic() + FRESH
        findings = check_system(self._system or System(), program, self.name)
        for step in program.steps:
            findings += match(step.draft, self._offers(), self.name).findings
        return findings

    def render(self, work: PlanWork, engine: str, host: MainThread) -> Render:
        """Runs a program, which makes the `Render` of an engine called `engine`.

        Raises `EngineError`, or `StoppedError` when no one waits any more.
        """
        started = time.monotonic()
        image = work.source
        findings: list[Finding] = []
        measures: list[tuple[str, float]] = []
        for index, step in enumerate(work.program.steps):
            host.report(Queued("queue", 0, 1))
            output = self._step(work, index, image, host)
            image = output.image
            findings += output.findings
            measures += [(f"{step.phase}.{name}", value) for name, value in output.measures]
            if any(finding.severity == "error" for finding in output.findings):
                break
        if image is None:
            raise EngineError(f"plan {work.plan.id[:12]} has no stage")
        unique = tuple(dict.fromkeys(findings))
        seconds = time.monotonic() - started
        return Render(image, work.plan, engine, self._environment(), seconds, unique, tuple(measures))

    def _step(self, work: PlanWork, index: int, image: Image | None, host: MainThread) -> StageOutput:
        """One graph; without enough memory the server is made to free its own, and a smaller one tried once."""
        step = work.program.steps[index]
        compiled = work.first if index == 0 else host.here(lambda: first_graph(step, image))
        if isinstance(compiled, StageOutput):
            return compiled
        try:
            return self._graph(compiled, step, host)
        except OutOfMemoryError as error:
            self._forget()
            smaller = host.here(lambda: first_graph(self._compiler(work.plan, smaller=True).steps[index], image))
            if isinstance(smaller, StageOutput):
                return smaller
            try:
                output = self._graph(smaller, step, host)
            except OutOfMemoryError as again:
                message = f"{again.message}; memory was freed and a smaller mode tried, which failed as well"
                raise OutOfMemoryError(Y023, message, again.hint) from None
            message = f"{error.message}; it was freed, and the image drawn in a smaller mode"
            return _with(output, Y023.at(self.name, message, error.hint, severity="warning"))

    def _graph(self, compiled: CompiledGraph, step: Step, host: MainThread) -> StageOutput:
        """Uploads, names, sends, and looks at what came back and at what the log says of it."""
        self._renew(compiled)
        mark = self._mark()
        report = _reporter(step.phase, host)
        try:
            sent = self._ready(compiled)
            rendered = render(self.link, sent, report)
        except ComfyError as error:
            if error.code != Y015.code or not compiled.uploads:
                raise
            # Its input folder may have been emptied since the upload.
            self._uploaded.clear()
            sent = self._ready(compiled)
            rendered = render(self.link, sent, report)
        findings = [*self._silent(sent, rendered, mark), *check_picture(rendered.image, self.name)]
        output = host.here(lambda: compiled.finish(rendered.image))
        return _with(output, *findings)

    def _ready(self, compiled: CompiledGraph) -> CompiledGraph:
        """The graph with the server's names of uploads and files. Raises `ComfyError` where it does not fit."""
        graph = {node: {**entry, "inputs": inputs_of(entry)} for node, entry in compiled.graph.items()}
        for upload in compiled.uploads:
            graph[upload.node]["inputs"][upload.input] = self._upload(upload)
        fitted = match(replace(compiled, graph=graph), self._offers(), self.name)
        wrong = next((finding for finding in fitted.findings if finding.severity == "error"), None)
        if wrong:
            raise ComfyError(wrong, f"server {self.name}: {wrong.message}", wrong.hint)
        return fitted.compiled

    def _upload(self, upload: Upload) -> str:
        """The server's name of an image; one that is too large is made smaller and sent once more, if that can be."""
        key = hashlib.sha256(upload.data).hexdigest()
        if key not in self._uploaded:
            if self._max_upload is None:
                self._max_upload = self.link.patiently(self.link.client.max_upload)
            limit = self._max_upload
            try:
                self._uploaded[key] = self.link.patiently(lambda: self.link.client.upload(upload.data, limit))
            except ComfyError as error:
                # A proxy before the server takes less than the server says.
                is_told = 0 < limit < len(upload.data) + ROOM
                again = smaller(upload, limit if is_told else 0) if error.code == Y018.code else None
                if again is None:
                    raise
                self._uploaded[key] = self.link.patiently(lambda: self.link.client.upload(again.data, limit))
                self._note_size(upload, again)
        return self._uploaded[key]

    def _note_size(self, upload: Upload, sent: Upload) -> None:
        if size_of(sent) != size_of(upload):
            message = f"a reference was scaled to {'x'.join(map(str, size_of(sent)))} px, for the server takes no more"
            self._notes.append(Y018.at(self.name, message, HINTS[Y018], severity="info"))

    def _renew(self, compiled: CompiledGraph) -> None:
        """Makes the server read files again that changed: it keeps what it once loaded."""
        stamps = {f"{self.name} {use.names[0]}": use.stamp for use in compiled.files if use.stamp}
        if any(self._stamps.get(key, stamp) != stamp for key, stamp in stamps.items()):
            self._forget()
        self._stamps.update(stamps)

    def _forget(self) -> None:
        free(self.link)
        self._load_log.forget()

    def _mark(self) -> _Mark | None:
        """Where the server's log ends now; None where it shows none."""
        log = self.link.patiently(self.link.client.log)
        return None if log is None else _Mark(last(log), self.link.breaks)

    def _silent(self, sent: CompiledGraph, rendered: Rendered, mark: _Mark | None) -> list[Finding]:
        """What the server did not say, and what could not be found out."""
        findings, self._notes = self._notes, []
        if rendered.again:
            message = "a cached image's file was gone from the server's output folder; it was saved again"
            findings.append(Y036.at(self.name, message))
        log = None if mark is None else self.link.patiently(self.link.client.log)
        if log is None or mark is None:
            message = "the server shows no log, so that a LoRA or weights that were not loaded would not be noticed"
            return [*findings, *self._once(Y034.at(self.name, message, "update ComfyUI"))]
        told = read_entries(since(log, mark.time), self.name)
        # One that restarted since begins its log again.
        is_whole = self.link.breaks > mark.breaks or not is_cut(log, mark.time)
        if not is_whole:
            message = f"the server wrote more than the {len(log)} lines that its log keeps, and what came first is gone"
            hint = "start ComfyUI with --verbose WARNING"
            findings.append(Y034.at(self.name, message, hint, severity="warning"))
        earlier, unseen = self._load_log.learn(sent.graph, rendered.cached, told, is_whole)
        findings += [item.finding for item in (*told, *earlier)]
        if unseen:
            nodes = ", ".join(unseen[:6])
            message = f"the server had loaded the files of nodes {nodes} before; how well, its log may not say"
            hint = "restart the server to see what it says when it loads them"
            findings += self._once(Y035.at(self.name, message, hint))
        return findings

    def _once(self, finding: Finding) -> list[Finding]:
        """A finding that would be the same for every image, at its first time only."""
        if finding.code in self._said:
            return []
        self._said.add(finding.code)
        return [finding]

    def _offers(self) -> NodeCatalogue:
        if self._catalogue is None:
            self._catalogue = NodeCatalogue(self.link.patiently(self.link.client.object_info))
        return self._catalogue

    def _environment(self) -> Environment:
        if self._system is None:
            self._system = self.link.patiently(self.link.client.system)
        system = self._system
        packages = (("comfyui", system.version), ("torch", system.torch), ("sosie", __version__))
        device = f"{self.name}, {system.device or 'unknown device'}"
        return Environment(system.python, system.platform, device, packages)


def first_graph(step: Step, image: Image | None) -> CompiledGraph | StageOutput:
    """What a step sends, from the image so far."""
    return step.compile(image) if step.compile else step.draft


def _with(output: StageOutput, *findings: Finding) -> StageOutput:
    return replace(output, findings=(*output.findings, *findings))


def _reporter(phase: str, host: MainThread) -> Callable[[Event], None]:
    """Turns a server's events into Sosie's own progress."""
    at = [0, 1]

    def report(event: Event) -> None:
        if isinstance(event, Waiting) and event.ahead is not None:
            host.report(Queued("queue", 0, 1, event.ahead))
        elif isinstance(event, Started):
            host.report(Progress("load", 0, 1))
        elif isinstance(event, SamplerStepped) and event.steps >= max(1, event.step):
            at[:] = event.step, event.steps
            host.report(Progress(phase, event.step, event.steps))
        elif isinstance(event, Glimpse):
            host.report(Preview(phase, at[0], at[1], event.data, event.format))

    return report
