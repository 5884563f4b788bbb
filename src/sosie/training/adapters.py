"""The LoRA of a denoiser while it is trained: attached by peft, averaged, written out and read in.

All matrices lie side by side in one tensor, so that optimiser, average and norm are one kernel each and
not one a matrix.
"""

from __future__ import annotations

import contextlib
import importlib
from collections.abc import Callable, Generator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from sosie.core.errors import BadModelError
from sosie.core.recipe import Training
from sosie.families import families
from sosie.lora import Lora, read_lora
from sosie.training.layers import quicken

peft: Any = importlib.import_module("peft")

NAME = "default"

ALIGNED = 16
"""Every matrix begins at a multiple of this many numbers, as matrix products in 16 bits need it."""


class Adapters:
    """One pair of matrices a module, float32: down [rank, in] random, up [out, rank] zero (arXiv:2106.09685).

    `pattern` is a regular expression that names the modules. The same seed gives the same matrices. They
    are trained once they are settled: `weights` is then the one tensor that holds them all, `parameters` are
    the views of it.
    """

    def __init__(self, denoiser: nn.Module, pattern: str, training: Training) -> None:
        self._training = training
        config = peft.LoraConfig(r=training.rank, lora_alpha=training.alpha, target_modules=pattern)
        whole: Any = denoiser
        random: Any = torch.random
        with random.fork_rng(devices=[]):
            random.manual_seed(training.seed)
            peft.inject_adapter_in_model(config, denoiser, NAME)
        kind: Any = importlib.import_module("peft.tuners.lora").LoraLayer
        self.modules: dict[str, Any] = {n: m for n, m in whole.named_modules() if isinstance(m, kind)}
        for module in self.modules.values():
            module.lora_A[NAME].to(torch.float32)
            module.lora_B[NAME].to(torch.float32)
        self.parameters: list[Tensor] = [layer.weight for layer in self._layers]
        self.average: list[Tensor] = []
        self.weights: Any = None
        self._average: Any = None

    @property
    def _layers(self) -> list[Any]:
        return [part[NAME] for module in self.modules.values() for part in (module.lora_A, module.lora_B)]

    @property
    def count(self) -> int:
        """How many numbers are trained."""
        return sum(parameter.numel() for parameter in self.parameters)

    def settle(self, dtype: torch.dtype) -> None:
        """Prepares for training where the denoiser is now: it computes in `dtype`, weights and average stay float32.

        The average, where the training has one, begins at the present weights.
        """
        flat = torch.cat([_padded(parameter.detach().flatten()) for parameter in self.parameters])
        self.weights = torch.nn.Parameter(flat)
        self.weights.grad = torch.zeros_like(flat)
        self._used, self._slopes = self.weights.detach(), self.weights.grad
        if dtype != torch.float32:
            self._used, self._slopes = flat.to(dtype), torch.zeros_like(flat, dtype=dtype)
        self.parameters = self._views(self.weights.detach())
        views = zip(self._layers, self._views(self._used), self._views(self._slopes), strict=True)
        for layer, used, slope in views:
            layer.weight = torch.nn.Parameter(used)
            layer.weight.grad = slope
        for module in self.modules.values():
            quicken(module, NAME)
        if self._training.ema:
            self._average = flat.clone()
            self.average = self._views(self._average)

    def _views(self, flat: Tensor) -> list[Tensor]:
        lengths = [_up(parameter.numel()) for parameter in self.parameters]
        pieces = zip(torch.split(flat, lengths), self.parameters, strict=True)
        return [piece[: parameter.numel()].view(parameter.shape) for piece, parameter in pieces]

    def begin_step(self) -> None:
        """Gives the layers the weights as they now are, and gradients of zero."""
        self.refresh()
        self._slopes.zero_()

    def refresh(self) -> None:
        """Gives the layers the weights as they now are; needed where they compute in another type."""
        if self._used.dtype != self.weights.dtype:
            self._used.copy_(self.weights.detach())

    def end_backward(self) -> None:
        """Gives `weights` the gradient that the layers were given."""
        if self._slopes is not self.weights.grad:
            self.weights.grad.copy_(self._slopes)

    def follow(self, step: int) -> None:
        """Moves the average towards the weights after `step` updates; it starts fast: decay (1 + n) / (10 + n)."""
        if self.average:
            decay = min(self._training.ema, (1 + step) / (10 + step))
            self._average.lerp_(self.weights.detach(), 1 - decay)

    @contextlib.contextmanager
    def averaged(self) -> Generator[None]:
        """Within, the weights are their average, if there is one."""
        kept = self.weights.detach().clone()
        if self.average:
            self.weights.detach().copy_(self._average)
        self.refresh()
        try:
            yield
        finally:
            self.weights.detach().copy_(kept)
            self.refresh()

    def tensors(self, key: Callable[[str], str], roles: Sequence[str], dtype: torch.dtype) -> dict[str, Tensor]:
        """What a file holds: each module's two matrices and alpha in `dtype`, the weights as they now are, on the CPU.

        `key` names a module, `roles` the two matrices.
        """
        made: dict[str, Tensor] = {}
        for index, name in enumerate(self.modules):
            for role, matrix in zip(roles, self.parameters[2 * index :], strict=False):
                made[f"{key(name)}.{role}.weight"] = matrix.detach().to("cpu", dtype).clone()
            made[f"{key(name)}.alpha"] = torch.tensor(float(self._training.alpha), dtype=dtype)
        return made

    def read(self, path: Path, family: str) -> None:
        """Starts from a LoRA file of any layout. `BadModelError`, with nothing changed, if it does not fit exactly."""
        lora = read_lora(path, families())
        problem = self._problem(lora, family)
        if problem:
            raise BadModelError(f"{path} cannot be continued: {problem}", f"sosie lora show {path}")
        safetensors: Any = importlib.import_module("safetensors")
        ours = self._training.alpha / self._training.rank
        with safetensors.safe_open(path, "pt") as file:
            for adapter in lora.adapters:
                module = self.modules[adapter.targets[0].name]
                up = file.get_tensor(adapter.keys["up"]).float() * (lora.scale(adapter) / ours)
                put([module.lora_A[NAME].weight], [file.get_tensor(adapter.keys["down"])])
                put([module.lora_B[NAME].weight], [up])

    def _problem(self, lora: Lora, family: str) -> str:
        if lora.family != family:
            return f"it is for {lora.family or lora.nearest or 'an unknown family'}, not for {family}"
        rank = self._training.rank
        if lora.ranks != (rank,):
            return f"its rank is {' and '.join(map(str, lora.ranks)) or 'none'}, the recipe's is {rank}"
        if lora.strangers or lora.algorithms != ("lora",):
            return f"it is not a plain LoRA: {', '.join(lora.algorithms)}"
        names = [adapter.targets[0].name for adapter in lora.adapters if len(adapter.targets) == 1]
        if sorted(names) != sorted(self.modules):
            return f"it changes {len(names)} modules, the recipe's targets are {len(self.modules)}, not all the same"
        for adapter in lora.adapters:
            module = self.modules[adapter.targets[0].name]
            rows, columns = len(module.lora_B[NAME].weight), module.lora_A[NAME].weight[0].numel()
            if adapter.shape != (rows, columns):
                return f"{adapter.name} changes {list(adapter.shape)}, the model has {[rows, columns]}"
        return ""


def put(parameters: Sequence[Tensor], values: Sequence[Tensor]) -> None:
    """Gives parameters these values, in place."""
    with torch.no_grad():
        for parameter, value in zip(parameters, values, strict=False):
            parameter.copy_(value)


def _up(count: int) -> int:
    return -(-count // ALIGNED) * ALIGNED


def _padded(flat: Tensor) -> Tensor:
    return torch.nn.functional.pad(flat, (0, _up(len(flat)) - len(flat)))
