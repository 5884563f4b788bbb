"""How well pictures are predicted at fixed noise levels.

The loss of a step says little: it depends on the noise level far more than on what was learned. Here levels, noise and
pictures are the same every time, so that only the LoRA differs.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from sosie.core.plan import derive_seed
from sosie.families.contract.trains import Base
from sosie.training.events import Validated
from sosie.training.job import HELD
from sosie.training.prepare import Item, Material, stacked

LEVELS = (0.2, 0.4, 0.6, 0.8)
"""How much of a picture is noise, 0 to 1."""


def validated(base: Base, material: Material, seed: int, step: int) -> Validated:
    """The mean squared errors by level, over pictures that are learned from and over those that are not."""
    return Validated(
        step, LEVELS, _errors(base, _first(material.items), seed), _errors(base, _first(material.held), seed)
    )


def _first(items: Sequence[Item]) -> list[Item]:
    """The first pictures, each with its first text; pictures of others are left out."""
    by_picture: dict[int, Item] = {}
    for item in items:
        if item.part is not None:
            by_picture.setdefault(item.picture, item)
    return list(by_picture.values())[:HELD]


def _fixed(count: int, levels: int) -> Tensor:
    """The levels, whatever their number would be."""
    del count, levels
    return torch.tensor(LEVELS)


def _errors(base: Base, items: Sequence[Item], seed: int) -> tuple[float, ...]:
    rows: list[Tensor] = []
    device = next(base.denoiser.parameters()).device
    for item in items:
        generator = torch.Generator("cpu").manual_seed(derive_seed(seed, item.picture, 6))
        given = base.add_noise(stacked([item] * len(LEVELS)), generator, _fixed)
        with torch.no_grad():
            errors, _ = base.unreduced_loss({name: tensor.to(device) for name, tensor in given.items()})
        rows.append(errors.mean(dim=(1, 2, 3)).double().cpu())
    return tuple(round(float(value), 6) for value in torch.stack(rows).mean(dim=0)) if rows else ()
