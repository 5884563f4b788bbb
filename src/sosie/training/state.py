"""All that a run needs to go on: weights, their average, the optimiser, where it is and what it has seen.

One safetensors file, so that a save is one move. No random state is in it: order, noise and timesteps
of step n are drawn from seeds that are made of the run's seed and n.
"""

from __future__ import annotations

import importlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from sosie.core.errors import BadModelError
from sosie.core.schema import from_table, to_table
from sosie.training.events import Judged

FORMAT = "state 2"


@dataclass(frozen=True)
class Standing:
    """Where a run is: updates done, factor on the learning rate, the last norms of its gradient, the curve."""

    job: str
    step: int = 0
    scale: float = 1.0
    norms: tuple[float, ...] = ()
    judged: tuple[Judged, ...] = ()


@dataclass(frozen=True)
class State:
    """A standing and its tensors: `weights` and `average` in the order of the parameters; the optimiser's own table."""

    standing: Standing
    weights: list[Any]
    average: list[Any] = field(default_factory=list[Any])
    optimizer: dict[str, Any] = field(default_factory=dict[str, Any])


def to_bytes(state: State) -> bytes:
    """The file's content."""
    safetensors: Any = importlib.import_module("safetensors.torch")
    tensors = {f"weights.{index}": tensor for index, tensor in enumerate(state.weights)}
    tensors |= {f"average.{index}": tensor for index, tensor in enumerate(state.average)}
    plain: dict[str, dict[str, Any]] = {}
    slots: dict[int, dict[str, Any]] = state.optimizer.get("state", {})
    for index, slot in slots.items():
        for name, value in slot.items():
            if hasattr(value, "detach"):
                tensors[f"optimizer.{index}.{name}"] = value
            else:
                plain.setdefault(str(index), {})[name] = value
    table = {
        "sosie": FORMAT,
        "standing": json.dumps(to_table(state.standing)),
        "optimizer": json.dumps({"plain": plain, "groups": state.optimizer.get("param_groups", [])}),
    }
    ready = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    return cast(bytes, safetensors.save(ready, metadata=table))


def load(path: Path) -> State:
    """The state in a file. Raises `BadModelError` for one that is none, or not whole."""
    safetensors: Any = importlib.import_module("safetensors")
    try:
        with safetensors.safe_open(path, "pt") as file:
            table = cast("dict[str, str]", file.metadata() or {})
            tensors: dict[str, Any] = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        if table.get("sosie") != FORMAT:
            raise ValueError("it has no state of a training run")
        standing = from_table(Standing, json.loads(table["standing"]), str(path))
        rest: dict[str, Any] = json.loads(table["optimizer"])
    except (OSError, ValueError, KeyError, safetensors.SafetensorError) as error:
        raise BadModelError(f"{path} cannot be read: {error}", "start the run again in another folder") from error
    return State(standing, _listed(tensors, "weights."), _listed(tensors, "average."), _optimizer(tensors, rest))


def _listed(tensors: Mapping[str, Any], prefix: str) -> list[Any]:
    count = sum(name.startswith(prefix) for name in tensors)
    return [tensors[f"{prefix}{index}"] for index in range(count)]


def _optimizer(tensors: Mapping[str, Any], rest: Mapping[str, Any]) -> dict[str, Any]:
    slots: dict[int, dict[str, Any]] = {int(index): dict(values) for index, values in rest["plain"].items()}
    for name, tensor in tensors.items():
        if name.startswith("optimizer."):
            _, index, slot = name.split(".", 2)
            slots.setdefault(int(index), {})[slot] = tensor
    return {"state": slots, "param_groups": rest["groups"]}
