"""Core-seconds of waiting for a GPU: the parts of `sdxl-instantid` at full size, by ways to wait between passes.

    python benchmarks/waiting.py [--rounds 2] [--sampler dpmpp_2m_sde] [--compile] [--tiny]

Random weights (the parts of `sdxl_memory.py`): 30 steps at 1024x1536, a face pass of 30 at 1024x1024, tiles of the
upscaler, each waited for as the engine does; the sampler is the recipe's, whose noise is drawn on the processor. Of
every part: seconds, core-seconds of the process until it came back and of the wait after it. Ways, of the passes that
are CUDA graphs:

- `as it is`: each is launched as soon as Python comes to it;
- `after`: after a launch the core sleeps until the pass before it is done;
- `before`: before a launch it sleeps until then;
- `nap`: before a launch it sleeps for nine tenths of the time between the last two.

Then torch is asked to tell each place that waits (`set_sync_debug_mode`), in one image. `--tiny` rehearses on a CPU.
"""

from __future__ import annotations

import argparse
import statistics
import time
import warnings
from collections import Counter, deque
from collections.abc import Callable
from typing import Any

import sdxl_memory
import sdxl_parts
import torch

from sosie.core.recipe import Sampler
from sosie.diffusion.cuda_graph import CudaGraph
from sosie.diffusion.offload import place
from sosie.diffusion.schedulers import scheduler_for
from sosie.diffusion.waiting import computed
from sosie.families.sdxl.diffusers.fast.acceleration import Levers, accelerate

CUDA = torch.cuda.is_available()
TILES = 12
STOCK = CudaGraph.replay

Replay = Callable[[CudaGraph], tuple[torch.Tensor, ...]]


def marked() -> Any:
    event = torch.cuda.Event(blocking=True)
    event.record()
    return event


class Before:
    """Sleeps until the pass before is done, then launches."""

    def __init__(self) -> None:
        self._last: Any = None

    def __call__(self, graph: CudaGraph) -> tuple[torch.Tensor, ...]:
        if self._last is not None:
            self._last.synchronize()
        made = STOCK(graph)
        self._last = marked()
        return made


class After:
    """Launches, then sleeps until the pass before is done."""

    def __init__(self) -> None:
        self._last: Any = None

    def __call__(self, graph: CudaGraph) -> tuple[torch.Tensor, ...]:
        made = STOCK(graph)
        before, self._last = self._last, marked()
        if before is not None:
            before.synchronize()
        return made


class Nap:
    """Sleeps for most of the time that a launch followed the one before, then launches."""

    def __init__(self) -> None:
        self._times: deque[float] = deque(maxlen=5)
        self._last = 0.0

    def __call__(self, graph: CudaGraph) -> tuple[torch.Tensor, ...]:
        if self._times:
            left = self._last + 0.9 * min(self._times) - time.perf_counter()
            time.sleep(max(0.0, left))
        made = STOCK(graph)
        now = time.perf_counter()
        if self._last and now - self._last < 1:
            self._times.append(now - self._last)
        self._last = now
        return made


WAYS: dict[str, Callable[[], Replay]] = {"as it is": lambda: STOCK, "after": After, "before": Before, "nap": Nap}


def use(way: Replay) -> None:
    """Has all graphs replayed in this way."""

    def replay(self: CudaGraph) -> tuple[torch.Tensor, ...]:
        return way(self)

    CudaGraph.replay = replay


def parts_of(tiny: bool, compile_too: bool, sampler: str) -> dict[str, Callable[[], Any]]:
    where = (
        sdxl_parts.Place(sdxl_parts.TINY) if tiny else sdxl_parts.Place(sdxl_parts.FULL_SIZE, "cuda", torch.bfloat16)
    )
    stack = sdxl_memory.Stack(where, *((64, 96) if tiny else (1024, 1536)), 64 if tiny else 1024)
    stack.steps = 2 if tiny else 30
    chosen = Sampler(sampler, "karras", stack.steps, 4.0)
    for pipeline in (stack.body, stack.face):
        pipeline.scheduler = scheduler_for(chosen, dict(pipeline.scheduler.config))
    place(stack.body, "full", where.device, [stack.net])
    if not tiny:
        accelerate(stack.face, Levers() if compile_too else Levers("off", graph=True))
    side = 16 if tiny else sdxl_memory.TILE
    tile = sdxl_parts.random((1, 3, side, side), where, 6)
    stack.upscaler.to(where.device)

    def tiles() -> None:
        with torch.no_grad():
            for _ in range(TILES):
                computed(stack.upscaler(tile)).cpu()

    return {**stack.moments(), "upscale": tiles}


def end() -> None:
    if CUDA:
        computed(torch.zeros(1, device="cuda"))


def measured(moment: Callable[[], Any]) -> tuple[float, float, float]:
    """Seconds in all, core-seconds of the call, core-seconds of the wait after it."""
    began, cores = time.perf_counter(), time.process_time()
    moment()
    called = time.process_time()
    end()
    return time.perf_counter() - began, called - cores, time.process_time() - called


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--sampler", default="dpmpp_2m_sde")
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--tiny", action="store_true")
    options = parser.parse_args()
    moments = parts_of(options.tiny, options.compile, options.sampler)
    for moment in moments.values():
        moment()
    end()
    found: dict[tuple[str, str], list[tuple[float, float, float]]] = {}
    for _ in range(options.rounds):
        for way, made in WAYS.items():
            use(made())
            for name, moment in moments.items():
                found.setdefault((way, name), []).append(measured(moment))
    use(STOCK)
    print("| way | part | s | core-s of the call | core-s of the wait |\n| --- | --- | --- | --- | --- |")
    for (way, name), rows in found.items():
        cells = " | ".join(f"{statistics.median(column):.3f}" for column in zip(*rows, strict=True))
        print(f"| {way} | {name} | {cells} |")
    for way in WAYS:
        rows = [statistics.median(row[0] for row in found[way, name]) for name in moments]
        cores = [statistics.median(row[1] + row[2] for row in found[way, name]) for name in moments]
        print(f"{way}: {sum(rows):.3f} s, {sum(cores):.3f} core-seconds", flush=True)
    if CUDA:
        torch.cuda.set_sync_debug_mode("warn")
        for name, moment in moments.items():
            with warnings.catch_warnings(record=True) as told:
                warnings.simplefilter("always")
                moment()
            print(name, dict(Counter(f"{one.filename.rsplit('/', 2)[-1]}:{one.lineno}" for one in told)))


if __name__ == "__main__":
    main()
