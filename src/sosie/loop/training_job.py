"""From a character and a recipe to a training job: what is learned, on what, how, and where it is kept."""

from __future__ import annotations

import importlib.metadata
import os
import platform
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from sosie.core import Character, Environment, Recipe, Stage
from sosie.core.errors import ConfigError, SosieError, UsageError
from sosie.core.notation import literal
from sosie.core.plan import without_guides
from sosie.core.prompt import final
from sosie.core.recipe import Training
from sosie.core.schema import to_table
from sosie.dataset.build import dataset_folder, judging_character, trigger_of
from sosie.dataset.dataset import TrainingImage, read_folder
from sosie.families import figures_of, partners_of
from sosie.files.images import image_digest, read_image
from sosie.machines.cards import visible
from sosie.machines.facts import read_machine
from sosie.store.training import TrainingStart
from sosie.training.job import HELD, BaseModel, Samples, TrainingJob
from sosie.workspace.bill import Bill, resolve_one
from sosie.workspace.session import Session

MARGIN = 1.08
"""An estimate must fit the free memory so many times over."""

PACKAGES = ("torch", "diffusers", "transformers", "peft", "accelerate", "safetensors")


@dataclass(frozen=True)
class TrainOrder:
    """One LoRA of one or several characters, on the model of a recipe's first stage.

    `resume` goes on with a run that was stopped or killed. `continue_from` names a LoRA to begin with (empty:
    none), `regularisation` a folder of images of others. `weight` is how strongly recipes will use the LoRA; it
    is judged at 1. Without `add` the characters do not get it. `price` is that of an hour of the machine, if known.
    `engine` is the machine that trains, `ssh:USER@HOST` or `pod:NAME`; empty: this one.
    """

    characters: tuple[Character, ...]
    recipe: Recipe
    resume: bool = False
    continue_from: str = ""
    regularisation: Path | None = None
    device: str = "auto"
    log_with: tuple[str, ...] = ()
    weight: float = 1.0
    add: bool = True
    price: float | None = None
    engine: str = ""

    @property
    def names(self) -> tuple[str, ...]:
        """The characters' names."""
        return tuple(character.name for character in self.characters)


def training_of(order: TrainOrder) -> Training:
    """The settings of the order's recipe; ConfigError if it has none, UsageError if two triggers are the same."""
    if order.recipe.training is None:
        raise ConfigError(
            f"recipe '{order.recipe.name}' has no [training], so it does not say how a LoRA is trained",
            f"sosie recipe copy {order.recipe.name} MY-RECIPE, and add [training]",
        )
    triggers = [trigger_of(character) for character in order.characters]
    if len(set(triggers)) < len(triggers):
        raise UsageError("two of the characters have the same trigger", "edit trigger in their character.toml")
    return order.recipe.training


def bare(recipe: Recipe) -> Recipe:
    """The recipe as far as a training uses it: its first stage, without guides and LoRAs."""
    first = without_guides(recipe).stages[:1]
    return replace(recipe, stages=tuple(replace(stage, loras=()) for stage in first), repair=())


def job_of(session: Session, order: TrainOrder, bill: Bill) -> TrainingJob:
    """Everything resolved; faces are looked for, no weight is read. The characters must have their sets.

    `bill` is that of the stages of the `bare` recipe.
    """
    training, workspace = fitted(order), session.workspace
    images: list[TrainingImage] = []
    for character in order.characters:
        own = read_folder(dataset_folder(session, character), trigger_of(character), character.name)
        images += [_as_read(order.recipe, character, image) for image in own]
    if order.regularisation is not None:
        images += read_folder(order.regularisation, "")
    place = workspace.state.resolve() / "training"
    job = TrainingJob(
        _base(order.recipe.stages[0], bill),
        training,
        tuple(_with_face(session, image) for image in images),
        place,
        place,
        place / "cache",
        _samples(order, training),
        resolve_one(workspace, order.continue_from).located if order.continue_from else None,
        order.device,
        order.log_with,
        resolve_one(workspace, training.assistant).located if training.assistant else None,
        tuple(_with_face(session, image) for image in _held(session, order)),
    )
    name = "-".join([*order.names, order.recipe.name, job.id[:8]])
    first = order.names[0]
    folder = workspace.character_folder(first) / "loras" if order.add else workspace.root / "outputs" / first
    return replace(job, folder=place / job.id[:16], output=folder.resolve() / f"{name}.safetensors")


