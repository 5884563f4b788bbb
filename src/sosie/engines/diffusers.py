"""The in-process engine: diffusers on this machine's CPU or GPU."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import platform
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from functools import cached_property, partial
from typing import TYPE_CHECKING

from sosie.core import Environment, Finding, Plan, Preview, Progress, Render
from sosie.core.errors import EngineError, MissingPartError, NotFiniteError
from sosie.core.finding import Rule
from sosie.core.sight import Look
from sosie.core.stage_rules import E004
from sosie.engines.blank import check_drawn, no_picture
from sosie.engines.glimpses import Glimpses
from sosie.engines.guide_checks import check_guides
from sosie.engines.lost import lost_card
from sosie.engines.residency import CardMemory, MainMemory, Memory, Residency
from sosie.engines.scheme import Scheme, Supplies
from sosie.engines.worker import Worker
from sosie.families import drawer_of, expect_drawer
from sosie.families.contract.draws import Runner, Settings, StageInput, StageOutput
from sosie.machines.load import calm_threads

if TYPE_CHECKING:
    from PIL.Image import Image

E018 = Rule("SOS-E018", "error", "A family cannot be drawn in this process")

PACKAGES = ("sosie", "torch", "diffusers", "transformers", "numpy", "onnxruntime", "opencv-python-headless")


class DiffusersEngine:
    """Renders plans one at a time, so that an image never depends on what it was batched with.

    `device` is `auto`, `cpu` or `cuda`. `memory` is the device's, unless another one is given.
    """

    def __init__(
        self,
        supplies: Supplies,
        settings: Settings | None = None,
        device: str = "auto",
        memory: Memory | None = None,
    ) -> None:
        self._supplies = supplies
        self._settings = settings or Settings()
        self._device = device
        self._memory = memory
        self._residency = Residency(self._make_runner, self._open_memory)
        self._worker = Worker()
        self._is_lost = False
        # Read when torch starts. Segments that grow leave less memory unused: 18 GB for 21 at SDXL's full size.
        os.environ.setdefault("PYTORCH_CUDA_ALLOC_CONF", "expandable_segments:True")
        calm_threads()

    @property
    def name(self) -> str:
        """`diffusers-cpu` or `diffusers-cuda`: the two round differently."""
        return f"diffusers-{self._chosen_device}"

    def check(self, plan: Plan) -> list[Finding]:
        """Families that are not drawn here, missing packages, unknown samplers and stages; no weight is read."""
        if elsewhere := _elsewhere(plan):
            return elsewhere
        missing = [name for name in ("torch", "diffusers", "transformers") if importlib.util.find_spec(name) is None]
        if missing:
            message = (
                f"recipe '{plan.recipe}' runs on this machine with torch and diffusers; missing: {', '.join(missing)}"
            )
            return [E004.at("diffusers", message, 'pip install "sosie[local]"')]
        return check_plan(plan)

    def run(self, plans: Iterable[Plan]) -> Iterator[Progress | Render]:
        """Renders every plan, in order."""
        for plan in plans:
            started = time.monotonic()
            image = self._supplies.source(plan.source) if plan.source else None
            findings: list[Finding] = []
            measures: list[tuple[str, float]] = []
            for index, stage in enumerate(plan.stages):
                yield Progress("load", 0, 1)
                with self._worker.start(partial(self._run_stage, index, plan, image)) as job:
                    yield from job.steps()
                    output = job.result()
                image = output.image
                findings += output.findings
                measures += [(f"{stage.kind}.{name}", value) for name, value in output.measures]
                if any(finding.severity == "error" for finding in output.findings):
                    break
            if image is None:
                raise EngineError(f"plan {plan.id[:12]} has no stage")
            seconds = time.monotonic() - started
            yield Render(image, plan, self.name, self._environment, seconds, tuple(findings), tuple(measures))

    def _run_stage(
        self, index: int, plan: Plan, source: Image | None, report: Callable[[Progress], None]
    ) -> StageOutput:
        stage, supplies = plan.stages[index], self._supplies
        glimpses = Glimpses(supplies.watched())

        def step(done: int, steps: int) -> None:
            report(Progress(stage.kind, done, steps))

        def sight(done: int, steps: int, look: Look) -> None:
            if data := glimpses.take(done, steps, look):
                report(Preview(stage.kind, done, steps, data, "jpeg"))

        given = StageInput(stage, plan, index, source, supplies.paths, supplies.faces, step, sight)
        try:
            output = self._residency.run(stage, plan, supplies.paths, lambda runner: runner.run(given))
        except NotFiniteError as error:
            raise no_picture(error, stage, supplies.paths) from error
        except RuntimeError as error:
            if (lost := lost_card(error, self._chosen_device)) is None:
                raise
            self._is_lost = True
            raise lost from error
        blank = check_drawn(output.image, source, stage, plan, supplies.paths)
        return replace(output, findings=(*self._residency.findings(), *output.findings, *blank))

    def close(self) -> None:
        """Frees the weights."""
        self._worker.close()
        if not self._is_lost:  # of a card that failed nothing can be freed; the process is to end
            self._residency.close()

    def _make_runner(self, family: str) -> Runner:
        return drawer_of(family).runner(self._chosen_device, self._settings)

    def _open_memory(self) -> Memory:
        return self._memory or (MainMemory() if self._chosen_device == "cpu" else CardMemory())

    @cached_property
    def _chosen_device(self) -> str:
        if self._device != "auto":
            return self._device
        import torch

        return "cuda" if torch.cuda.is_available() else "cpu"

    @cached_property
    def _environment(self) -> Environment:
        versions = [(name, importlib.metadata.version(name)) for name in PACKAGES if _installed(name)]
        return Environment(platform.python_version(), platform.platform(), self._device_name(), tuple(versions))

    def _device_name(self) -> str:
        import torch

        if self._chosen_device == "cuda":
            return str(torch.cuda.get_device_name())
        return f"cpu, {platform.machine()}, {torch.get_num_threads()} threads"


def check_plan(plan: Plan) -> list[Finding]:
    """Families that are not drawn in a process, unknown samplers and stages: true of every machine with torch."""
    if elsewhere := _elsewhere(plan):
        return elsewhere
    findings: list[Finding] = []
    for stage in plan.stages:
        findings += drawer_of(stage.family).check(stage, plan)
        findings += check_guides(stage, plan, "in process")
    return findings


def _elsewhere(plan: Plan) -> list[Finding]:
    """The families of a plan that cannot be drawn in this process, each once. Raises `NotFoundError` for others."""
    findings: list[Finding] = []
    for stage in plan.stages:
        try:
            expect_drawer(stage.family)
        except MissingPartError as error:
            findings.append(E018.at(plan.recipe, error.message, error.hint))
    return list(dict.fromkeys(findings))


def _installed(name: str) -> bool:
    try:
        importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True


def _open(_: str, supplies: Supplies) -> DiffusersEngine:
    return DiffusersEngine(supplies, supplies.settings)


SCHEME = Scheme("diffusers", "diffusers", _open)
