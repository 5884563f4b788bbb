"""A computation that is the same every time but for its inputs: on a GPU a CUDA graph for each set of shapes.

A pass of a diffusion model is thousands of kernels; Python needs longer to launch them than a fast GPU to
run them. A graph launches them all at once.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import Any

import torch
from torch import Tensor

WARM_UPS = 3
"""Runs before a capture: compiling, choosing algorithms and allocating workspaces, then one that does neither."""

Tensors = Mapping[str, Tensor]
Compute = Callable[[Tensors], Sequence[Tensor]]


def new_pool() -> Any:
    """Memory that several graphs may share: what one leaves behind, the next may use."""
    return torch.cuda.graph_pool_handle()


_CAPTURING = threading.Lock()
"""One stream serves all captures, one after the other."""


@cache
def _side_stream(device: int) -> torch.cuda.Stream:
    """The stream of all captures on a GPU. cuBLAS keeps a workspace (33 MB on Hopper) for each that it has seen."""
    return torch.cuda.Stream(device)


def form_of(tensors: Tensors) -> tuple[object, ...]:
    """Equal for inputs that one graph takes: names, shapes and types."""
    return tuple((name, tuple(tensor.shape), tensor.dtype) for name, tensor in sorted(tensors.items()))


class CudaGraph:
    """`compute` for one set of shapes; the addresses of its inputs and outputs stay.

    `compute` must be a pure function of its inputs and of tensors that stay where they are. The inputs are copied in;
    the outputs stand outside the graph's memory, the `pool`, so that graphs may share it. Without a pool, on
    a CPU, the same computation runs kernel by kernel. What cannot be captured raises torch's own error.
    """

    def __init__(self, compute: Compute, inputs: Tensors, pool: Any) -> None:
        self._compute = compute
        self._inputs = {name: torch.empty_like(tensor) for name, tensor in inputs.items()}
        self._outputs: tuple[Tensor, ...] = ()
        self._graph: torch.cuda.CUDAGraph | None = None
        self.fill(inputs)
        if pool is None:
            self._run()
        else:
            self._capture(pool)

    @property
    def captured(self) -> bool:
        """Whether a graph does it."""
        return self._graph is not None

    def fill(self, inputs: Tensors) -> None:
        """Copies the inputs into their buffers."""
        for name, buffer in self._inputs.items():
            buffer.copy_(inputs[name])

    def replay(self) -> tuple[Tensor, ...]:
        """The outputs for the inputs in the buffers; the next replay overwrites them."""
        if self._graph is not None:
            self._graph.replay()
        else:
            self._run()
        return self._outputs

    def zeros(self) -> tuple[Tensor, ...]:
        """Zeros in the shape of the outputs."""
        return tuple(torch.zeros_like(tensor) for tensor in self._outputs)

    def _capture(self, pool: Any) -> None:
        stream, graph = _side_stream(torch.cuda.current_device()), torch.cuda.CUDAGraph()
        with _CAPTURING:
            stream.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(stream):
                for _ in range(WARM_UPS):
                    self._run()
            torch.cuda.current_stream().wait_stream(stream)
            with torch.cuda.graph(graph, pool=pool, stream=stream, capture_error_mode="thread_local"):
                self._run()
        self._graph = graph

    def _run(self) -> None:
        made = self._compute(self._inputs)
        if not self._outputs:
            self._outputs = tuple(torch.empty_like(tensor) for tensor in made)
        for kept, tensor in zip(self._outputs, made, strict=True):
            kept.copy_(tensor)


class Replay:
    """Calls `compute(inputs)` for tensors by name; with `graphs` by a graph for each set of shapes.

    See `CudaGraph` for what `compute` may do. The next call overwrites what a graph returned.
    """

    def __init__(self, compute: Compute, *, graphs: bool) -> None:
        self._compute = compute
        self._pool = new_pool() if graphs else None
        self._graphs: dict[tuple[object, ...], CudaGraph] = {}

    def __call__(self, inputs: Tensors) -> Sequence[Tensor]:
        """What `compute` returns for these inputs, on whose device they are."""
        if self._pool is None:
            return self._compute(inputs)
        form = form_of(inputs)
        if form not in self._graphs:
            self._graphs[form] = CudaGraph(self._compute, inputs, self._pool)
        else:
            self._graphs[form].fill(inputs)
        return self._graphs[form].replay()
