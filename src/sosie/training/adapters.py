"""The LoRA of a denoiser while it is trained: attached by peft, averaged, written out and read in.

Imports torch and peft.
"""

from __future__ import annotations

import contextlib
import importlib
from collections.abc import Callable, Generator, Sequence
from pathlib import Path
from typing import Any

from sosie.core.errors import BadModelError
from sosie.core.recipe import Training
from sosie.files.lora import Lora, read_lora

torch: Any = importlib.import_module("torch")
peft: Any = importlib.import_module("peft")

NAME = "default"


class Adapters:
    """One pair of matrices a module, float32: down [rank, in] random, up [out, rank] zero (arXiv:2106.09685).

    `pattern` is a regular expression that names the modules. The same seed gives the same matrices.
    """

    def __init__(self, denoiser: Any, pattern: str, training: Training) -> None:
        self._training = training
        config = peft.LoraConfig(r=training.rank, lora_alpha=training.alpha, target_modules=pattern)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(training.seed)
            peft.inject_adapter_in_model(config, denoiser, NAME)
        kind: Any = importlib.import_module("peft.tuners.lora").LoraLayer
        self.modules: dict[str, Any] = {n: m for n, m in denoiser.named_modules() if isinstance(m, kind)}
        for module in self.modules.values():
            module.lora_A[NAME].to(torch.float32)
            module.lora_B[NAME].to(torch.float32)
        self.parameters: list[Any] = [
            matrix.weight for module in self.modules.values() for matrix in (module.lora_A[NAME], module.lora_B[NAME])
        ]
        self.average: list[Any] = []

    @property
    def count(self) -> int:
        """How many numbers are trained."""
        return sum(parameter.numel() for parameter in self.parameters)

    def start_average(self) -> None:
        """Begins the moving average at the present weights, where the training has one."""
        self.average = [p.detach().clone() for p in self.parameters] if self._training.ema else []

    def follow(self, step: int) -> None:
        """Moves the average towards the weights after `step` updates; it starts fast: decay (1 + n) / (10 + n)."""
        if self.average:
            decay = min(self._training.ema, (1 + step) / (10 + step))
            with torch.no_grad():
                torch._foreach_lerp_(self.average, self.parameters, 1 - decay)

    @contextlib.contextmanager
    def averaged(self) -> Generator[None]:
        """Within, the weights are their average, if there is one."""
        kept = [p.detach().clone() for p in self.parameters] if self.average else []
        put(self.parameters, self.average)
        try:
            yield
        finally:
            put(self.parameters, kept)

    def tensors(self, key: Callable[[str], str], dtype: Any) -> dict[str, Any]:
        """What a file holds: each module's down, up and alpha in `dtype`, the weights as they now are, on the CPU."""
        made: dict[str, Any] = {}
        for name, module in self.modules.items():
            for role, matrix in (("lora_down", module.lora_A[NAME]), ("lora_up", module.lora_B[NAME])):
                made[f"{key(name)}.{role}.weight"] = matrix.weight.detach().to("cpu", dtype).clone()
            made[f"{key(name)}.alpha"] = torch.tensor(float(self._training.alpha), dtype=dtype)
        return made

    def read(self, path: Path, family: str) -> None:
        """Starts from a LoRA file of any layout. `BadModelError`, with nothing changed, if it does not fit exactly."""
        lora = read_lora(path)
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
            rows, columns = len(module.lora_B[NAME].weight), module.lora_A[NAME].weight.shape[1]
            if adapter.shape != (rows, columns):
                return f"{adapter.name} changes {list(adapter.shape)}, the model has {[rows, columns]}"
        return ""


def put(parameters: Sequence[Any], values: Sequence[Any]) -> None:
    """Gives parameters these values, in place."""
    with torch.no_grad():
        for parameter, value in zip(parameters, values, strict=False):
            parameter.copy_(value)
