"""The engine with what belongs to its servers' machines: a doctor on each, and the lines to them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from typing import TYPE_CHECKING

from sosie.core import Finding, Plan, Progress, Render
from sosie.core.errors import EngineError
from sosie.core.finding import has_errors
from sosie.engines.comfy.engine import ComfyEngine, ComfySupplies
from sosie.engines.comfy.program import CompiledGraph, Compiler, GraphProgram, Step
from sosie.engines.comfy.reach import MachineDoctor
from sosie.engines.scheme import Scheme, Supplies
from sosie.families.contract.draws import StageOutput

if TYPE_CHECKING:
    from PIL.Image import Image


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

    def run(self, plans: Iterable[Plan]) -> Iterator[Progress | Render]:
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


class Stamped:
    """A compiler whose files carry the stamps of a machine's own files, as far as they are `seen`."""

    def __init__(self, inner: Compiler, seen: Mapping[str, str]) -> None:
        self._inner = inner
        self._seen = seen

    def __call__(self, plan: Plan, *, smaller: bool = False) -> GraphProgram:
        """The program of a plan."""
        program = self._inner(plan, smaller=smaller)
        return replace(program, steps=tuple(self._step(step) for step in program.steps))

    def _step(self, step: Step) -> Step:
        later = self._later(step.compile) if step.compile else None
        return replace(step, draft=self._stamped(step.draft), compile=later)

    def _later(
        self, compile_: Callable[[Image | None], CompiledGraph | StageOutput]
    ) -> Callable[[Image | None], CompiledGraph | StageOutput]:
        def stamped(image: Image | None) -> CompiledGraph | StageOutput:
            made = compile_(image)
            return self._stamped(made) if isinstance(made, CompiledGraph) else made

        return stamped

    def _stamped(self, compiled: CompiledGraph) -> CompiledGraph:
        files = tuple(replace(use, stamp=self._seen.get(use.names[0], use.stamp)) for use in compiled.files)
        return replace(compiled, files=files)


def _open(address: str, supplies: Supplies) -> ServedComfy:
    """The engine on the servers of an address; closing it closes the lines."""
    graphs = supplies.graphs
    if graphs is None:
        raise EngineError(f"engine '{address}' was given no graphs")
    with ExitStack() as stack:
        seen: dict[str, str] = {}
        servers, doctors = stack.enter_context(graphs.reach(address, seen))
        compiler = Stamped(graphs.compiler, seen) if doctors else graphs.compiler
        inner = ComfyEngine(servers, ComfySupplies(compiler, supplies.source, graphs.stamps))
        stack.callback(inner.close)
        return ServedComfy(inner, compiler, doctors, stack.pop_all(), graphs.variant)


DIRECT = Scheme("comfy", "comfy:URL", _open, "nothing", is_remote=True, runs_graphs=True)
BY_SSH = Scheme("comfy+ssh", "comfy+ssh://USER@HOST:PORT", _open, "nothing", is_remote=True, runs_graphs=True)
