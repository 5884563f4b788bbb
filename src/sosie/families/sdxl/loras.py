"""LoRAs of SDXL, merged into the weights and taken out again to the last bit.

W becomes W + sum of weight * alpha / rank * B A (Hu et al. 2021, arXiv:2106.09685), computed in float32
from the original W, which is kept in main memory. So any number of LoRAs act together, FaceID's own
among them, none costs time while an image is drawn, and every layout and algorithm that `files.lora`
reads is taken: LoRA with convolutions and Tucker cores, LoHa, LoKr, full differences, DoRA.

Only `on_diffusers` imports this module (it imports torch).
"""

from __future__ import annotations

import contextlib
import importlib
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sosie.core import Guide
from sosie.core.errors import BadModelError, EngineError
from sosie.core.recipe import LoraUse
from sosie.families import families
from sosie.files.safetensors import read_header
from sosie.lora import Lora, read_lora

torch: Any = importlib.import_module("torch")

COMPONENTS = {"denoiser": "unet", "text-encoder": "text_encoder", "text-encoder-2": "text_encoder_2"}
"""Part of the model, as LoRA files name it -> component of the pipeline."""

Place = tuple[str, str]
"""A component and the name of a module in it."""


@dataclass(frozen=True)
class Change:
    """What a file adds to one module, before its weight: names of tensors by role, and alpha / rank."""

    place: Place
    algorithm: str
    keys: Mapping[str, str]
    scale: float


@dataclass(frozen=True)
class Share:
    """A change with the file that it is from (with size and time, so that another file is another) and its weight."""

    file: tuple[Path, int, int]
    change: Change
    weight: float

    @property
    def mark(self) -> tuple[object, ...]:
        """Equal for equal shares."""
        return (*self.file, self.weight)


