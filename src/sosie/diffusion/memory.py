"""How a GPU's memory is used: five modes, the fastest that fits, and the next one when memory runs out.

Each mode is smaller and slower than the one before:

| mode | what it does |
| --- | --- |
| `full` | every part stays on the GPU |
| `tiled` | ... and images are decoded and encoded in tiles |
| `offload` | ... and of encoders, denoiser and VAE only those at work are on the GPU |
| `fp8` | ... and the denoiser and its ControlNets hold their weights in 8 bits (they compute in 16) |
| `sequential` | in tiles, and each layer comes to the GPU when it is its turn (16 bits) |

What a mode needs is the family's to estimate.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from sosie.core import Finding, Plan, Stage
from sosie.core.errors import EngineError, UsageError, nearest
from sosie.core.finding import Rule

E027 = Rule("SOS-E027", "warning", "The GPU's memory did not suffice for a mode")
E028 = Rule("SOS-E028", "info", "How the GPU's memory is used")

Mode = Literal["full", "tiled", "offload", "fp8", "sequential"]
MODES: tuple[Mode, ...] = ("full", "tiled", "offload", "fp8", "sequential")

GB = 1e9
MARGIN = 1.08
"""What fits must fit so many times over: estimates are within 15 % of what was measured, most within 8."""

CONTEXT = 0.8 * GB
"""CUDA and its libraries, beside what the allocator holds."""

TILE = 512
"""Side of the VAE's tiles in pixels."""


@dataclass(frozen=True)
class Estimate:
    """What a mode needs at its worst moments, in bytes: of `moments`, the largest is the `peak`."""

    mode: Mode
    moments: Mapping[str, int]

    @property
    def peak(self) -> int:
        """Bytes of the GPU's memory, CUDA's own included."""
        return max(self.moments.values())


Estimates = Sequence[Estimate]
"""One of each mode, in the order of `MODES`."""


def choose(free: int, estimates: Estimates) -> Mode:
    """The fastest mode that fits `free` bytes. Raises `EngineError` if none does."""
    for one in estimates:
        if one.peak * MARGIN <= free:
            return one.mode
    least = min(estimates, key=lambda one: one.peak)
    needed = least.peak * MARGIN / GB
    raise EngineError(
        f"the GPU has {free / GB:.1f} GB free; the smallest mode ('{least.mode}') needs {needed:.1f} GB",
        "close what else uses the GPU, or draw a smaller image",
    )


def next_mode(mode: Mode) -> Mode | None:
    """The mode to fall back on when memory runs out, or None after the last."""
    following = MODES[MODES.index(mode) + 1 :]
    return following[0] if following else None


def describe(mode: Mode, free: int, estimates: Estimates) -> str:
    """One sentence on a choice: what it needs, of how much, and what the next faster mode would need."""
    at = MODES.index(mode)
    text = f"memory mode '{mode}': about {estimates[at].peak / GB:.1f} GB of {free / GB:.1f} GB free"
    faster = estimates[at - 1]
    return f"{text} ('{faster.mode}' needs {faster.peak / GB:.1f} GB)" if at else text


class MemoryMode:
    """The memory mode of a runner. On a CPU there is none.

    `wanted` is a mode's name or `auto`: the fastest that fits the free memory. `estimates` gives what a plan needs.
    """

    def __init__(self, device: str, wanted: str, estimates: Callable[[Plan], Estimates]) -> None:
        if wanted not in ("auto", *MODES):
            raise UsageError(
                f"memory mode '{wanted}' is not known{nearest(wanted, ('auto', *MODES))}", "sosie generate --help"
            )
        self._device = device
        self._forced: Mode | None = next((mode for mode in MODES if mode == wanted), None)
        self._estimates = estimates
        self._mode: Mode | None = None
        self._findings: list[Finding] = []

    def mode(self, plan: Plan) -> Mode | None:
        """The mode for a plan; chosen by the free memory at the first one, and kept."""
        if self._device == "cpu":
            return None
        if self._mode is None:
            import torch

            free = int(torch.cuda.mem_get_info()[0])
            estimates = self._estimates(plan)
            mode: Mode = self._forced or choose(free, estimates)
            self._findings.append(E028.at(plan.recipe, describe(mode, free, estimates)))
            self._mode = mode
        return self._mode

    def fall_back(self, stage: Stage, plan: Plan, why: str) -> None:
        """Takes the next mode; `EngineError` if there is none, or if the mode was forced."""
        following = None if self._mode is None else next_mode(self._mode)
        if following is None or self._forced:
            where = f" in mode '{self._mode}'" if self._mode else ""
            raise EngineError(
                f"stage '{stage.kind}' does not fit the memory{where}: {why.splitlines()[0]}",
                "--memory auto, a smaller image, or close what else uses the GPU",
            )
        message = f"stage '{stage.kind}' ran out of memory in mode '{self._mode}'; it goes on in mode '{following}'"
        self._findings.append(E027.at(plan.recipe, message, f"--memory {following}"))
        self._mode = following

    def findings(self) -> tuple[Finding, ...]:
        """What was decided since this was last asked."""
        found, self._findings = tuple(self._findings), []
        return found
