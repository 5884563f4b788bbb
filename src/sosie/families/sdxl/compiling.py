"""What Inductor compiles of a UNet or ControlNet, and a group norm in a form that it compiles well.

Only `acceleration` imports this module (it imports torch).
"""

from __future__ import annotations

import importlib
import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal

torch: Any = importlib.import_module("torch")

Compile = Literal["off", "blocks", "whole"]
"""What is compiled: nothing; the blocks that repeat, each form of them once; a whole pass at once."""

SHAPES = 64
"""Shapes that may be compiled in one process before Inductor gives up."""

INDUCTOR: dict[str, Any] = {}
SETTINGS: dict[str, Any] = {"fullgraph": True, "dynamic": False, "options": INDUCTOR}

REGIONS = ("BasicTransformerBlock", "ResnetBlock2D")
CHUNK = 128
"""Pixels whose sums one thread block of the first pass makes."""


class GroupNorm(torch.nn.Module):
    """Group normalisation (Wu and He 2018, arXiv:1803.08494) of a picture in channels-last memory.

    Sums over runs of pixels with the channels side by side, then over runs and a group's channels;
    all in fp32. PyTorch's own reduces a group at a time, whose numbers lie far apart in that layout.
    It shares the parameters of the norm that it is made from.
    """

    def __init__(self, norm: Any) -> None:
        super().__init__()
        self.weight, self.bias = norm.weight, norm.bias
        self.groups, self.eps = norm.num_groups, norm.eps

    def forward(self, picture: Any) -> Any:
        """[batch, channels, height, width] to the same shape and type."""
        batch, channels, height, width = picture.shape
        share = channels // self.groups
        chunk = math.gcd(height * width, CHUNK)
        rows = picture.permute(0, 2, 3, 1).reshape(batch, -1, chunk, channels).float()
        sums = torch.stack([rows.sum(2), (rows * rows).sum(2)])
        mean, square = sums.view(2, batch, -1, self.groups, share).sum((2, 4)) / (share * height * width)
        inverse = torch.rsqrt((square - mean * mean).clamp_min(0) + self.eps)
        scale = inverse.repeat_interleave(share, 1) * self.weight.float()
        shift = self.bias.float() - mean.repeat_interleave(share, 1) * scale
        return (picture.float() * scale[:, :, None, None] + shift[:, :, None, None]).to(picture.dtype)


def exchange_norms(model: Any) -> dict[str, Any]:
    """Puts the norm above in the place of every group norm of pictures; gives the old ones by their names."""
    found = {name: norm for name, norm in model.named_modules() if type(norm) is torch.nn.GroupNorm}
    put(model, {name: GroupNorm(norm) for name, norm in found.items()})
    return found


def put(model: Any, modules: dict[str, Any]) -> None:
    """Puts modules in their places in a model, by name."""
    for name, module in modules.items():
        parent, _, last = name.rpartition(".")
        setattr(model.get_submodule(parent), last, module)


def regions(model: Any) -> list[Any]:
    """What `blocks` compiles: the blocks that repeat, and group norms outside of them."""
    blocks = [module for module in model.modules() if type(module).__name__ in REGIONS]
    inside = {id(part) for block in blocks for part in block.modules()}
    norms = [module for module in model.modules() if isinstance(module, GroupNorm) and id(module) not in inside]
    return blocks + norms


@contextmanager
def many_shapes() -> Iterator[None]:
    """Inductor may compile the same code for as many shapes as `SHAPES` inside."""
    dynamo: Any = importlib.import_module("torch._dynamo")
    with dynamo.config.patch(recompile_limit=SHAPES):
        yield
