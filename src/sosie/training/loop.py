"""The trainer: one model, its adapters, its optimiser, and where the run is."""

from __future__ import annotations

import contextlib
import importlib
import random
import statistics
import time
from collections.abc import Generator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sosie.core import Finding
from sosie.core.errors import EngineError
from sosie.core.plan import derive_seed
from sosie.diffusion.cuda_graph import Replay
from sosie.diffusion.waiting import computed
from sosie.families.contract.trains import Base, Trains
from sosie.files.whole import make_folder
from sosie.training import lora_file, state
from sosie.training.adapters import Adapters, put
from sosie.training.assistant import Assistant
from sosie.training.checks import device_of
from sosie.training.choice import best
from sosie.training.deterministic import strictly
from sosie.training.events import Judged, JudgeSamples, Sample, Sampled, Saved, Stepped, Validated
from sosie.training.guards import WINDOW, check_gradient, check_loss
from sosie.training.job import TrainingJob
from sosie.training.optimise import learning_rate, optimiser_for
from sosie.training.order import BatchOrder
from sosie.training.prepare import Item, Material, counts, stacked
from sosie.training.saves import make_room, save_whole
from sosie.training.state import Standing, State
from sosie.training.timesteps import draw_timesteps, weigh_timesteps
from sosie.training.validation import validated

STATE = "state.safetensors"
RECENT = 20
"""Steps whose median time the estimate of what is left is made of."""


