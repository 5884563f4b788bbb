"""The noise level as klein's transformer is told it: exact, where diffusers rounds it to the model's precision.

bfloat16 knows every fourth number between 512 and 1024. At the four levels of a picture of 1024 x 1024 px that moves
the latents by up to 1.2 % of their norm, twice what all else that is rounded does. ComfyUI embeds it in float32, too.
"""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

from torch import Tensor

from sosie.diffusion.flow.samplers import TRAINED


@contextmanager
def exact_level(transformer: Any, levels: Tensor) -> Generator[None]:
    """Within it a call of the stock transformer embeds `levels` (float32 [n], 0 to 1), whatever it is given."""
    exact = levels.float() * TRAINED

    def instead(_: Any, __: object) -> tuple[Tensor]:
        return (exact,)

    hook = transformer.time_guidance_embed.time_proj.register_forward_pre_hook(instead)
    try:
        yield
    finally:
        hook.remove()


def embedded(transformer: Any, levels: Tensor) -> Tensor:
    """The levels' embeddings in the model's precision, [n, width], of a model that is not told its guidance."""
    with exact_level(transformer, levels):
        made: Tensor = transformer.time_guidance_embed(levels.to(transformer.dtype), None)
    return made
