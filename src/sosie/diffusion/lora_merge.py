"""LoRAs, merged into a model's weights and taken out again to the last bit.

W becomes W + sum of weight * alpha / rank * B A (Hu et al. 2021, arXiv:2106.09685), computed in float32
from the original W, which is kept in main memory. So any number of LoRAs act together, none costs time
while an image is drawn, and every layout and algorithm that `sosie.lora` reads is taken: LoRA with
convolutions and Tucker cores, LoHa, LoKr, full differences, DoRA.

A weight that is held packed (`weights.layers`) is never rounded again: a LoRA of low rank stays beside it, in the
precision of the products; where a change has no low rank, the layer leaves its packing while the change is active.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors
import torch
from torch import Tensor, nn

from sosie.core.errors import BadModelError, EngineError
from sosie.core.recipe import LoraUse
from sosie.diffusion.weights.layers import PackedLinear
from sosie.files.digest import Stamp, stamp
from sosie.files.safetensors import read_header
from sosie.lora import Lora
from sosie.lora.layouts import NAMES

ELSEWHERE, RELOAD = "the weights are elsewhere (sequential offload)", "load the model anew, then its LoRAs"

_linalg: Any = torch.linalg  # without types

Place = tuple[str, str]
"""A component and the name of a module in it."""


@dataclass(frozen=True)
class ModuleChange:
    """What a file adds to one module, before its weight: names of tensors by role, and alpha / rank.

    Where the file has several modules as one (q, k, v), `part` says which rows are this one's: how many are before it,
    how many it has, and how many there are, in the same unit.
    """

    place: Place
    algorithm: str
    keys: Mapping[str, str]
    scale: float
    part: tuple[int, int, int] = (0, 1, 1)

    def rows_of(self, rows: int) -> slice:
        """Its rows of so many."""
        before, own, total = self.part
        return slice(rows * before // total, rows * (before + own) // total)


@dataclass(frozen=True)
class Share:
    """A change with the file that it is from (with its stamp, so that another file is another) and its weight."""

    file: tuple[Path, Stamp]
    change: ModuleChange
    weight: float

    @property
    def mark(self) -> tuple[object, ...]:
        """Equal for equal shares."""
        return (*self.file, self.weight)


class LoraMerge:
    """The LoRAs in the weights of a model.

    `components` are the model's parts by name (None for one that it does not have); `changes_of` reads what a file
    changes. Pipelines that share the parts share one `LoraMerge`. Weights are changed in place: what refers to them
    (graphs, joined projections) stays valid, what was computed from them (encoded prompts, cached keys) does not.
    The originals take main memory while a LoRA is active.
    """

    def __init__(
        self, components: Mapping[str, nn.Module | None], changes_of: Callable[[Path], Sequence[ModuleChange]]
    ) -> None:
        self._components = components
        self._changes_of = changes_of
        self._originals: dict[Place, Tensor] = {}
        self._beside: set[Place] = set()
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
                file = (path, stamp(path))
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
            self._merge(dict.fromkeys([*self._originals, *self._beside], ()))
            raise
        self._marks = marks
        return bool(touched)

    def clear(self) -> bool:
        """Takes all LoRAs out, to the last bit; says whether there were any."""
        return self.set((), {})

    def _merge(self, touched: Mapping[Place, Sequence[Share]]) -> None:
        with contextlib.ExitStack() as stack:
            files = {share.file[0] for shares in touched.values() for share in shares}
            opened: dict[Path, Any] = {path: stack.enter_context(safetensors.safe_open(path, "pt")) for path in files}
            for place, shares in touched.items():
                self._put(place, shares, opened)

    def _put(self, place: Place, shares: Sequence[Share], opened: Mapping[Path, Any]) -> None:
        """Gives one module its original weight plus these shares."""
        module = self._module(place)
        if isinstance(module, PackedLinear):
            self._beside.add(place)
            put_beside(module, shares, opened)
            return
        weight = _weight(module)
        if weight is None:
            raise EngineError(f"the model lost its module {'.'.join(place)}")
        if weight.is_meta or (weight.itemsize == 1 and place not in self._originals):
            where = ELSEWHERE if weight.is_meta else "the weights are rounded to 8 bits"
            raise EngineError(f"LoRAs cannot be merged: {where}", RELOAD)
        if place not in self._originals:
            self._originals[place] = weight.to("cpu", copy=True)
        if not shares:
            weight.copy_(self._originals.pop(place))
            return
        total = self._originals[place].to(weight.device, torch.float32)
        for share in shares:
            file = opened[share.file[0]]
            total = merged(total, share.change, _tensors(share.change, file, weight.device), share.weight)
        weight.copy_(total)

    def _changes(self, path: Path) -> Sequence[ModuleChange]:
        """What a file changes, checked against this model."""
        changes = self._changes_of(path)
        header = read_header(path)
        for change in changes:
            module = self._module(change.place)
            weight = _weight(module)
            if weight is None and not isinstance(module, PackedLinear):
                message = f"{path} changes {'.'.join(change.place)}, which this model does not have"
                raise BadModelError(message, "use a LoRA that was made for this model")
            shapes = {role: header.tensors[key].shape for role, key in change.keys.items()}
            if change.part[1] != change.part[2] and shapes.get("dora", (0,))[0] == 1:
                message = f"{path} sets the norms of columns of several modules as one ({'.'.join(change.place)})"
                raise BadModelError(message, f"sosie lora show {path}")
            found, wanted = _rows_and_columns(change, shapes), _rows_and_columns_of(module)
            if found != wanted:
                message = f"{path} changes {'.'.join(change.place)} by {list(found)}; this model has {list(wanted)}"
                raise BadModelError(message, "use a LoRA that was made for this model")
        return changes

    def _module(self, place: Place) -> object | None:
        """A module with weights by the name that files give it, or None. Newer text encoders have one level less."""
        component, name = self._components.get(place[0]), place[1]
        for spelled in (name, name.removeprefix("text_model.")):
            module: object = component
            for piece in spelled.split("."):
                module = getattr(module, piece, None)
            if _weight(module) is not None or isinstance(module, PackedLinear):
                return module
        return None


def _weight(module: object) -> Tensor | None:
    weight = getattr(module, "weight", None)
    return weight.data if isinstance(weight, Tensor) else None


def _rows_and_columns_of(module: object) -> tuple[int, ...]:
    if isinstance(module, PackedLinear):
        return module.out_features, module.in_features
    weight = _weight(module)
    return () if weight is None else tuple(weight.flatten(1).shape)


def _tensors(change: ModuleChange, file: Any, device: torch.device) -> dict[str, Tensor]:
    """The tensors of a change by their role, float32; of those that have the module's rows, its own."""
    read: dict[str, Tensor] = {role: file.get_tensor(key) for role, key in change.keys.items()}
    own = {role: tensor[change.rows_of(len(tensor))] if role in BY_ROW else tensor for role, tensor in read.items()}
    return {role: tensor.to(device, torch.float32) for role, tensor in own.items()}


