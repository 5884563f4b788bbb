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
