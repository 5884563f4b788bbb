"""When something acts while a picture is drawn: guides in a share of the steps, and what lies under a mask."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from sosie.diffusion.canvas import Canvas
from sosie.diffusion.flow.levels import FlowLevels

TINY = 1e-6
"""Levels that differ by less are the same."""

Freed = Callable[[Tensor, float], Tensor]


def between(levels: FlowLevels, start: float, end: float) -> Callable[[float], bool]:
    """Whether a noise level is in a step that begins at or after the share `start` of them, and ends by `end`."""

    def acts(sigma: float) -> bool:
        step = max(0, int((levels.sigmas[:-1] >= sigma - TINY).sum()) - 1)
        return step >= start * levels.steps - TINY and step + 1 <= end * levels.steps + TINY

    return acts


def freed_by(under: Tensor, canvas: Canvas, levels: FlowLevels) -> Freed | None:
    """Differential diffusion (Levin and Fried 2023, arXiv:2306.00950), as a function of the picture and its level.

    Where `change` is c, the picture without noise is that under the canvas until the share 1 - c of the steps is over;
    so the face's edge is freed last, and what is drawn grows into what stays. None if all may change.
    """
    if canvas.change is None:
        return None
    change = torch.as_tensor(canvas.change)[None, None]
    freed = torch.nn.functional.interpolate(change, size=under.shape[-2:], mode="area").to(under)

    def keep(x0: Tensor, sigma: float) -> Tensor:
        done = int((levels.sigmas[:-1] >= sigma - TINY).sum())
        return torch.where(freed > (0 if done >= levels.steps else 1 - done / levels.steps), x0, under)

    return keep
