"""How a GPU's memory is used for a plan: the mode in use, and the next cheaper one when memory runs out.

Only `on_diffusers` and what it alone imports import this module (it imports torch).
"""

from __future__ import annotations

import importlib
from typing import Any

from sosie.core import Finding, Plan, Stage
from sosie.core.errors import EngineError, UsageError, nearest
from sosie.core.finding import Rule
from sosie.families.contract.draws import Settings
from sosie.families.sdxl.memory import MODES, Mode, Needs, Work, cheaper, choose, said

E027 = Rule("SOS-E027", "warning", "The GPU's memory did not suffice for a mode")
E028 = Rule("SOS-E028", "info", "How the GPU's memory is used")

torch: Any = importlib.import_module("torch")


def needs_of(plan: Plan, accelerated: bool = False) -> Needs:
    """What a plan's stages take together, at SDXL's full size."""
    works: list[Work] = []
    for stage in plan.stages:
        width, height = _drawn_at_once(stage, plan)
        controls = sum(guide.keypoints is not None for guide in stage.guides)
        guides = tuple(guide.kind for guide in stage.guides)
        works.append(Work(stage.kind, width, height, guides, controls, 2 if stage.sampler.cfg > 1 else 1))
    return Needs(tuple(works), accelerated)


class Economy:
    """The memory mode of a runner. On a CPU there is none."""

    def __init__(self, device: str, settings: Settings) -> None:
        if settings.memory not in ("auto", *MODES):
            raise UsageError(
                f"memory mode '{settings.memory}' is not known{nearest(settings.memory, ('auto', *MODES))}",
                "sosie generate --help",
            )
        self._device = device
        self._settings = settings
        self._mode: Mode | None = None
        self._told: list[Finding] = []

    def mode(self, plan: Plan) -> Mode | None:
        """The mode for a plan; chosen by the free memory at the first one, and kept."""
        if self._device == "cpu":
            return None
        if self._mode is None:
            free = int(torch.cuda.mem_get_info()[0])
            needs = needs_of(plan, accelerated=True)
            forced: Mode | None = next((mode for mode in MODES if mode == self._settings.memory), None)
            mode: Mode = forced or choose(free, needs)
            self._told.append(E028.at(plan.recipe, said(mode, free, needs)))
            self._mode = mode
        return self._mode

    def retreat(self, stage: Stage, plan: Plan, why: str) -> None:
        """Takes the next cheaper mode; `EngineError` if there is none, or if the mode was forced."""
        following = None if self._mode is None else cheaper(self._mode)
        if following is None or self._settings.memory != "auto":
            where = f" in mode '{self._mode}'" if self._mode else ""
            raise EngineError(
                f"stage '{stage.kind}' does not fit the memory{where}: {why.splitlines()[0]}",
                "--memory auto, a smaller image, or close what else uses the GPU",
            )
        message = f"stage '{stage.kind}' ran out of memory in mode '{self._mode}'; it goes on in mode '{following}'"
        self._told.append(E027.at(plan.recipe, message, f"--memory {following}"))
        self._mode = following

    def said(self) -> tuple[Finding, ...]:
        """What was decided since this was last asked."""
        told, self._told = tuple(self._told), []
        return told


def _drawn_at_once(stage: Stage, plan: Plan) -> tuple[int, int]:
    if stage.kind == "detail":
        return stage.detail.size, stage.detail.size
    if stage.kind == "upscale":
        return stage.upscale.tile, stage.upscale.tile
    return plan.width, plan.height
