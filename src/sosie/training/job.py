"""A TrainingJob: everything that a run is asked to do, resolved. After it nothing reads configuration."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from sosie.core.recipe import Sampler, Training
from sosie.core.schema import digest
from sosie.dataset.dataset import TrainingImage, dataset_digest
from sosie.families.contract.trains import BaseFiles
from sosie.files.digest import file_digest

HELD = 8
"""So many pictures that are learned from, and so many that are not, are predicted at each judgement."""


@dataclass(frozen=True)
class BaseModel:
    """The model that is trained on: its family, its name in recipes, its file or folder and its digest.

    `vae` and `text_encoder` are those in files of their own, or None. `variant` is what the name says of
    the family's variants (`turbo`, `base`...), or empty.
    """

    family: str
    name: str
    path: Path
    sha256: str
    vae: Path | None = None
    variant: str = ""
    text_encoder: Path | None = None

    @property
    def files(self) -> BaseFiles:
        """What the family opens."""
        return BaseFiles(self.path, self.vae, self.text_encoder)


@dataclass(frozen=True)
class Samples:
    """What is drawn at every judgement: one picture a prompt, each from its own seed, the same every time.

    `prompts` are final texts, with the trigger. Sizes in pixels.
    """

    prompts: tuple[str, ...] = ()
    width: int = 1024
    height: int = 1024
    sampler: Sampler = field(default_factory=Sampler)
    negative_prompt: str = ""


@dataclass(frozen=True, eq=False)
class TrainingJob:
    """One run: what is learned (`images`, of one or several characters), on what, how, and where it is kept.

    `folder` is the run's own (state, checkpoints, log); `output` the `.safetensors` file that is
    delivered; `cache` where latents and texts are kept, shared by runs. `continue_from` is a LoRA to
    start from, `assistant` one that acts beside while it is trained. `held` are pictures that are not learned from:
    how well they are predicted is measured. `device` is `auto`, `cpu` or `cuda`. `log_with` names loggers beside
    TensorBoard: `wandb`, `mlflow`.
    """

    base: BaseModel
    training: Training
    images: tuple[TrainingImage, ...]
    folder: Path
    output: Path
    cache: Path
    samples: Samples = field(default_factory=Samples)
    continue_from: Path | None = None
    device: str = "auto"
    log_with: tuple[str, ...] = ()
    assistant: Path | None = None
    held: tuple[TrainingImage, ...] = ()

    @property
    def triggers(self) -> tuple[str, ...]:
        """The trigger of each character, once, in the order of the images."""
        return tuple(dict.fromkeys(image.trigger for image in self.images if image.trigger))

    @property
    def dataset(self) -> str:
        """The digest of what is learned: pictures, texts, faces."""
        return dataset_digest(self.images)

    @cached_property
    def id(self) -> str:
        """SHA-256 of all that decides the numbers of a run, 64 hex digits: a run goes on only as itself.

        Of a LoRA that it starts from the content counts, not the place.
        """
        begun = file_digest(self.continue_from) if self.continue_from else ""
        base = [self.base.family, self.base.sha256, self.base.vae and self.base.vae.name, begun]
        if self.assistant is not None:
            base.append(file_digest(self.assistant))
        return digest([base, self.training, self.samples, self.dataset])