class Trainer:
    """Holds what is trained. Every random number of step n comes from a generator seeded by the run's seed and n."""

    def __init__(
        self, job: TrainingJob, family: Trains, base: Base, adapters: Adapters, assistant: Assistant | None
    ) -> None:
        self.standing = Standing(job.id)
        self._job = job
        self._family = family
        self._base = base
        self._adapters = adapters
        self._assistant = assistant
        self.accelerator = _accelerator(device_of(job))
        self._device = str(self.accelerator.device.type)
        adapters.settle(base.dtype)
        self._optimizer = optimiser_for([adapters.weights], job.training, self._device)
        self._replay = Replay(self._slope, graphs=self._device == "cuda")
        self._seconds: list[float] = []
        self._judging = 0.0
        self.removed: list[Path] = []

    def feed(self, material: Material) -> None:
        """Gives it what it trains on."""
        training = self._job.training
        self._material = material
        self._order = BatchOrder(material.entries, training.batch, training.seed)

    def step(self) -> Stepped | Finding:
        """One update, or the finding that forbids it; then nothing was changed."""
        began, number, training = time.monotonic(), self.standing.step, self._job.training
        items = [self._material.items[index] for index in self._order.batch(number)]
        names = tuple(item.name for item in items)
        self._base.denoiser.train()
        generator = torch.Generator("cpu").manual_seed(derive_seed(training.seed, number, 2))
        with _enough_memory(f"step {number + 1}"), strictly(self._device):
            return self._learn(items, names, generator, began)

    def _learn(
        self, items: Sequence[Item], names: tuple[str, ...], generator: torch.Generator, began: float
    ) -> Stepped | Finding:
        number, training = self.standing.step, self._job.training
        items = [self._as_read(item, number, place) for place, item in enumerate(items)]
        drawn: list[Tensor] = []

        def positions(count: int, levels: int) -> Tensor:
            drawn.append(draw_timesteps(training, generator, count, levels))
            return drawn[-1]

        given = {**self._base.add_noise(stacked(items), generator, positions), **counts(items)}
        if training.timesteps == "weighted":
            given["own"] = given["own"] * weigh_timesteps(training, drawn[0])
        (made,) = self._replay({name: tensor.to(self._device) for name, tensor in given.items()})
        value, error, norm = map(float, computed(made).cpu())  # the one moment of a step at which a GPU is waited for
        found = check_loss(number + 1, error, names) or check_gradient(number + 1, norm, self.standing.norms, names)
        if found is not None:
            return found
        rate = learning_rate(training, number) * self.standing.scale
        self._update(rate, norm)
        seconds = time.monotonic() - began
        self._seconds = [*self._seconds, seconds][-RECENT:]
        return Stepped(number + 1, training.steps, value, norm, rate, names, seconds, self._left())

    def _as_read(self, item: Item, step: int, place: int) -> Item:
        """The picture with its text, or with none, by the seed of the step."""
        if not self._job.training.caption_dropout:
            return item
        chance = random.Random(derive_seed(self._job.training.seed, step, 5) + place)  # noqa: S311 - not a secret
        if chance.random() >= self._job.training.caption_dropout:
            return item
        without = {
            name: _as_long(tensor, item.tensors[name], name in item.ragged)
            for name, tensor in self._material.nothing.items()
        }
        return replace(item, tensors={**item.tensors, **without})

    def _slope(self, given: Mapping[str, Tensor]) -> tuple[Tensor]:
        """Loss, mean squared error and the gradient's norm, in a tensor [3]; the clipped gradient is kept."""
        self._adapters.begin_step()
        errors, weights = self._base.unreduced_loss(given)
        loss = weighted_loss(errors, weights, given, self._job.training.face_weight)
        self.accelerator.backward(loss)
        self._adapters.end_backward()
        norm = self.accelerator.clip_grad_norm_([self._adapters.weights], self._job.training.clip)
        return (torch.stack([loss.detach(), errors.detach().mean(), norm]),)

    def _update(self, rate: float, norm: float) -> None:
        for group in self._optimizer.param_groups:
            group["lr"] = rate
        self._optimizer.step()
        number = self.standing.step
        self._adapters.follow(number)
        self.standing = replace(self.standing, step=number + 1, norms=(*self.standing.norms, norm)[-WINDOW:])

    def _left(self) -> float:
        training, step = self._job.training, self.standing.step
        rest = training.steps - step
        judgements = training.steps // training.sample_every - step // training.sample_every
        return rest * statistics.median(self._seconds) + judgements * self._judging

    def sample(self, judge: JudgeSamples | None, aside: bool = False) -> Sampled:
        """Draws the samples by the average, if there is one, and has them judged; the curve gets a point.

        `aside` it does not: the run goes on as if nothing had been drawn.
        """
        began, samples, training = time.monotonic(), self._job.samples, self._job.training
        drawn: list[Sample] = []
        self._base.denoiser.eval()
        absent = self._assistant.absent() if self._assistant else contextlib.nullcontext()
        with _enough_memory(f"the samples of step {self.standing.step}"), self._adapters.averaged(), absent:
            for index, (prompt, text) in enumerate(zip(samples.prompts, self._material.samples, strict=True)):
                seed = derive_seed(training.seed, index, 3)
                size = (samples.width, samples.height)
                drawn.append(Sample(self._base.draw(text, seed, size, samples.sampler), prompt, seed))
        scores = judge(drawn) if judge is not None else None
        if scores is not None and not aside:
            judged = (*self.standing.judged, Judged(self.standing.step, scores))
            self.standing = replace(self.standing, judged=judged)
        self._judging = time.monotonic() - began
        return Sampled(self.standing.step, tuple(drawn), scores, aside)

    def validate(self) -> Validated:
        """How well pictures are predicted at fixed noise levels, each with the same noise every time."""
        self._base.denoiser.eval()
        with _enough_memory(f"the validation of step {self.standing.step}"), self._adapters.averaged():
            return validated(self._base, self._material, self._job.training.seed, self.standing.step)

    def save_checkpoint(self) -> Saved:
        """Writes the LoRA as it is, then removes the oldest beyond `keep`, never the best. Raises `DiskFullError`."""
        with self._adapters.averaged():
            tensors = self._adapters.tensors(self._family.key, self._family.MATRICES, self._stored)
        metadata = lora_file.describe(self._job, self._about, self.standing.step, None)
        path = self.checkpoint(self.standing.step)
        saved = self._write(path, lora_file.to_bytes(tensors, metadata), "checkpoint")
        for old in self._expendable()[: -self._job.training.keep]:
            old.unlink(missing_ok=True)
        return saved

    def save_state(self) -> Saved:
        """Writes all that the run needs to go on. Raises `DiskFullError`."""
        made = State(self.standing, self._adapters.parameters, self._adapters.average, self._optimizer.state_dict())
        return self._write(self._job.folder / STATE, state.to_bytes(made), "state")

    def restore(self) -> None:
        """Goes back to the last state. Raises `BadModelError` if it cannot be read."""
        kept = state.load(self._job.folder / STATE)
        put(self._adapters.parameters, kept.weights)
        put(self._adapters.average, kept.average)
        self._optimizer.load_state_dict(kept.optimizer)
        self.standing = kept.standing

    def roll_back(self) -> float:
        """Goes back to the last state with half the learning rate; returns its factor."""
        self.restore()
        self.standing = replace(self.standing, scale=self.standing.scale / 2)
        return self.standing.scale

    def deliver(self, step: int, judged: Judged | None) -> Path:
        """Writes the checkpoint of a step, with its scores, where the job wants it. Raises `DiskFullError`."""
        torch_files: Any = importlib.import_module("safetensors.torch")
        tensors = torch_files.load_file(self.checkpoint(step))
        metadata = lora_file.describe(self._job, self._about, step, judged)
        content = lora_file.to_bytes(tensors, metadata)
        make_folder(self._job.output.parent)
        make_room(self._job.output.parent, len(content), (), self.removed.append)
        save_whole(self._job.output, content)
        return self._job.output

    def last_checkpoint(self) -> int | None:
        """The step of the newest checkpoint, or None if there is none."""
        steps = [int(path.stem.removeprefix("step-")) for path in self._checkpoints()]
        return max((step for step in steps if step <= self.standing.step), default=None)

    def checkpoint(self, step: int) -> Path:
        """Where the checkpoint of a step lies."""
        return self._job.folder / "checkpoints" / f"step-{step:07d}.safetensors"

    def _write(self, path: Path, content: bytes, kind: Any) -> Saved:
        expendable = [old for old in self._expendable() if old != path]
        make_room(self._job.folder, len(content), expendable, self.removed.append)
        save_whole(path, content)
        return Saved(self.standing.step, path, kind)

    def _expendable(self) -> list[Path]:
        """The checkpoints but the best, oldest first."""
        choice = best(self.standing.judged)
        kept = self.checkpoint(choice.step) if choice else None
        return [path for path in self._checkpoints() if path != kept]

    def _checkpoints(self) -> list[Path]:
        return sorted((self._job.folder / "checkpoints").glob("step-*.safetensors"))

    @property
    def _stored(self) -> Any:
        """fp16 after bf16: it holds more digits in as many bytes, and every program reads it."""
        return torch.float32 if self._wide else torch.float16

    @property
    def _wide(self) -> bool:
        """Whether the frozen weights lie, and are computed with, in fp32."""
        return next(p for p in self._base.denoiser.parameters() if not p.requires_grad).dtype == torch.float32

    @property
    def _about(self) -> dict[str, str]:
        table = self._family.metadata(self._base.prediction, self._job.training.resolution)
        return {**table, "ss_mixed_precision": "no" if self._wide else "bf16"}


