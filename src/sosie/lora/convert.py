"""Exact conversion of a LoRA file to another layout; what cannot be exact is refused.

`comfy`, `diffusers` and `kohya` are layouts that a family spells in its own way; `split` and `fused` are for families
whose single files fuse q, k and v. A tensor for alpha is written wherever alpha / rank is not 1 (kohya: always), also
if alpha stood in diffusers' metadata only, which ComfyUI ignores.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from sosie.core.errors import UsageError, nearest
from sosie.lora.adapters import Adapter
from sosie.lora.algebra import Change, fold, fuse, magnitudes_by_row, unfuse
from sosie.lora.lora import Lora
from sosie.lora.modules import Component, Module, underscored
from sosie.lora.spellings import KEPT, SUFFIXES, Spelling
from sosie.lora.tensors import Tensor, number, open_tensor, write
from sosie.lora.training import PEFT_KEY, plain

To = Literal["comfy", "diffusers", "kohya", "split", "fused"]

SOURCE = "sosie.source."
"""Metadata that is no longer true of the new file is kept under names that begin so."""

STALE = (PEFT_KEY, "sshs_model_hash", "sshs_legacy_hash")


@dataclass(frozen=True)
class Converted:
    """A conversion that was done: the new file, and what is worth knowing of it, a sentence each."""

    source: Lora
    path: Path
    to: str
    tensors: int
    notes: tuple[str, ...]


def convert(lora: Lora, out: Path, to: str, overwrite: bool = False) -> Converted:
    """Writes a LoRA to `out` in the layout `to`, exactly, atomically; metadata is kept.

    The change to every weight is equal to the last bit in float32. Raises `UsageError` with the
    reason where that is not possible or `out` exists, `BadModelError` for a broken file.
    """
    spelling = _spelling(lora, to)
    _check(lora)
    changes = _arranged(lora, spelling)
    tensors: dict[str, Tensor] = {}
    for (component, name), change in changes.items():
        tensors |= _spelled(spelling, component, name, change)
    metadata = {(SOURCE + key if key in STALE else key): text for key, text in lora.header.metadata.items()}
    metadata["sosie.converted"] = f"{lora.layout.title} -> {to}"
    write(out, tensors, metadata, overwrite)
    return Converted(lora, out, to, len(tensors), _notes(lora, spelling, changes))


def change_of(lora: Lora, adapter: Adapter) -> Change:
    """An adapter with its tensors, ready to be computed with; nothing is read yet."""
    tensors = {
        role: open_tensor(lora.path, lora.header, lora.start, name)
        for role, name in adapter.keys.items()
        if role != "alpha"
    }
    rows, columns = adapter.shape
    alpha = lora.alpha(adapter).value
    return Change(plain(adapter.name, 160), adapter.algorithm, tensors, rows, columns, adapter.rank, alpha)


def _spelling(lora: Lora, to: str) -> Spelling:
    if to not in get_args(To):
        raise UsageError(f"layout '{to}' is not known{nearest(to, get_args(To))}", "sosie lora convert --help")
    if not lora.family:
        near = f", nearest is {lora.nearest}" if lora.nearest else ""
        raise UsageError(f"{lora.path} is for an unknown model{near}: {lora.because}", "sosie lora show FILE")
    spellings, table = lora.support.spellings, lora.support.table
    if to not in spellings:
        fused = to in ("split", "fused") and table is not None and not table.fuses
        why = "whose q, k, v are never fused" if fused else f"which has no layout '{to}'"
        hint = " or ".join(f"--to {name}" for name in sorted(spellings)) or "use it as it is"
        raise UsageError(f"{lora.path} is for {lora.family}, {why}", hint)
    return spellings[to]


def _check(lora: Lora) -> None:
    """Refuses a file of which something would be lost."""
    if lora.strangers:
        first = plain(lora.strangers[0])
        raise UsageError(f"{lora.path}: {len(lora.strangers)} tensors are no LoRA's and would be lost, first {first}")
    for adapter in lora.adapters:
        name = plain(adapter.name, 160)
        if adapter.problem:
            raise UsageError(f"{lora.path}: {name} cannot be used: {adapter.problem}", "sosie lora show FILE")
        if not adapter.targets:
            raise UsageError(f"{lora.path}: {name} is no module of {lora.family} and would be lost")
        if "bias" in adapter.keys and len(adapter.targets) == 3:
            raise UsageError(f"{lora.path}: {name} changes a bias, which the model does not have")
        stored = lora.training.peft.get(adapter.prefix.component)
        if (
            lora.alpha(adapter).source == "metadata"
            and stored
            and stored.rslora
            and math.isqrt(adapter.rank) ** 2 != adapter.rank
        ):
            message = f"{lora.path}: rsLoRA's scale is alpha / sqrt({adapter.rank}), which no alpha says exactly"
            raise UsageError(message, "load it with diffusers as it is")


Place = tuple[Component, str]


def _arranged(lora: Lora, spelling: Spelling) -> dict[Place, Change]:
    """The changes by component and name in the new layout: moved, cut into thirds, or fused."""
    split: dict[Module, Change] = {}
    fused: dict[Place, tuple[tuple[Module, ...], Change]] = {}
    for adapter in lora.adapters:
        change, target = change_of(lora, adapter), adapter.targets[0]
        twice = target in split if len(adapter.targets) == 1 else (target.component, target.single) in fused
        if twice:
            raise UsageError(f"{lora.path}: {change.name} is changed twice", "sosie lora show FILE")
        if len(adapter.targets) == 1:
            split[target] = change
        else:
            fused[target.component, target.single] = adapter.targets, change
    for targets, change in fused.values():
        if any(module in split for module in targets):
            message = f"{lora.path}: {change.name} stands beside split q, k, v: the same weights are changed twice"
            raise UsageError(message, "sosie lora show FILE")
    if not spelling.single:
        moved: dict[Place, Change] = {(module.component, module.name): change for module, change in split.items()}
        for targets, change in fused.values():
            places: list[Place] = [(module.component, module.name) for module in targets]
            moved |= dict(zip(places, unfuse(change), strict=True))
        return moved
    arranged = {place: change for place, (_, change) in fused.items()}
    thirds: dict[Place, list[Change | None]] = {}
    for module, change in split.items():
        place = (module.component, module.single)
        if module.third is None:
            arranged[place] = change
        else:
            thirds.setdefault(place, [None, None, None])[module.third] = change
    return arranged | {place: fuse(place[1], parts) for place, parts in thirds.items()}


def _spelled(spelling: Spelling, component: Component, name: str, change: Change) -> dict[str, Tensor]:
    """A change's tensors under their new names."""
    if spelling.alpha == "folded":
        if change.algorithm != "lora" or "dora" in change.tensors or "mid" in change.tensors:
            what = "DoRA's dora_scale" if "dora" in change.tensors else f"{change.algorithm} as written here"
            raise UsageError(f"{change.name}: diffusers does not read {what}", "--to comfy")
        change = fold(change)
    if "mid" in change.tensors and spelling.style == "lora_A":
        raise UsageError(f"{change.name}: a Tucker core has no name in this layout", "--to kohya")
    if component not in spelling.prefixes:
        raise UsageError(f"{change.name}: a {component} has no name in this layout", "sosie lora convert --help")
    stem = spelling.prefixes[component] + (underscored(name) if spelling.flat else name)
    suffixes = SUFFIXES[spelling.style] if change.algorithm == "lora" else KEPT
    change = magnitudes_by_row(change)
    tensors = {stem + (suffixes.get(role) or KEPT[role]): tensor for role, tensor in change.tensors.items()}
    if change.rank and (spelling.alpha == "always" or change.alpha != change.rank):
        tensors[f"{stem}.alpha"] = number(change.alpha)
    return tensors


def _notes(lora: Lora, spelling: Spelling, changes: Mapping[Place, Change]) -> tuple[str, ...]:
    """What happened to alpha and rank."""
    notes: list[str] = []
    before = max(lora.ranks, default=0)
    after = max((change.rank for change in changes.values()), default=0)
    if after > before:
        notes.append(
            f"rank {before} became {after} where q, k, v were fused; alpha grew with it, so the strength is equal"
        )
    elif after < before:
        notes.append(f"rank {before} became {after}: fused q, k, v were three blocks with zeros between them")
    if lora.alpha_source == "metadata":
        how = "taken into the matrices" if spelling.alpha == "folded" else "written as tensors"
        notes.append(f"alpha stood in the metadata only, which ComfyUI ignores; now it is {how}")
    elif spelling.alpha == "folded" and any(scale != 1 for scale in lora.scales):
        notes.append("alpha / rank was taken into the matrices (a power of two: nothing is rounded)")
    return tuple(notes)