BY_ROW = ("up", "w1_a", "w2_a", "diff", "dora")
"""Tensors whose rows are those of the module."""


def put_beside(layer: PackedLinear, shares: Sequence[Share], opened: Mapping[Path, Any]) -> None:
    """Gives a packed layer exactly these shares, beside its weight if all are of low rank."""
    device = layer.packed.device
    if layer.packed.is_meta:
        raise EngineError(f"LoRAs cannot act: {ELSEWHERE}", RELOAD)
    read = [(share, _tensors(share.change, opened[share.file[0]], device)) for share in shares]
    if all(share.change.algorithm == "lora" and not {"mid", "dora"} & tensors.keys() for share, tensors in read):
        layer.put_beside(
            [
                (tensors["down"].flatten(1), tensors["up"].flatten(1) * (share.change.scale * share.weight))
                for share, tensors in read
            ]
        )
        return
    total = layer.dequantised(torch.float32)
    for share, tensors in read:
        total = merged(total, share.change, tensors, share.weight)
    layer.unpack(total)


COMPUTED = ("lora", "loha", "lokr", "diff")
"""The algorithms that `product` knows."""


def lora_changes(lora: Lora, family: str, components: Mapping[str, str]) -> Iterator[ModuleChange]:
    """What a LoRA file changes; `BadModelError` if it is for another family, or a part of it would be lost.

    `components` maps the parts of the model as LoRA files name them to names of the pipeline's parts.
    """
    path = lora.path
    if lora.family != family:
        other = lora.family or f"an unknown model{f', nearest is {lora.nearest}' if lora.nearest else ''}"
        because = f": {lora.because}" if lora.because else ""
        raise BadModelError(
            f"{path} is a LoRA for {other}{because}; expected one for {family}", f"sosie lora show {path}"
        )
    if lora.strangers:
        message = f"{path}: {len(lora.strangers)} tensors are no LoRA's, first {lora.strangers[0][:120]}"
        raise BadModelError(message, f"sosie lora show {path}")
    for adapter in lora.adapters:
        problem = adapter.problem or ("" if adapter.targets else f"it is no module of {family}")
        if "bias" in adapter.keys:
            problem = problem or "it changes a bias"
        if adapter.algorithm not in COMPUTED:
            problem = problem or f"{NAMES[adapter.algorithm]} is not computed"
        if {"t1", "t2", "kt2"} & set(adapter.keys):
            problem = problem or f"{adapter.algorithm} with Tucker cores is not computed"
        if problem:
            raise BadModelError(f"{path}: {adapter.name[:160]} cannot be used: {problem}", f"sosie lora show {path}")
        keys = {role: name for role, name in adapter.keys.items() if role != "alpha"}
        rows, before = [module.shape[0] for module in adapter.targets], 0
        for module, own in zip(adapter.targets, rows, strict=True):
            place = (components[adapter.prefix.component], module.name)
            yield ModuleChange(place, adapter.algorithm, keys, lora.scale(adapter), (before, own, sum(rows)))
            before += own


