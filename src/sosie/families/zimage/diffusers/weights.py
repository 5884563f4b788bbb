"""The tensors of one part of a model: in a folder of diffusers, in a file, or in a part of a file, however stored."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sosie.core.errors import BadModelError
from sosie.diffusion.weights.reading import Weights, read_weights
from sosie.families import families
from sosie.families.zimage.memory import CAST, PartSize
from sosie.families.zimage.packing import held_packed, stream_members
from sosie.files.foreign import read_object
from sosie.files.gguf import ARCHITECTURE
from sosie.files.model_file import identify, read_any_header, weight_files

SHOW = "sosie model show says what it is"

MARKS = {
    "transformer": ("cap_embedder.0.weight",),
    "text_encoder": ("layers.0.self_attn.q_norm.weight", "blk.0.attn_q_norm.weight"),
    "vae": ("decoder.conv_in.weight",),
}
"""A tensor of each part, whatever prefix its name has; of a text encoder, llama.cpp's name too."""

Shapes = Mapping[str, tuple[int, ...]]


@dataclass(frozen=True)
class PartWeights:
    """A part's tensors, without the prefix that their names have in the file.

    `config` is that of config.json beside them; empty where there is none. `architecture` is what a GGUF file says of
    itself.
    """

    path: Path
    stored: Weights
    config: Mapping[str, Any]
    architecture: str = ""

    @property
    def shapes(self) -> Shapes:
        """By name."""
        return {name: self.stored.shape(name) for name in self.stored.names}


def open_weights(path: Path, component: str) -> PartWeights:
    """The part called `component` (a key of `MARKS`) of the model at `path`.

    `path` is a diffusers folder, the component's own, or a file that may hold other parts too. No tensor is read.
    Raises `BadModelError` for what does not hold the part, and for a storage that is not read.
    """
    place = path / component if (path / component).is_dir() else path
    try:
        stored = read_weights(place, members=stream_members)
    except BadModelError as error:
        raise BadModelError(error.message, error.hint or SHOW) from None
    prefixes = [name.removesuffix(mark) for mark in MARKS[component] for name in stored.names if name.endswith(mark)]
    if not prefixes:
        raise BadModelError(f"{described(path)}; expected the {component.replace('_', ' ')} of Z-Image", SHOW)
    first = weight_files(place)[0] if place.is_dir() else place
    beside = first.with_name("config.json")
    config = read_object(beside, "download it again") if beside.is_file() else {}
    architecture = read_any_header(first)[0].metadata.get(ARCHITECTURE, "")
    return PartWeights(path, stored.under(min(prefixes, key=len)), config, architecture)


def part_sizes(transformer: Path, text_encoder: Path, vae: Path, number: int) -> dict[str, PartSize]:
    """What each part's weights take once loaded, `number` bytes for each that does not stay packed.

    Raises as `open_weights`.
    """
    places = (("transformer", transformer), ("text_encoder", text_encoder), ("vae", vae))
    return {name: _size(open_weights(path, name).stored, number) for name, path in places}


def _size(stored: Weights, number: int) -> PartSize:
    held = eight = 0
    for name in stored.names:
        packed = stored.packed(name) if held_packed(name.removesuffix(".weight")) else None
        numbers = math.prod(stored.shape(name))
        held += number * numbers if packed is None else packed.bytes
        eight += round(CAST * numbers) if packed is None else packed.bytes
    packed = held < number * sum(math.prod(stored.shape(name)) for name in stored.names)
    return PartSize(held, held if packed else eight, packed)


def described(path: Path) -> str:
    """What `path` is, in a sentence for an error."""
    return identify(path, families()).message