def fitted(order: TrainOrder) -> Training:
    """The settings with what they leave open chosen by the memory of the first card seen, the fastest that fits."""
    training = training_of(order)
    if training.gradient_checkpointing != "auto" and training.base_storage != "auto":
        return training
    cards = () if order.device == "cpu" or order.engine else visible(read_machine(Path.cwd()).gpus)
    ways = [_settled(training, again, stored) for again, stored in ((False, False), (True, False), (True, True))]
    estimate, stage = figures_of(order.recipe.stages[0].family).estimate_training, order.recipe
    if not cards or estimate is None:
        return ways[0]
    free = (cards[0].free_mib or cards[0].vram_mib or 0) * 2**20
    fits = (way for way in ways if estimate(way, (stage.width, stage.height)) * MARGIN <= free)
    return next(fits, ways[-1])


def _settled(training: Training, again: bool, stored: bool) -> Training:
    """The settings with these in place of "auto"."""
    checkpointing, storage = training.gradient_checkpointing, training.base_storage
    return replace(
        training,
        gradient_checkpointing=again if checkpointing == "auto" else checkpointing,
        base_storage=("fp8" if stored else "precision") if storage == "auto" else storage,
    )


def start_of(order: TrainOrder, job: TrainingJob) -> TrainingStart:
    """What is on record of a run from its beginning."""
    return TrainingStart(
        job=job.id,
        characters=order.names,
        recipe=order.recipe.name,
        family=job.base.family,
        base=job.base.name,
        base_sha256=job.base.sha256,
        dataset=job.dataset,
        images=len(job.images),
        steps=job.training.steps,
        settings=to_table(job.training),
        machine=_machine(job),
        folder=job.folder,
    )


def _base(stage: Stage, bill: Bill) -> BaseModel:
    model = bill[stage.model]
    vae = bill[stage.vae].located if stage.vae else None
    variant = partners_of(stage.family).variant_of(Path(stage.model).stem)
    encoder = bill[stage.text_encoder].located if stage.text_encoder else None
    return BaseModel(stage.family, stage.model, model.located, model.sha256, vae, variant, encoder)


def _held(session: Session, order: TrainOrder) -> Iterator[TrainingImage]:
    """References that judge and are not learned from, read with what is known of the character."""
    for character in order.characters:
        try:
            judging = judging_character(session, character)
        except UsageError:  # all are learned from; whether that may be is not decided here
            continue
        paths = list(session.reference_paths(judging).values())[: max(1, HELD // len(order.characters))]
        words = _prompt(order.recipe, character, "")
        for path in paths:
            trigger = trigger_of(character)
            yield TrainingImage(path, image_digest(path), None, trigger, None, character.name, prompts=(words,))


def _as_read(recipe: Recipe, character: Character, image: TrainingImage) -> TrainingImage:
    """The image with the text that is read with it: its caption, or the recipe's prompt about it."""
    if recipe.training is None or recipe.training.texts == "captions" or image.caption is None:
        return image
    about = (text.removeprefix(f"{image.trigger}, ") for text in (image.caption, *image.alternatives))
    return replace(image, prompts=tuple(_prompt(recipe, character, literal(text)) for text in about))


def _prompt(recipe: Recipe, character: Character, about: str) -> str:
    """What `generate` would ask of the character's LoRA: the recipe's prompt, the trigger in front."""
    return final(recipe.stages[0].prompt or recipe.prompt, character, about, [trigger_of(character)])


def _with_face(session: Session, image: TrainingImage) -> TrainingImage:
    """The image with its largest face; one that cannot be read is left to the checks."""
    try:
        faces = session.detector.detect(np.asarray(read_image(image.path)))
    except SosieError:
        return image
    return replace(image, face=faces[0] if faces else None)


def _samples(order: TrainOrder, training: Training) -> Samples:
    """What is drawn at every judgement: the recipe's own prompts, as `generate` would ask with the LoRA."""
    recipe = order.recipe
    prompts = training.prompts or recipe.calibration.prompts
    texts = tuple(_prompt(recipe, character, about) for character in order.characters for about in prompts)
    return Samples(texts, recipe.width, recipe.height, recipe.stages[0].sampler, recipe.negative_prompt)


def _machine(job: TrainingJob) -> Environment:
    cards = () if job.device == "cpu" else visible(read_machine(job.folder.parent).gpus)
    device = cards[0].name if cards else f"cpu ({os.cpu_count()} cores)"
    versions: list[tuple[str, str]] = []
    for name in PACKAGES:
        try:
            versions.append((name, importlib.metadata.version(name)))
        except importlib.metadata.PackageNotFoundError:
            continue
    return Environment(platform.python_version(), platform.platform(), device, tuple(versions))
