"""A computation that is the same every time but for its inputs: on a GPU a CUDA graph for each shape.

A step of SDXL is some ten thousand kernels; Python needs longer to launch them than a fast GPU to run
them. A graph launches them all at once. Imports torch.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

torch: Any = importlib.import_module("torch")

WARM_UPS = 2
"""Runs before a capture: the first ones choose algorithms and allocate workspaces, which a graph cannot."""

Tensors = Mapping[str, Any]
Compute = Callable[[Tensors], Any]


@dataclass(frozen=True, eq=False)
class _Captured:
    """A graph, the buffers that it reads, and the tensor that it writes."""

    graph: Any
    inputs: Tensors
    output: Any


class Replay:
    """Calls `compute(inputs)` for tensors by name; with `graphs` by a CUDA graph for each set of shapes.

    `compute` must be a pure function of its inputs and of tensors that stay where they are, and return one
    tensor, which the next call overwrites. Graphs share their memory: what one leaves behind, the next
    may use. What cannot be captured raises torch's own error.
    """

    def __init__(self, compute: Compute, *, graphs: bool) -> None:
        self._compute = compute
        self._graphs = graphs
        self._captured: dict[tuple[object, ...], _Captured] = {}

    def __call__(self, inputs: Tensors) -> Any:
        """What `compute` returns for these inputs, on whose device they are."""
        if not self._graphs:
            return self._compute(inputs)
        form = tuple((name, tuple(tensor.shape), tensor.dtype) for name, tensor in sorted(inputs.items()))
        if form not in self._captured:
            self._captured[form] = self._capture(inputs)
        captured = self._captured[form]
        for name, buffer in captured.inputs.items():
            buffer.copy_(inputs[name])
        captured.graph.replay()
        return captured.output

    def _capture(self, inputs: Tensors) -> _Captured:
        buffers = {name: tensor.detach().clone() for name, tensor in inputs.items()}
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(WARM_UPS):
                self._compute(buffers)
        torch.cuda.current_stream().wait_stream(stream)
        torch.cuda.synchronize()
        torch.cuda.empty_cache()  # what the warm-ups used is of no use to the graph's own memory
        graph = torch.cuda.CUDAGraph()
        pool = next((one.graph.pool() for one in self._captured.values()), None)
        with torch.cuda.graph(graph, pool=pool):
            output = self._compute(buffers)
        return _Captured(graph, buffers, output)
