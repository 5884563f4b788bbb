"""diffusers' example script for LoRAs of SDXL, run unmodified in this process, with its steps timed.

What the script imports but need not be there (`datasets`) is stood in for; trackers are left out; each step is
timed where the script logs its loss, and after the last one it is left, before it draws pictures. With a `feed`
the same script gets latents, noise, timesteps and states of texts ready-made; UNet, loss, optimiser and loop
stay the script's.
"""

from __future__ import annotations

import contextlib
import importlib.machinery
import json
import runpy
import statistics
import sys
import time
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

LEFT_OUT = 5
"""Steps at the start that do not count: allocators fill, algorithms are chosen, graphs are captured."""


def wait() -> None:
    """Until the GPU has done what it was told."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def peaks() -> dict[str, int]:
    """Bytes of the GPU since the last reset: the most that tensors took, and that torch held."""
    if not torch.cuda.is_available():
        return {"allocated": 0, "reserved": 0}
    return {"allocated": torch.cuda.max_memory_allocated(), "reserved": torch.cuda.max_memory_reserved()}


def reset_peaks() -> None:
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()


class Clock:
    """Times of one training: `ready` right before the first step, `step` after each."""

    def __init__(self, steps: int) -> None:
        self.steps = steps
        self.losses: list[float] = []
        self.marks: list[float] = []
        self._peaks: dict[str, int] = {}
        self._began = time.perf_counter()

    def ready(self) -> None:
        wait()
        reset_peaks()
        self.marks.append(time.perf_counter())

    def step(self, loss: float) -> bool:
        """Whether that was the last one."""
        wait()
        self.marks.append(time.perf_counter())
        self.losses.append(loss)
        last = len(self.losses) == self.steps
        if last:
            self._peaks = peaks()
        return last

    def row(self) -> dict[str, Any]:
        left_out = min(LEFT_OUT, self.steps - 1)
        times = [after - before for before, after in zip(self.marks, self.marks[1:], strict=False)]
        counted = times[left_out:]
        return {
            "ms": 1000 * statistics.median(counted),
            "steps_per_second": len(counted) / sum(counted),
            "before_first_step": self.marks[0] - self._began,
            "first_step": times[0],
            **self._peaks,
            "losses": self.losses,
        }


class _LastStepError(Exception):
    """The last step was logged."""


class Pictures:
    """A folder as the library `datasets` gives it: pictures are opened when they are asked for, then transformed."""

    column_names = ("image", "text")

    def __init__(self, folder: Path, change: Callable[[dict[str, Any]], dict[str, Any]] | None = None) -> None:
        self._folder = folder
        self._rows = [json.loads(line) for line in (folder / "captions.jsonl").read_text().splitlines()]
        self._change = change

    def with_transform(self, change: Any, **_: Any) -> Pictures:
        return Pictures(self._folder, change)

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: int) -> dict[str, Any]:
        from PIL import Image

        row = self._rows[index]
        given = {"image": [Image.open(self._folder / row["file_name"])], "text": [row["text"]]}
        changed = given if self._change is None else self._change(given)
        return {name: values[0] for name, values in changed.items()}


class Ready:
    """A dataset of the same length whose items cost nothing; what counts comes from the feed."""

    column_names = ("image", "text")

    def __init__(self, count: int, size: int) -> None:
        tokens = torch.zeros(77, dtype=torch.long)
        self._count = count
        self._item = {
            "pixel_values": torch.zeros(1),
            "original_sizes": (size, size),
            "crop_top_lefts": (0, 0),
            "input_ids_one": tokens,
            "input_ids_two": tokens,
        }

    def with_transform(self, *_: Any, **__: Any) -> Ready:
        return self

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, index: int) -> dict[str, Any]:
        return self._item


def _stand_in(dataset: Any) -> None:
    """The module `datasets`, as much of it as the script uses."""
    module: Any = types.ModuleType("datasets")
    module.__spec__ = importlib.machinery.ModuleSpec("datasets", None)
    quiet = types.SimpleNamespace(set_verbosity_warning=lambda: None, set_verbosity_error=lambda: None)
    module.utils = types.SimpleNamespace(logging=quiet)
    module.load_dataset = lambda *_, **__: {"train": dataset}
    sys.modules["datasets"] = module


class Feed:
    """What Sosie's trainer was given, step by step, put in the place of what the script computes or draws."""

    def __init__(self, path: Path, clock: Clock) -> None:
        stored = torch.load(path, weights_only=True)
        self._downs = stored["downs"]
        place = "cuda" if torch.cuda.is_available() else "cpu"
        self._steps = [{name: tensor.to(place) for name, tensor in step.items()} for step in stored["steps"]]
        self._clock = clock

    @property
    def _now(self) -> dict[str, Any]:
        return self._steps[len(self._clock.losses)]

    def start(self, adapters: dict[str, Any]) -> None:
        """Gives the LoRA Sosie's start, then puts latents, texts, noise and times in place."""
        from diffusers import AutoencoderKL
        from transformers import CLIPTextModel, CLIPTextModelWithProjection

        if sorted(adapters) != sorted(self._downs):
            raise SystemExit(f"the script adapts {len(adapters)} modules, Sosie {len(self._downs)}, not the same")
        with torch.no_grad():
            for name, module in adapters.items():
                module.lora_A["default"].weight.copy_(self._downs[name])
        AutoencoderKL.encode = lambda vae, *_, **__: self._encoded(vae)
        CLIPTextModel.forward = lambda tower, *_, **__: self._text(tower, 0)
        CLIPTextModelWithProjection.forward = lambda tower, *_, **__: self._text(tower, 1)
        torch.randn_like = lambda like, **_: self._now["target"].to(like.dtype)
        torch.randint = lambda *_, **__: self._now["times"]

    def _encoded(self, vae: Any) -> Any:
        latents = self._now["clean"] / vae.config.scaling_factor
        return types.SimpleNamespace(latent_dist=types.SimpleNamespace(sample=lambda: latents))

    def _text(self, tower: Any, index: int) -> tuple[Any, tuple[Any, None]]:
        """Of one tower: the pooled vector first, the states of the last layer but one where the script looks."""
        states, pooled = (self._now[name].to(tower.dtype) for name in ("states", "pooled"))
        width = tower.config.hidden_size
        return pooled, ((states[..., :width], states[..., -width:])[index], None)


