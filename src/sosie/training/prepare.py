"""Fills the cache: each picture and text becomes tensors, once."""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sosie.core import Finding, Progress
from sosie.core.errors import BadImageError
from sosie.core.finding import Rule
from sosie.dataset.dataset import TrainingImage
from sosie.families.contract.trains import Base
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
    ragged: Mapping[str, int] = field(default_factory=dict[str, int])

    @property
    def shape(self) -> tuple[tuple[int, ...], ...]:
        """Equal for items that can be stacked."""
        return tuple(tuple(tensor.shape) for name, tensor in sorted(self.tensors.items()) if name not in self.ragged)


@dataclass(frozen=True, eq=False)
class Material:
    """What a run works with: the items, and the texts of the samples. `findings` of severity error forbid a run.

    `held` are pictures that are not learned from. `nothing` is the text of a picture that is read with none; empty
    where none is.
    """

    items: tuple[Item, ...]
    samples: tuple[Mapping[str, Any], ...]
    findings: tuple[Finding, ...]
    held: tuple[Item, ...] = ()
    nothing: Mapping[str, Any] = field(default_factory=dict[str, Any])

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


def prepare(job: TrainingJob, base: Base) -> Generator[Progress, None, Material]:
    """Encodes what is not in the cache yet; tells of each picture and text.

    SOS-U002 for every picture that cannot be used. Raises `DiskFullError` if the cache cannot be written.
    """
    cache = Cache(job.cache)
    files = job.base.files
    model = [job.base.family, job.base.sha256, files.vae and files.vae.name]
    model += [files.text_encoder.name] if files.text_encoder else []
    total = len(job.images) + len(job.held) + len(job.samples.prompts)
    items: list[Item] = []
    refused: list[Finding] = []

    def text_of(words: str) -> Mapping[str, Any]:
        return cache.get([model, "text", words], lambda: base.encode_text(words))

    for done, image in enumerate((*job.images, *job.held), 1):
        try:
            tensors = cache.get([model, *_what(image, job)], lambda image=image: _picture(image, job, base))
        except BadImageError as error:
            grave = "error" if done <= len(job.images) else "warning"
            refused.append(U002.at(str(image.path), error.message, error.hint, severity=grave))
        else:
            weight = job.training.regularisation if image.regularisation else 1.0
            part = None if image.regularisation else image.character or image.trigger
            for words in image.texts:
                both = {**tensors, **text_of(words)}
                items.append(Item(image.path.name, both, weight, part, done, image.repeats, base.ragged))
        yield Progress(f"encoding {done} of {total}", done, total)
    learned = tuple(item for item in items if item.picture <= len(job.images))
    samples: list[Mapping[str, Any]] = []
    negative = job.samples.negative_prompt
    for prompt in job.samples.prompts:
        key = [model, "prompt", prompt, negative]
        samples.append(cache.get(key, lambda prompt=prompt: base.encode_text(prompt, negative)))
        done = len(job.images) + len(job.held) + len(samples)
        yield Progress(f"encoding {done} of {total}", done, total)
    nothing: Mapping[str, Any] = text_of("") if job.training.caption_dropout else {}
    return Material(learned, tuple(samples), (*refused, *cache.findings), tuple(items[len(learned) :]), nothing)


def _what(image: TrainingImage, job: TrainingJob) -> list[object]:
    face = image.face
    seen = None if face is None else [[float(v) for v in face.box], [[float(v) for v in row] for row in face.points]]
    least = [job.training.least_resolution] if job.training.least_resolution else []
    return ["picture", image.sha256, job.training.resolution, seen, *least]


def _picture(image: TrainingImage, job: TrainingJob, base: Base) -> Mapping[str, Any]:
    import torch

    picture = load_picture(image, job.training.resolution, job.training.least_resolution)
    tensors = dict(base.encode_picture(picture.pixels, picture.original, picture.crop))
    size = tensors["mean"].shape[-2:]
    if picture.mask is None:
        tensors[FACE] = torch.zeros(size)
    else:
        mask = torch.as_tensor(picture.mask)[None, None]
        tensors[FACE] = torch.nn.functional.interpolate(mask, size=size, mode="area")[0, 0]
    return tensors


def stacked(items: Sequence[Item]) -> dict[str, Any]:
    """The tensors of items of one shape, stacked; ragged ones filled with zeros, their rows in `NAME_rows` [n]."""
    import torch

    made: dict[str, Any] = {}
    for name in items[0].tensors:
        tensors: list[torch.Tensor] = [item.tensors[name] for item in items]
        if (multiple := items[0].ragged.get(name)) is not None:
            rows = [len(tensor) for tensor in tensors]
            longest = -(-max(rows) // multiple) * multiple
            tensors = [torch.nn.functional.pad(one, (0, 0, 0, longest - len(one))) for one in tensors]
            made[f"{name}_rows"] = torch.tensor(rows)
        made[name] = torch.stack(tensors)
    return made


def counts(items: Sequence[Item]) -> dict[str, Any]:
    """What the loss weighs by: `faces` [n, 1, y, x], the share of face in latent pixels, and `own` [n], of pictures."""
    import torch

    own = torch.tensor([item.weight for item in items])
    return {"faces": torch.stack([item.tensors[FACE] for item in items])[:, None], "own": own}
