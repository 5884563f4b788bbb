"""Waiting for a GPU without keeping a core busy: judges and encoders have better use for it."""

from __future__ import annotations

import torch
from torch import Tensor


def computed(tensor: Tensor) -> Tensor:
    """The tensor, when the GPU has computed it; on a CPU it is at once.

    Where torch itself waits (a copy to main memory, a number that Python asks for) the core spins until then.
    """
    if tensor.is_cuda:
        event = torch.cuda.Event(blocking=True)
        event.record(torch.cuda.current_stream(tensor.device))
        event.synchronize()
    return tensor


class Pace:
    """Lets the processor be one pass ahead of the GPU, and sleeps until then: where the queue is full a core spins."""

    def __init__(self) -> None:
        self._before: torch.cuda.Event | None = None

    def launched(self) -> None:
        """To be called after each pass was queued; returns when the GPU has done the one before."""
        event = torch.cuda.Event(blocking=True)
        event.record()
        if self._before is not None:
            self._before.synchronize()
        self._before = event