def _arguments(spec: dict[str, Any]) -> list[str]:
    work = Path(spec["work"])
    given = {
        "pretrained_model_name_or_path": work / "model",
        "train_data_dir": work / "images",
        "image_column": "image",
        "caption_column": "text",
        "output_dir": work / "out",
        "resolution": spec["size"],
        "train_batch_size": spec["batch"],
        "max_train_steps": spec["steps"],
        "rank": spec["rank"],
        "learning_rate": spec["rate"],
        "lr_scheduler": "constant",
        "mixed_precision": "no" if spec["tiny"] else "bf16",
        "checkpointing_steps": 1_000_000,
        "seed": 0,
    }
    return [f"--{name}={value}" for name, value in given.items()]


def run(spec: dict[str, Any]) -> dict[str, Any]:
    """One training by the script; `spec` says which of `script`, `cached` and `wide` (cached, LoRA in fp32)."""
    import accelerate
    import diffusers  # noqa: F401 - loaded before the clock runs, as the others are
    import peft
    import transformers  # noqa: F401
    from torchvision import transforms  # noqa: F401

    kind, clock = spec["contender"], Clock(spec["steps"])
    stock = accelerate.Accelerator.prepare
    seen: dict[str, str] = {}
    feed = None if kind == "script" else Feed(Path(spec["feed"]), clock)

    def prepare(accelerator: Any, unet: Any, *others: Any, **options: Any) -> Any:
        prepared = stock(accelerator, unet, *others, **options)
        layer = peft.tuners.lora.LoraLayer
        adapters = {name: module for name, module in unet.named_modules() if isinstance(module, layer)}
        if kind == "wide":
            for parameter in (p for p in unet.parameters() if p.requires_grad):
                parameter.data = parameter.data.float()
        seen["lora"] = str(next(p.dtype for p in unet.parameters() if p.requires_grad)).removeprefix("torch.")
        if feed is not None:
            feed.start(adapters)
        clock.ready()
        return prepared

    def log(_accelerator: Any, values: dict[str, float], **_: Any) -> None:
        if clock.step(values["train_loss"]):
            raise _LastStepError

    accelerate.Accelerator.prepare, accelerate.Accelerator.log = prepare, log
    accelerate.Accelerator.init_trackers = lambda *_, **__: None
    images = Pictures(Path(spec["work"]) / "images")
    _stand_in(images if feed is None else Ready(len(images), spec["size"]))
    sys.argv = [spec["script"], *_arguments(spec)]
    with contextlib.suppress(_LastStepError), contextlib.redirect_stdout(sys.stderr):
        runpy.run_path(spec["script"], run_name="__main__")
    if len(clock.losses) != spec["steps"]:
        raise SystemExit(f"the script ended after {len(clock.losses)} of {spec['steps']} steps")
    return {**clock.row(), **seen}