@contextlib.contextmanager
def _enough_memory(what: str) -> Generator[None]:
    try:
        yield
    except torch.OutOfMemoryError as error:
        raise EngineError(
            f"the GPU's memory does not suffice for {what}: {str(error).splitlines()[0]}",
            "set gradient_checkpointing = true, base_storage = 'fp8' or a smaller batch in a copy of the recipe",
        ) from error


def _accelerator(device: str) -> Any:
    accelerate: Any = importlib.import_module("accelerate")
    return accelerate.Accelerator(cpu=device == "cpu", mixed_precision="no")


def _as_long(nothing: Tensor, like: Tensor, ragged: bool) -> Tensor:
    """The states of no text, as often as those of a long one go beyond one window."""
    if ragged or nothing.shape == like.shape:
        return nothing
    return nothing.repeat(len(like) // len(nothing), *[1] * (nothing.dim() - 1))


def weighted_loss(errors: Tensor, weights: Tensor, given: Mapping[str, Tensor], face_weight: float) -> Tensor:
    """The batch's loss from squared errors [n, c, y, x] and the pictures' weights [n], a scalar.

    In a picture, pixels of the face count `face_weight` times, in a weighted mean, so that the size
    of the face does not change the loss's scale; regularisation pictures count as the recipe says. `given`
    holds what `counts` gave.
    """
    shares = 1 + (face_weight - 1) * given["faces"]
    each = (errors * shares).mean(dim=(1, 2, 3)) / shares.mean(dim=(1, 2, 3))
    return (each * weights * given["own"]).mean()
