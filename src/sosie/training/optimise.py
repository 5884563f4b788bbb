"""The optimiser and the learning rate."""

from __future__ import annotations

import importlib
import importlib.util
import math
from typing import TYPE_CHECKING, Any

from sosie.core.recipe import Training

if TYPE_CHECKING:
    import torch


def has_8_bit(device: str) -> bool:
    """Whether AdamW with 8-bit states can be had: bitsandbytes (Dettmers et al. 2021) on a GPU."""
    return device == "cuda" and importlib.util.find_spec("bitsandbytes") is not None


def optimiser_for(parameters: list[torch.nn.Parameter], training: Training, device: str) -> Any:
    """AdamW: with 8-bit states where the training asks for them or leaves it open and they can be had, else fused."""
    rate, decay = training.learning_rate, training.weight_decay
    if training.optimizer != "adamw" and has_8_bit(device):
        bitsandbytes: Any = importlib.import_module("bitsandbytes")
        return bitsandbytes.optim.AdamW8bit(parameters, lr=rate, weight_decay=decay)
    import torch

    return torch.optim.AdamW(parameters, lr=rate, weight_decay=decay, fused=True)


def learning_rate(training: Training, step: int) -> float:
    """The rate of update `step` (from 0): it rises to the recipe's over `warmup` updates, then follows the schedule."""
    if step < training.warmup:
        return training.learning_rate * (step + 1) / training.warmup
    done = (step - training.warmup) / max(1, training.steps - training.warmup)
    share = {"constant": 1.0, "linear": 1 - done, "cosine": (1 + math.cos(math.pi * done)) / 2}[training.schedule]
    return training.learning_rate * share
