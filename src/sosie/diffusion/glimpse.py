"""How a picture looks while it is drawn: the latents without noise, decoded small.

The VAE of the draw itself decodes them, pooled to a few tokens: that is right for every model and finetune without
numbers of its own, and costs a hundredth of decoding the whole picture.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from sosie.core.sight import Sight
from sosie.diffusion.offload import device_of
from sosie.diffusion.parts import Vae
from sosie.diffusion.schedulers import Scheduler
from sosie.diffusion.vae import decode_quickly, to_image

LONGEST = 32
"""Latent pixels that the longer side of what is decoded has at most: 256 px, and never more than half the picture."""


def sight_of(vae: Vae, x0: Tensor) -> Sight | None:
    """The small picture of latents [1, c, h, w] as the VAE takes them, unscaled like what a stage draws.

    None where the VAE would have to be brought to where it works, or gives no finite picture.
    """
    device = device_of(vae)
    if vae.device.type != device.type:
        return None
    if device.type == "cuda":
        torch.cuda.synchronize()  # the steps before are not what the look costs
    started = time.perf_counter()
    factor = max(2, -(-max(x0.shape[-2:]) // LONGEST))
    with torch.no_grad():
        pooled = torch.nn.functional.avg_pool2d(x0.float(), min(factor, *x0.shape[-2:]), ceil_mode=True)
        pixels = decode_quickly(vae, pooled)
    if pixels is None:
        return None
    image = to_image(pixels)
    return Sight(image, time.perf_counter() - started)


def watch(scheduler: Scheduler) -> Callable[[], Tensor | None]:
    """Has a scheduler of diffusers remember what it took for the picture without noise at its last step."""
    stock: Any = scheduler.step
    seen: list[Tensor] = []

    @functools.wraps(stock)
    def step(*arguments: Any, **named: Any) -> Any:
        result: Any = stock(*arguments, **named)  # a pipeline asks for a tuple
        seen[:] = result[1:2]
        return result

    def clean() -> Tensor | None:
        if seen:
            return seen[0]
        kept: Any = getattr(scheduler, "model_outputs", None)  # DPM-Solver++ and UniPC keep it for their next step
        return kept[-1] if kept else None

    scheduler.step = step
    return clean
