"""Exact conversion of a LoRA file to another layout; what cannot be exact is refused.

`comfy` gives each change a name that ComfyUI looks for; `diffusers` and `kohya` are layouts that a family spells in its
own way; `split` and `fused` are for families whose single files fuse q, k and v. What no layout has a name for is in
the new file as it was. A tensor for alpha is written wherever alpha / rank is not 1 (kohya: always), also
if alpha stood in diffusers' metadata only, which ComfyUI ignores.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from sosie.core.errors import SosieError, UsageError, nearest
from sosie.lora.adapters import Adapter
from sosie.lora.algebra import Change, fold, fuse, magnitudes_by_row, parts_of, unfuse
from sosie.lora.layouts import NAMES
from sosie.lora.loaders import spelled_as
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
    tensors = _kept(lora)
    changes = _arranged(lora, spelling)
    for place, change in changes.items():
        tensors |= _spelled(spelling, place, change)
    metadata = {(SOURCE + key if key in STALE else key): text for key, text in lora.header.metadata.items()}
    metadata["sosie.converted"] = f"{lora.layout.title} -> {to}"
    write(out, tensors, metadata, overwrite)
    return Converted(lora, out, to, len(tensors), _notes(lora, spelling, changes))


def refusal(lora: Lora, to: str) -> str:
    """Why `convert` would refuse the file, or empty. No weight is read: numbers that would be rounded are not seen."""
    try:
        spelling = _spelling(lora, to)
        _check(lora)
        for place, change in _arranged(lora, spelling, measured=False).items():
            _spelled(spelling, place, change)
    except SosieError as error:
        return error.message
    return ""


def _kept(lora: Lora) -> dict[str, Tensor]:
    """Tensors that go into the new file as they are: those that no layout has a name for."""
    left = [name for adapter in lora.adapters if not adapter.targets for name in adapter.keys.values()]
    return {
        name: open_tensor(lora.path, lora.header, lora.start, name)
        for name in (*lora.strangers, *lora.embeddings, *left)
    }


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
    spellings, table = lora.support.layouts, lora.table
    if to not in spellings:
        fused = to in ("split", "fused") and table is not None and not table.fuses
        why = "whose q, k, v are never fused" if fused else f"which has no layout '{to}'"
        hint = " or ".join(f"--to {name}" for name in sorted(spellings)) or "use it as it is"
        raise UsageError(f"{lora.path} is for {lora.family}, {why}", hint)
    return spellings[to]


MOVED = ("lora", "loha", "lokr", "diff", "set", "norm", "glora", "oft", "boft")
"""Algorithms whose tensors have a name of their own, so that they can be moved."""


def _check(lora: Lora) -> None:
    """Refuses a file of which something would be lost."""
    for adapter in lora.adapters:
        name = plain(adapter.name, 160)
        if adapter.problem:
            raise UsageError(f"{lora.path}: {name} cannot be used: {adapter.problem}", "sosie lora show FILE")
        if adapter.algorithm not in MOVED or adapter.odd:
            what = NAMES[adapter.algorithm] + (" as it is kept here" if adapter.odd else "")
            raise UsageError(f"{lora.path}: {name} is {what}, which has one layout only", "use it as it is")
        if "bias" in adapter.keys and adapter.algorithm == "diff" and len(adapter.targets) == 3:
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


@dataclass(frozen=True)
class Place:
    """Where a change goes: the component, the name there (prefix and all, if it is `whole`), and its modules."""

    component: Component
    name: str
    whole: bool = False


def part_rows(change: Change, modules: Sequence[Module]) -> tuple[int, ...]:
    """The rows of each of the modules that are fused in the weight that a change is of, also in a reduced model."""
    total = sum(module.shape[0] for module in modules)
    return tuple(change.rows * module.shape[0] // total for module in modules)


def _arranged(lora: Lora, spelling: Spelling, measured: bool = True) -> dict[Place, Change]:
    """The changes by their place in the new layout: moved, cut into parts, or fused.

    Without `measured` no number is read: blocks of zeros are then not looked for.
    """
    split: dict[Module, Change] = {}
    fused: dict[tuple[Component, str], tuple[tuple[Module, ...], Change]] = {}
    for adapter in lora.adapters:
        if not adapter.targets:
            continue
        change, target = change_of(lora, adapter), adapter.targets[0]
        one = len(adapter.targets) == 1
        if target in split if one else (target.component, target.single) in fused:
            raise UsageError(f"{lora.path}: {change.name} is changed twice", "sosie lora show FILE")
        if one:
            split[target] = change
        else:
            fused[target.component, target.single] = adapter.targets, change
        if target.turned and spelling.single is not None and spelled_as(adapter, "split") == spelling.single:
            raise UsageError(f"{change.name}: diffusers has its halves of rows the other way round", "--to comfy")
    for targets, change in fused.values():
        if any(module in split for module in targets):
            message = f"{lora.path}: {change.name} stands beside split q, k, v: the same weights are changed twice"
            raise UsageError(message, "sosie lora show FILE")
    if spelling.single is None:
        turned = {a.targets[0] for a in lora.adapters if a.targets and spelled_as(a, "split") and a.targets[0].turned}
        return _under_read_names(lora, split, fused.values(), turned)
    if not spelling.single:
        return _taken_apart(split, fused.values(), measured)
    return _put_together(lora, split, fused.values())


def _under_read_names(
    lora: Lora,
    split: Mapping[Module, Change],
    fused: Iterable[tuple[tuple[Module, ...], Change]],
    turned: Set[Module],
) -> dict[Place, Change]:
    """Each change under a name that ComfyUI reads; parts of a fused weight that have none are put together.

    `turned` are modules in diffusers' order of rows, and want diffusers' name, by which ComfyUI turns them again.
    """
    arranged: dict[Place, Change] = {}
    nameless: dict[Module, Change] = {}
    for modules, change in (*(((module,), change) for module, change in split.items()), *fused):
        if place := _read_name(lora, modules, modules[0] in turned):
            arranged[place] = change
        elif modules[0].part is not None and len(modules) == 1:
            nameless[modules[0]] = change
        else:
            raise UsageError(f"{change.name}: ComfyUI reads no LoRA of it", "use it as it is")
    for place, change in _put_together(lora, nameless, ()).items():
        modules = lora.table.wholes[place.component, place.name] if lora.table else ()
        arranged[_read_name(lora, modules, False) or place] = change
    return arranged


def _read_name(lora: Lora, modules: Sequence[Module], turned: bool) -> Place | None:
    """The first name that ComfyUI reads, before others the one that it reads of every model; None if it has none."""
    for rule in sorted(lora.support.rules, key=lambda rule: (rule.prefix != "diffusion_model.", rule.flat, rule.since)):
        if modules[0].turned and (rule.names == "split") != turned:
            continue
        if rule.component == modules[0].component and (stem := rule.spell(modules)):
            return Place(rule.component, stem, whole=True)
    return None


def _taken_apart(
    split: Mapping[Module, Change], fused: Iterable[tuple[tuple[Module, ...], Change]], measured: bool
) -> dict[Place, Change]:
    moved = {Place(module.component, module.name): change for module, change in split.items()}
    for targets, change in fused:
        rows = part_rows(change, targets)
        parts = unfuse(change, rows) if measured else parts_of(change, rows)
        moved |= {Place(module.component, module.name): one for module, one in zip(targets, parts, strict=True)}
    return moved


def _put_together(
    lora: Lora, split: Mapping[Module, Change], fused: Iterable[tuple[tuple[Module, ...], Change]]
) -> dict[Place, Change]:
    arranged = {Place(targets[0].component, targets[0].single): change for targets, change in fused}
    parts: dict[Place, dict[Module, Change]] = {}
    for module, change in split.items():
        place = Place(module.component, module.single)
        if module.part is None:
            arranged[place] = change
        else:
            parts.setdefault(place, {})[module] = change
    for place, changes in parts.items():
        modules = lora.table.wholes[place.component, place.name] if lora.table else tuple(changes)
        first, change = next(iter(changes.items()))
        rows = [change.rows * module.shape[0] // first.shape[0] for module in modules]
        arranged[place] = fuse(place.name, [changes.get(module) for module in modules], rows)
    return arranged


def _spelled(spelling: Spelling, place: Place, change: Change) -> dict[str, Tensor]:
    """A change's tensors under their new names."""
    if spelling.alpha == "folded":
        if change.algorithm != "lora" or "dora" in change.tensors or "mid" in change.tensors:
            what = "DoRA's dora_scale" if "dora" in change.tensors else f"{change.algorithm} as written here"
            raise UsageError(f"{change.name}: diffusers does not read {what}", "--to comfy")
        change = fold(change)
    style = spelling.style
    if "mid" in change.tensors and style == "lora_A":
        if spelling.single is not None:
            raise UsageError(f"{change.name}: a Tucker core has no name in this layout", "--to kohya")
        style = "lora_down"
    stem = place.name
    if not place.whole:
        if place.component not in spelling.prefixes:
            message = f"{change.name}: a {place.component} has no name in this layout"
            raise UsageError(message, "sosie lora convert --help")
        stem = spelling.prefixes[place.component] + (underscored(stem) if spelling.flat else stem)
    suffixes = SUFFIXES[style] if change.algorithm == "lora" else KEPT
    change = magnitudes_by_row(change)
    if lost := [role for role in change.tensors if role not in suffixes and role not in KEPT]:
        raise UsageError(f"{change.name}: its '{lost[0]}' has no name in this layout", "use it as it is")
    tensors = {stem + (suffixes.get(role) or KEPT[role]): tensor for role, tensor in change.tensors.items()}
    scaled = change.rank and (spelling.alpha == "always" or change.alpha != change.rank)
    # Of OFT, alpha is no factor but a bound, and so it is kept as it is.
    if scaled or (change.algorithm in ("oft", "boft") and change.alpha):
        tensors[f"{stem}.alpha"] = number(change.alpha)
    return tensors


def _notes(lora: Lora, spelling: Spelling, changes: Mapping[Place, Change]) -> tuple[str, ...]:
    """What happened to alpha and rank, and what was left as it is."""
    notes: list[str] = []
    if kept := _kept(lora):
        first = plain(next(iter(kept)), 120)
        notes.append(
            f"{len(kept)} tensors are in the new file as they were, first {first}: no layout has a name for them"
        )
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
