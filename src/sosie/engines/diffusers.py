"""The in-process engine: diffusers on this machine's CPU or GPU."""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
import os
import platform
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sosie.core import Environment, Finding, Guide, Plan, Progress, Render, Stage
from sosie.core.errors import NotFoundError, nearest
from sosie.engines.worker import Worker
from sosie.families import families

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from PIL.Image import Image

PACKAGES = ("sosie", "torch", "diffusers", "transformers", "numpy", "onnxruntime", "opencv-python-headless")


class DiffusersEngine:
    """Renders plans one at a time, so that an image never depends on what it was batched with.

    `paths` maps every asset name of the plans to a local file or folder; `identity` gives a
    guide's face embedding. `device` is `auto`, `cpu` or `cuda`.
    """

    def __init__(
        self,
        paths: Mapping[str, Path],
        identity: Callable[[Guide, Plan], NDArray[np.float32]],
        device: str = "auto",
    ) -> None:
        self._paths = paths
        self._identity = identity
        self._device = device
        self._runners: dict[str, Any] = {}
        self._worker = Worker()
        if _busy():
            os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

    @property
    def name(self) -> str:
        """`diffusers-cpu` or `diffusers-cuda`: the two round differently."""
        return f"diffusers-{self._chosen_device}"

    def check(self, plan: Plan) -> list[Finding]:
        """Missing packages, unknown samplers and stages; no weight is read."""
        missing = [name for name in ("torch", "diffusers", "transformers") if importlib.util.find_spec(name) is None]
        if missing:
            message = (
                f"recipe '{plan.recipe}' runs on this machine with torch and diffusers; missing: {', '.join(missing)}"
            )
            return [Finding("SOS-E004", "error", "diffusers", message, 'pip install "sosie[local]"')]
        findings: list[Finding] = []
        for stage in plan.stages:
            family: Any = _on_diffusers(stage.family)
            findings += family.check(stage, plan)
        return findings

    def run(self, plans: Sequence[Plan]) -> Iterator[Progress | Render]:
        """Renders every plan, in order."""
        for plan in plans:
            started = time.monotonic()
            stage = plan.stages[0]
            yield Progress(plan, "load", 0, 1)
            with self._worker.start(partial(self._render, stage, plan)) as job:
                for step, steps in job.steps():
                    yield Progress(plan, stage.kind, step, steps)
                yield Render(job.result(), plan, self.name, self._environment, time.monotonic() - started)

    def _render(self, stage: Stage, plan: Plan, report: Callable[[int, int], None]) -> Image:
        return self._runner(stage).run(stage, plan, self._paths, report)

    def close(self) -> None:
        """Frees the weights."""
        self._worker.close()
        for runner in self._runners.values():
            runner.close()
        self._runners.clear()

    def _runner(self, stage: Stage) -> Any:
        if stage.family not in self._runners:
            self._runners[stage.family] = _on_diffusers(stage.family).Runner(self._chosen_device, self._identity)
        return self._runners[stage.family]

    @cached_property
    def _chosen_device(self) -> str:
        if self._device != "auto":
            return self._device
        torch: Any = importlib.import_module("torch")
        return "cuda" if torch.cuda.is_available() else "cpu"

    @cached_property
    def _environment(self) -> Environment:
        versions = [(name, importlib.metadata.version(name)) for name in PACKAGES if _installed(name)]
        return Environment(platform.python_version(), platform.platform(), self._device_name(), tuple(versions))

    def _device_name(self) -> str:
        torch: Any = importlib.import_module("torch")
        if self._chosen_device == "cuda":
            return str(torch.cuda.get_device_name())
        return f"cpu, {platform.machine()}, {torch.get_num_threads()} threads"


def _busy() -> bool:
    """Whether more is running than this machine has cores: then waiting threads should sleep.

    Read once, when torch loads OpenMP; pixels do not depend on it. 6 steps of `mini` on two cores
    took 1.1 s spinning and 2.0 s sleeping on an idle machine, 6.2 s and 2.5 s beside two busy processes.
    """
    return hasattr(os, "getloadavg") and os.getloadavg()[0] > 1.25 * (os.cpu_count() or 1)


def _on_diffusers(family: str) -> Any:
    known = {item.name: item for item in families()}
    if family not in known:
        raise NotFoundError(f"family '{family}' is not known{nearest(family, known)}", "sosie recipe check RECIPE")
    return importlib.import_module(f"{known[family].package}.on_diffusers")


def _installed(name: str) -> bool:
    try:
        importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True
