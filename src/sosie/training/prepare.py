"""Fills the cache: each picture and text becomes tensors, once."""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sosie.core import Finding, Progress
from sosie.core.errors import BadImageError
from sosie.core.finding import Rule
from sosie.dataset.dataset import TrainingImage
from sosie.families.contract.trains import Encodes
from sosie.training.cache import Cache
from sosie.training.job import TrainingJob
from sosie.training.order import Entry
from sosie.training.pictures import load_picture

U002 = Rule("SOS-U002", "error", "A picture cannot be trained on")

FACE = "face"
"""Among a picture's tensors: how much of each latent pixel is face, float32 [y, x], 0 to 1."""


@dataclass(frozen=True, eq=False)
class Item:
    """A picture as it is trained on: its name, all its tensors with those of one of its texts, and its loss's weight.

    Items of one `picture` have its number in common; `repeats` is how often it comes in an epoch.
    """

    name: str
    tensors: Mapping[str, Any]
    weight: float
    part: str | None
    picture: int = 0
    repeats: int = 1

    @property
    def shape(self) -> tuple[tuple[int, ...], ...]:
        """Equal for items that can be stacked."""
        return tuple(tuple(tensor.shape) for _, tensor in sorted(self.tensors.items()))


@dataclass(frozen=True, eq=False)
class Material:
    """What a run works with: the items, and the texts of the samples. `findings` of severity error forbid a run."""

    items: tuple[Item, ...]
    samples: tuple[Mapping[str, Any], ...]
    findings: tuple[Finding, ...]

    @property
    def entries(self) -> tuple[Entry, ...]:
        """The pictures for the order, each with all its items."""
        places: dict[int, list[int]] = {}
        for index, item in enumerate(self.items):
            places.setdefault(item.picture, []).append(index)
        return tuple(self._entry(first, others) for first, *others in places.values())

    def _entry(self, first: int, others: Sequence[int]) -> Entry:
        item = self.items[first]
        return Entry(
            first, item.shape, item.part, tuple((place, self.items[place].shape) for place in others), item.repeats
        )


def prepare(job: TrainingJob, base: Encodes) -> Generator[Progress, None, Material]:
    """Encodes what is not in the cache yet; tells of each picture and text.

    SOS-U002 for every picture that cannot be used. Raises `DiskFullError` if the cache cannot be written.
    """
    cache = Cache(job.cache)
    model = [job.base.family, job.base.sha256, job.base.vae and job.base.vae.name]
    total = len(job.images) + len(job.samples.prompts)
    items: list[Item] = []
    refused: list[Finding] = []
    for done, image in enumerate(job.images, 1):
        try:
            tensors = cache.get([model, *_what(image, job)], lambda image=image: _picture(image, job, base))
        except BadImageError as error:
            refused.append(U002.at(str(image.path), error.message, error.hint))
        else:
            weight = job.training.regularisation if image.regularisation else 1.0
            part = None if image.regularisation else image.character or image.trigger
            for words in image.texts:
                text = cache.get([model, "text", words], lambda words=words: base.encode_text(words))
                items.append(Item(image.path.name, {**tensors, **text}, weight, part, done, image.repeats))
        yield Progress(f"encoding {done} of {total}", done, total)
    samples: list[Mapping[str, Any]] = []
    negative = job.samples.negative_prompt
    for prompt in job.samples.prompts:
        key = [model, "prompt", prompt, negative]
        samples.append(cache.get(key, lambda prompt=prompt: base.encode_text(prompt, negative)))
        done = len(job.images) + len(samples)
        yield Progress(f"encoding {done} of {total}", done, total)
    return Material(tuple(items), tuple(samples), (*refused, *cache.findings))


def _what(image: TrainingImage, job: TrainingJob) -> list[object]:
    face = image.face
    seen = None if face is None else [[float(v) for v in face.box], [[float(v) for v in row] for row in face.points]]
    return ["picture", image.sha256, job.training.resolution, seen]


def _picture(image: TrainingImage, job: TrainingJob, base: Encodes) -> Mapping[str, Any]:
    import torch

    picture = load_picture(image, job.training.resolution)
    tensors = dict(base.encode_picture(picture.pixels, picture.original, picture.crop))
    size = tensors["mean"].shape[-2:]
    if picture.mask is None:
        tensors[FACE] = torch.zeros(size)
    else:
        mask = torch.as_tensor(picture.mask)[None, None]
        tensors[FACE] = torch.nn.functional.interpolate(mask, size=size, mode="area")[0, 0]
    return tensors