class Loras:
    """The LoRAs in the UNet and the text encoders of a pipeline.

    The pipelines of a model share these, so one `Loras` serves them all. Weights are changed in
    place: what refers to them (graphs, joined projections) stays valid, what was computed from them
    (encoded prompts, cached keys) does not. The originals take main memory while a LoRA is active.
    """

    def __init__(self, pipeline: Any) -> None:
        self._pipeline = pipeline
        self._originals: dict[Place, Any] = {}
        self._marks: dict[Place, tuple[object, ...]] = {}

    def set(self, uses: Sequence[LoraUse], paths: Mapping[str, Path]) -> bool:
        """Makes exactly these LoRAs active, each at its weight; says whether any weight changed.

        `paths` maps the names in `uses` to local files. Modules whose LoRAs stay the same are not
        touched. Raises `BadModelError`, with nothing changed, for a file that is no LoRA of this
        model or that cannot be computed with; `EngineError`, with no LoRA active, where the weights are
        offloaded or in 8 bits and were not LoRAs' before.
        """
        wanted: dict[Place, list[Share]] = {}
        for use in uses:
            path = paths[use.file]
            for change in self._changes(path) if use.weight else ():
                file = (path, path.stat().st_size, path.stat().st_mtime_ns)
                wanted.setdefault(change.place, []).append(Share(file, change, use.weight))
        marks: dict[Place, tuple[object, ...]] = {
            place: tuple(share.mark for share in shares) for place, shares in wanted.items()
        }
        touched = [place for place in {**self._marks, **marks} if self._marks.get(place) != marks.get(place)]
        try:
            self._merge({place: wanted.get(place, []) for place in touched})
        except BaseException:
            # Out of memory or interrupted: half of a LoRA is worse than none.
            self._marks = {}
            self._merge(dict.fromkeys(self._originals, ()))
            raise
        self._marks = marks
        return bool(touched)

    def clear(self) -> bool:
        """Takes all LoRAs out, to the last bit; says whether there were any."""
        return self.set((), {})

    def _merge(self, touched: Mapping[Place, Sequence[Share]]) -> None:
        safetensors: Any = importlib.import_module("safetensors")
        with contextlib.ExitStack() as stack:
            files = {share.file[0] for shares in touched.values() for share in shares}
            opened = {path: stack.enter_context(safetensors.safe_open(path, "pt")) for path in files}
            for place, shares in touched.items():
                self._put(place, shares, opened)

    def _put(self, place: Place, shares: Sequence[Share], opened: Mapping[Path, Any]) -> None:
        """Gives one module its original weight plus these shares."""
        weight = _module(getattr(self._pipeline, place[0]), place[1]).weight.data
        if weight.device.type == "meta" or (weight.itemsize == 1 and place not in self._originals):
            where = "elsewhere (sequential offload)" if weight.device.type == "meta" else "rounded to 8 bits"
            raise EngineError(f"LoRAs cannot be merged: the weights are {where}", "load the model anew, then its LoRAs")
        if place not in self._originals:
            self._originals[place] = weight.to("cpu", copy=True)
        if not shares:
            weight.copy_(self._originals.pop(place))
            return
        total = self._originals[place].to(weight.device, torch.float32)
        for share in shares:
            file = opened[share.file[0]]
            tensors = {
                role: file.get_tensor(key).to(weight.device, torch.float32) for role, key in share.change.keys.items()
            }
            total = merged(total, share.change, tensors, share.weight)
        weight.copy_(total)

    def _changes(self, path: Path) -> tuple[Change, ...]:
        """What a file changes, checked against this model."""
        embedded = embedded_lora(path, self._pipeline.unet)
        changes = embedded or tuple(_changes(read_lora(path, families())))
        header = read_header(path)
        for change in changes:
            module = _module(getattr(self._pipeline, change.place[0], None), change.place[1])
            if module is None:
                message = f"{path} changes {'.'.join(change.place)}, which this model does not have"
                raise BadModelError(message, "use a LoRA that was made for this model")
            shapes = {role: header.tensors[key].shape for role, key in change.keys.items()}
            found, wanted = _rows_and_columns(change, shapes), tuple(module.weight.flatten(1).shape)
            if found != wanted:
                message = f"{path} changes {'.'.join(change.place)} by {list(found)}; this model has {list(wanted)}"
                raise BadModelError(message, "use a LoRA that was made for this model")
        return changes


def faceid_loras(guides: Sequence[Guide], paths: Mapping[str, Path]) -> tuple[LoraUse, ...]:
    """FaceID's own LoRA of each guide that has one, as uses for `Loras.set`.

    It is in a file of its own (`guide.lora`) or in the adapter's; published adapters come with
    both, which are the same, so the file that is named wins.
    """
    found: list[LoraUse] = []
    for guide in guides:
        if guide.lora:
            found.append(LoraUse(guide.lora, guide.lora_weight))
        elif any(_EMBEDDED.fullmatch(name) for name in read_header(paths[guide.weights]).tensors):
            found.append(LoraUse(guide.weights, guide.lora_weight))
    return tuple(found)


_EMBEDDED = re.compile(r"ip_adapter\.(\d+)\.to_(q|k|v|out)_lora\.(down|up)\.weight")


def embedded_lora(path: Path, unet: Any) -> tuple[Change, ...]:
    """FaceID's LoRA inside an IP-Adapter, whose keys count the UNet's attention layers; empty if there is none."""
    found = [match for name in read_header(path).tensors if (match := _EMBEDDED.fullmatch(name))]
    layers = [name.removesuffix(".processor") for name in unet.attn_processors]
    keys: dict[str, dict[str, str]] = {}
    for match in found:
        place, letter, role = int(match[1]), match[2], match[3]
        if place >= len(layers):
            message = f"{path} holds a LoRA for {place + 1} attention layers; this model has {len(layers)}"
            raise BadModelError(message, "use the adapter that was made for this model")
        name = f"{layers[place]}.to_{letter}" + (".0" if letter == "out" else "")
        keys.setdefault(name, {})[role] = match[0]
    return tuple(Change(("unet", name), "lora", roles, 1.0) for name, roles in keys.items())


