"""One loaded model at a time: what every family that draws in process does with it between images."""

from __future__ import annotations

import gc
from collections.abc import Callable, Hashable
from typing import Generic, Protocol, TypeVar

import torch

from sosie.core import Finding, Plan, Stage
from sosie.core.errors import BadModelError
from sosie.core.recipe import DrawingPrecision
from sosie.diffusion.memory import MemoryMode
from sosie.diffusion.parts import Vae

DTYPES: dict[DrawingPrecision, torch.dtype] = {
    "fp32": torch.float32,
    "bf16": torch.bfloat16,
    "fp16": torch.float16,
    "fp8": torch.bfloat16,  # but for the large products
}


class Loaded(Protocol):
    """A loaded model and everything that hangs on its weights. `key` is what it was loaded by."""

    key: tuple[object, ...]

    @property
    def vae(self) -> Vae:
        """Its VAE."""
        ...

    def restore(self) -> None:
        """Takes away what was made fast, and where the weights were placed: they are about to move or to change."""
        ...

    def leave_gpu(self) -> None:
        """Moves the weights to main memory, after `restore`, and forgets what was computed of them."""
        ...


L = TypeVar("L", bound=Loaded)
K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class Holder(Generic[L]):
    """Holds one model at a time; another one, or another precision, takes its place. `device` is `cpu` or `cuda`."""

    def __init__(self, device: str, memory: MemoryMode) -> None:
        self._device = device
        self._memory = memory
        self._model: L | None = None

    @property
    def vae(self) -> Vae:
        """The VAE of the model that was used last. Raises `BadModelError` if there is none."""
        if self._model is None:
            raise BadModelError("no model is loaded, so there is no VAE")
        return self._model.vae

    def precision(self, stage: Stage) -> DrawingPrecision:
        """The stage's, or what suits the device: fp32 on a CPU, bf16 on a GPU."""
        return stage.precision if stage.precision != "auto" else "fp32" if self._device == "cpu" else "bf16"

    def hold(self, key: tuple[object, ...], load: Callable[[], L]) -> L:
        """The model of that key; what `load` gives takes the place of another."""
        if self._model is None or self._model.key != key:
            self.close()
            self._model = load()
        return self._model

    def findings(self) -> tuple[Finding, ...]:
        """How the memory is used, once a change of it."""
        return self._memory.findings()

    def fall_back(self, stage: Stage, plan: Plan, why: str) -> None:
        """Frees everything and takes the next memory mode; `EngineError` if there is none."""
        self._memory.fall_back(stage, plan, why)
        self.close()

    def rest(self) -> None:
        """Frees the GPU and keeps the weights in main memory."""
        if self._model is None or self._device == "cpu":
            return
        self._model.restore()
        self._model.leave_gpu()
        torch.cuda.empty_cache()

    def close(self) -> None:
        """Frees the weights."""
        if self._model is None:
            return
        self._model.restore()
        self._model = None
        gc.collect()  # a pipeline, its guides and what was made fast name each other
        if self._device != "cpu":
            torch.cuda.empty_cache()


def kept(table: dict[K, V], key: K, most: int, make: Callable[[], V]) -> V:
    """The value of a key, made once; of more than `most` values the oldest is forgotten."""
    if key not in table:
        if len(table) >= most:
            table.pop(next(iter(table)))
        table[key] = make()
    return table[key]