def merged(weight: Tensor, change: ModuleChange, tensors: Mapping[str, Tensor], share: float) -> Tensor:
    """`weight` with `share` times the change, float32, of the same shape.

    DoRA (arXiv:2402.09353, eq. 5) sets the norm of each row (or column) of the sum; its share is
    taken of the difference that this makes.
    """
    added = product(change.algorithm, tensors)
    if change.algorithm == "lokr":
        added = added[change.rows_of(len(added))]
    added = added.reshape(weight.shape) * change.scale
    if "dora" not in tensors:
        return weight + share * added
    whole = (weight + added).flatten(1)
    sizes = tensors["dora"].flatten()
    by_row = len(tensors["dora"]) == len(whole)
    norm: Tensor = _linalg.vector_norm(whole, dim=1 if by_row else 0, keepdim=True)
    return weight + share * ((whole * (sizes.reshape(norm.shape) / norm)).reshape(weight.shape) - weight)


def product(algorithm: str, tensors: Mapping[str, Tensor]) -> Tensor:
    """A change without its scale, float32 [rows, columns] with a convolution's kernel in the columns."""

    def times(left: str, right: str) -> Tensor:
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


def _rows_and_columns(change: ModuleChange, shapes: Mapping[str, tuple[int, ...]]) -> tuple[int, int]:
    """The shape of the product, computed without numbers."""
    empty = {role: torch.empty(shape, device="meta") for role, shape in shapes.items() if role != "dora"}
    rows, columns = product(change.algorithm, empty).shape
    own = change.rows_of(rows)
    return own.stop - own.start, columns
