"""The recipe `sdxl-instantid` complete, on random weights at full size: every part as a function.

30 steps at 1024x1536, the face pass at 1024x1024, the upscaler's tiles to 4096x6144, each waited for as the engine
does; UNet and ControlNet accelerated on a GPU. `tiny` is the same on a CPU.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import sdxl_memory
import sdxl_parts
import torch

from sosie.core.recipe import Sampler
from sosie.diffusion.offload import place
from sosie.diffusion.schedulers import scheduler_for
from sosie.diffusion.waiting import computed
from sosie.families.sdxl.diffusers.fast.acceleration import Levers, accelerate

TILES = 12


def parts(*, tiny: bool, levers: Levers | None = None, sampler: Sampler | None = None) -> dict[str, Callable[[], Any]]:
    """By the names of the estimate, in the order of the recipe; `sampler` in the place of SDXL's own."""
    where = (
        sdxl_parts.Place(sdxl_parts.TINY) if tiny else sdxl_parts.Place(sdxl_parts.FULL_SIZE, "cuda", torch.bfloat16)
    )
    stack = sdxl_memory.Stack(where, *((64, 96) if tiny else (1024, 1536)), 64 if tiny else 1024)
    stack.steps = 2 if tiny else 30
    if sampler is not None:
        for pipeline in (stack.body, stack.face):
            pipeline.scheduler = scheduler_for(sampler, dict(pipeline.scheduler.config))
    place(stack.body, "full", where.device, [stack.net])
    if not tiny:
        accelerate(stack.face, levers or Levers())  # its UNet is the body's
    side = 16 if tiny else sdxl_memory.TILE
    tile = sdxl_parts.random((1, 3, side, side), where, 6)
    stack.upscaler.to(where.device)

    def tiles() -> None:
        with torch.no_grad():
            for _ in range(1 if tiny else TILES):
                computed(stack.upscaler(tile)).cpu()

    return {**stack.moments(), "upscale": tiles}


def finish() -> None:
    """Waits until the GPU has done all that it was told, asleep."""
    if torch.cuda.is_available():
        computed(torch.zeros(1, device="cuda"))
