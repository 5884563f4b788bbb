"""The engine: Sosie's plans on one ComfyUI server or several."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, MutableMapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from sosie.core import Finding, Plan, Progress, Render
from sosie.core.errors import EngineError
from sosie.core.feed import feed_of
from sosie.core.finding import has_errors
from sosie.engines.comfy.errors import ComfyError
from sosie.engines.comfy.link import ServerLink
from sosie.engines.comfy.pool import ServerPool, reachable
from sosie.engines.comfy.program import Compiler, GraphProgram
from sosie.engines.comfy.server import Limits, Patience, Server
from sosie.engines.comfy.worker import PlanWork, ServerWorker, first_graph

if TYPE_CHECKING:
    from PIL.Image import Image


@dataclass(frozen=True, eq=False)
class ComfySupplies:
    """What the engine works with and does not look for itself.

    `compiler` turns plans into graphs; `source` gives the image (RGB) whose pixels have a digest.
    `stamps` is what was known of the servers' files when they were last used, by server and file, and what their
    logs said of them: kept beyond a run, it notices files that were replaced between two, and LoRAs of which an
    earlier one loaded nothing.
    """

    compiler: Compiler
    source: Callable[[str], Image]
    stamps: MutableMapping[str, str]


class ComfyEngine:
    """Renders plans on ComfyUI servers, which share the work; one that is lost is left out.

    With several servers renders come as they are finished, not in the order of the plans.
    """

    def __init__(
        self,
        servers: Sequence[Server],
        supplies: ComfySupplies,
        limits: Limits | None = None,
        patience: Patience | None = None,
    ) -> None:
        self._servers = tuple(servers)
        self._supplies = supplies
        links = [ServerLink(server, limits, patience) for server in servers]
        self._workers = [ServerWorker(link, supplies.compiler, supplies.stamps) for link in links]
        self._unfit: set[str] = set()
        self._events: Generator[Progress | Render] | None = None

    @property
    def name(self) -> str:
        """`comfy:` and the servers' names, sorted: their versions and GPUs decide the pixels."""
        return f"comfy:{','.join(sorted(server.name for server in self._servers))}"

    def check(self, plan: Plan) -> list[Finding]:
        """What the compiler cannot say on ComfyUI, and what each server lacks; nothing is rendered.

        While one server can do the work, what is wrong with the others is a warning, and they are left out.
        """
        program = self._supplies.compiler(plan)
        if has_errors(program.findings):
            return list(program.findings)
        by_server = {worker.name: _check(worker, program) for worker in self._workers}
        wrong = {name for name, findings in by_server.items() if has_errors(findings)}
        if len(wrong) < len(by_server):
            self._unfit |= wrong
            by_server = {name: [_milder(finding) for finding in findings] for name, findings in by_server.items()}
        return [*program.findings, *(finding for findings in by_server.values() for finding in findings)]

    def run(self, plans: Iterable[Plan]) -> Generator[Progress | Render]:
        """Renders every plan. Closing the iterator early takes back what is queued, and nothing of others."""
        chosen = [worker for worker in self._workers if worker.name not in self._unfit] or self._workers
        workers, lost = reachable(chosen)
        if not workers:
            raise lost[0][1]
        self._events = ServerPool(workers, self.name, self._prepare).events(feed_of(plans))
        with closing(self._events):
            yield from self._events

    def close(self) -> None:
        """Takes back what still runs and ends the connections; the servers keep what they have loaded."""
        if self._events is not None:
            self._events.close()
        for worker in self._workers:
            worker.link.stop()
            worker.link.close()

    def _prepare(self, plan: Plan) -> PlanWork:
        program = self._supplies.compiler(plan)
        error = next((finding for finding in program.findings if finding.severity == "error"), None)
        if error:
            raise EngineError(error.message, error.hint)
        if not program.steps:
            raise EngineError(f"plan {plan.id[:12]} has no stage")
        source = self._supplies.source(plan.source) if plan.source else None
        return PlanWork(plan, program, source, first_graph(program.steps[0], source))


def _check(worker: ServerWorker, program: GraphProgram) -> list[Finding]:
    try:
        return worker.check(program)
    except ComfyError as error:
        return [error.finding(worker.name)]


def _milder(finding: Finding) -> Finding:
    if finding.severity != "error":
        return finding
    message = f"{finding.message}; this server is left out"
    return replace(finding, severity="warning", message=message)
