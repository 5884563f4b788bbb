"""Core-seconds of waiting for a GPU: the parts of `sdxl-instantid` at full size, by ways to wait between passes.

    python benchmarks/waiting.py [--rounds 2] [--sampler dpmpp_2m_sde] [--compile] [--tiny]

Of each part of `sdxl_complete.py`: seconds, core-seconds of the process until it came back and of the wait after it.
The sampler is the recipe's, whose noise is drawn on the processor. Ways, of the passes that are CUDA graphs:

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

import torch
from sdxl_complete import finish, parts

from sosie.core.recipe import Sampler
from sosie.diffusion.cuda_graph import CudaGraph
from sosie.families.sdxl.diffusers.fast.acceleration import Levers

STOCK = CudaGraph.replay

Replay = Callable[[CudaGraph], tuple[torch.Tensor, ...]]


class Apart:
    """Sleeps until the pass before is done: before it launches, or after."""

    def __init__(self, *, first: bool) -> None:
        self._first = first
        self._last: Any = None

    def __call__(self, graph: CudaGraph) -> tuple[torch.Tensor, ...]:
        before = self._last
        if before is not None and self._first:
            before.synchronize()
        made = STOCK(graph)
        self._last = torch.cuda.Event(blocking=True)
        self._last.record()
        if before is not None and not self._first:
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


WAYS: dict[str, Callable[[], Replay]] = {
    "as it is": lambda: STOCK,
    "after": lambda: Apart(first=False),
    "before": lambda: Apart(first=True),
    "nap": Nap,
}


def use(way: Replay) -> None:
    """Has all graphs replayed in this way."""

    def replay(self: CudaGraph) -> tuple[torch.Tensor, ...]:
        return way(self)

    CudaGraph.replay = replay


def measured(moment: Callable[[], Any]) -> tuple[float, float, float]:
    """Seconds in all, core-seconds of the call, core-seconds of the wait after it."""
    began, cores = time.perf_counter(), time.process_time()
    moment()
    called = time.process_time()
    finish()
    return time.perf_counter() - began, called - cores, time.process_time() - called


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--sampler", default="dpmpp_2m_sde")
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--tiny", action="store_true")
    options = parser.parse_args()
    levers = Levers() if options.compile else Levers("off", graph=True)
    sampler = Sampler(options.sampler, "karras", 30, 4.0)
    moments = parts(tiny=options.tiny, levers=levers, sampler=sampler)
    for moment in moments.values():
        moment()
    finish()
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
    if torch.cuda.is_available():
        torch.cuda.set_sync_debug_mode("warn")
        for name, moment in moments.items():
            with warnings.catch_warnings(record=True) as told:
                warnings.simplefilter("always")
                moment()
            print(name, dict(Counter(f"{one.filename.rsplit('/', 2)[-1]}:{one.lineno}" for one in told)))


if __name__ == "__main__":
    main()
