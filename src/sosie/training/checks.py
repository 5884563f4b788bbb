"""What is checked before a run: nothing of it reads a weight."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Iterator

from sosie.core import Finding
from sosie.core.errors import NotFoundError, SosieError, UsageError, nearest
from sosie.core.finding import Rule
from sosie.core.ranges import out_of_range
from sosie.core.stage_rules import E004, weights_out_of_range
from sosie.dataset.check import check_precision
from sosie.doctor.disk import DiskNeeds, TrainingRun, check_free, plan_disk
from sosie.families import expect_trainer, families, find_family
from sosie.files.model_file import Broken, Known, identify
from sosie.training import loggers
from sosie.training.job import TrainingJob
from sosie.training.optimise import has_8_bit

U001 = Rule("SOS-U001", "error", "The base cannot be trained on")
U003 = Rule("SOS-U003", "error", "Captions or triggers are missing")
U006 = Rule("SOS-U006", "error", "A family has no trainer")
U033 = Rule("SOS-U033", "error", "The 8-bit optimiser is not there")
U034 = Rule("SOS-U034", "error", "A logger is not there")

PACKAGES = ("torch", "diffusers", "transformers", "peft", "accelerate", "safetensors")


def check_job(job: TrainingJob) -> list[Finding]:
    """Every finding on packages, family, base, precision, captions, optimiser and loggers.

    Raises `UsageError` for a value out of its range, or a job without a character's images.
    """
    for complaint in out_of_range(job.training, "training"):
        raise UsageError(complaint, "edit [training] in a copy of the recipe")
    if all(image.regularisation for image in job.images):
        raise UsageError("there are no images of a character to train on", "give a folder with images and captions")
    return [
        *_packages(),
        *_family(job),
        *check_precision(job.base.family, job.training.precision),
        *_captions(job),
        *_weights(job),
        *_optimiser(job),
        *_loggers(job),
    ]


def check_disk(job: TrainingJob, parameters: int) -> list[Finding]:
    """SOS-D012 to D017: what checkpoints, state and cache of a LoRA of so many numbers will take."""
    t = job.training
    state = parameters * 4 * (3 + (t.ema > 0))
    run = TrainingRun(parameters * 4, t.keep + 1, len(job.images), state, t.resolution * t.resolution)
    return check_free(plan_disk(DiskNeeds(training=run)), job.folder)


def _packages() -> Iterator[Finding]:
    missing = [name for name in PACKAGES if importlib.util.find_spec(name) is None]
    if missing:
        message = f"training needs packages that are not installed: {', '.join(missing)}"
        yield E004.at("training", message, 'pip install "sosie[local]"')


def _family(job: TrainingJob) -> Iterator[Finding]:
    base = job.base
    try:
        expect_trainer(base.family)
    except NotFoundError as error:
        yield U006.at(base.name, error.message, error.hint)
        return
    try:
        found = identify(base.path, families())
    except SosieError as error:
        yield U001.at(base.name, error.message, error.hint)
        return
    if isinstance(found, Known) and found.model.family != base.family:
        message = f"{found.message}; the recipe trains {base.family}"
        yield U001.at(base.name, message, "name the right model in the recipe or in sosie.toml")
    elif isinstance(found, Broken):
        yield U001.at(base.name, found.message, found.hint)


def _captions(job: TrainingJob) -> Iterator[Finding]:
    own = [image for image in job.images if not image.regularisation]
    without = [image.path.name for image in own if not image.caption]
    if len(without) == len(own):
        message = f"none of the {len(own)} images has a caption: everything in them would be learned as the character"
        yield U003.at("dataset", message, "write a caption for each image: NAME.txt next to it")
    if any(not image.trigger for image in own):
        message = "there are images without a trigger: nothing in a prompt could call the character"
        yield U003.at("dataset", message, "give the character a trigger in character.toml")


def _weights(job: TrainingJob) -> Iterator[Finding]:
    """Captions weigh nothing: they are read as they are. What is drawn at a judgement may."""
    family = find_family(job.base.family)
    if family is not None and family.weighs:
        yield from weights_out_of_range((*job.samples.prompts, job.samples.negative_prompt), job.base.name)


def _optimiser(job: TrainingJob) -> Iterator[Finding]:
    if job.training.optimizer == "adamw8bit" and not has_8_bit(device_of(job)):
        message = "training.optimizer = 'adamw8bit' needs an NVIDIA GPU and bitsandbytes; one of them is missing"
        yield U033.at("training", message, 'pip install bitsandbytes, or set optimizer = "auto"')


def _loggers(job: TrainingJob) -> Iterator[Finding]:
    for name in dict.fromkeys(job.log_with):
        if name not in loggers.PACKAGES:
            message = f"logger '{name}' is not known; expected one of {', '.join(loggers.PACKAGES)}"
            yield U034.at("training", message, f"name one of them{nearest(name, loggers.PACKAGES)}")
        elif not loggers.installed(name):
            message = f"logger '{name}' is not installed; log.jsonl is written without it"
            yield U034.at("training", message, f"pip install {name}, or leave --log-with out")


def device_of(job: TrainingJob) -> str:
    """Where the job trains: `cpu` or `cuda`. Raises `UsageError` for a GPU that is not there."""
    if job.device == "cpu":
        return "cpu"
    import torch

    if torch.cuda.is_available():
        return "cuda"
    if job.device == "cuda":
        raise UsageError("torch sees no NVIDIA GPU here; expected one for device 'cuda'", "sosie doctor")
    return "cpu"