def _changes(lora: Lora) -> Iterator[Change]:
    """What a LoRA file changes; `BadModelError` if it is for another family, or a part of it would be lost."""
    path = lora.path
    if lora.family != "sdxl":
        other = lora.family or f"an unknown model{f', nearest is {lora.nearest}' if lora.nearest else ''}"
        because = f": {lora.because}" if lora.because else ""
        raise BadModelError(f"{path} is a LoRA for {other}{because}; expected one for sdxl", f"sosie lora show {path}")
    if lora.strangers:
        message = f"{path}: {len(lora.strangers)} tensors are no LoRA's, first {lora.strangers[0][:120]}"
        raise BadModelError(message, f"sosie lora show {path}")
    for adapter in lora.adapters:
        problem = adapter.problem or ("" if adapter.targets else "it is no module of sdxl")
        if "bias" in adapter.keys:
            problem = problem or "it changes a bias"
        if {"t1", "t2", "kt2"} & set(adapter.keys):
            problem = problem or f"{adapter.algorithm} with Tucker cores is not computed"
        if problem:
            raise BadModelError(f"{path}: {adapter.name[:160]} cannot be used: {problem}", f"sosie lora show {path}")
        keys = {role: name for role, name in adapter.keys.items() if role != "alpha"}
        place = (COMPONENTS[adapter.prefix.component], adapter.targets[0].name)
        yield Change(place, adapter.algorithm, keys, lora.scale(adapter))


def _module(component: Any, name: str) -> Any:
    """A module of a component by the name that files give it, or None. Newer text encoders have one level less."""
    for spelled in (name, name.removeprefix("text_model.")):
        with_weight = component
        for piece in spelled.split("."):
            with_weight = getattr(with_weight, piece, None)
        if hasattr(with_weight, "weight"):
            return with_weight
    return None


def merged(weight: Any, change: Change, tensors: Mapping[str, Any], share: float) -> Any:
    """`weight` with `share` times the change, float32, of the same shape.

    DoRA (arXiv:2402.09353, eq. 5) sets the norm of each row (or column) of the sum; its share is
    taken of the difference that this makes.
    """
    added = product(change.algorithm, tensors).reshape(weight.shape) * change.scale
    if "dora" not in tensors:
        return weight + share * added
    whole = (weight + added).flatten(1)
    sizes = tensors["dora"].flatten()
    by_row = len(tensors["dora"]) == len(whole)
    norm = whole.norm(dim=1 if by_row else 0, keepdim=True)
    return weight + share * ((whole * (sizes.reshape(norm.shape) / norm)).reshape(weight.shape) - weight)


def product(algorithm: str, tensors: Mapping[str, Any]) -> Any:
    """A change without its scale, float32 [rows, columns] with a convolution's kernel in the columns."""

    def times(left: str, right: str) -> Any:
        return tensors[left].flatten(1) @ tensors[right].flatten(1)

    if algorithm == "diff":
        return tensors["diff"].flatten(1)
    if algorithm == "loha":
        return times("w1_a", "w1_b") * times("w2_a", "w2_b")
    if algorithm == "lokr":
        one = tensors["k1"] if "k1" in tensors else times("k1_a", "k1_b")
        two = tensors["k2"].flatten(1) if "k2" in tensors else times("k2_a", "k2_b")
        return torch.kron(one.contiguous(), two.contiguous())
    if "mid" in tensors:
        up, down = tensors["up"].flatten(1), tensors["down"].flatten(1)
        return torch.einsum("or,rs...,si->oi...", up, tensors["mid"], down).flatten(1)
    return times("up", "down")


def _rows_and_columns(change: Change, shapes: Mapping[str, tuple[int, ...]]) -> tuple[int, int]:
    """The shape of the product, computed without numbers."""
    empty = {role: torch.empty(shape, device="meta") for role, shape in shapes.items() if role != "dora"}
    return tuple(product(change.algorithm, empty).shape)
