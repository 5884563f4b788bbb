"""Exact conversion of a LoRA file to another layout; what cannot be exact is refused.

| to          | Z-Image                                             | SDXL                                  |
|-------------|-----------------------------------------------------|---------------------------------------|
| `comfy`     | `diffusion_model.`, split, `lora_A`; read everywhere | as `kohya`; read everywhere           |
| `diffusers` | `transformer.`, split, `lora_A`, alpha folded       | `unet.`, `lora_A`, alpha folded       |
| `kohya`     | `lora_unet_`, fused, `lora_down`, alpha             | `lora_unet_input_blocks_...`, alpha   |
| `split`     | as `comfy`                                          | (refused: nothing is ever fused)      |
| `fused`     | `diffusion_model.`, fused, `lora_A`                 | (refused: nothing is ever fused)      |

A tensor for alpha is written wherever alpha / rank is not 1 (kohya: always), also if alpha stood in
diffusers' metadata only, which ComfyUI ignores.
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
from sosie.lora.lora import Lora, read_lora
from sosie.lora.modules import Module, Part, underscored
from sosie.lora.tensors import Tensor, number, open_tensor, write
from sosie.lora.training import PEFT_KEY, plain

To = Literal["comfy", "diffusers", "kohya", "split", "fused"]


@dataclass(frozen=True)
class Spelling:
    """How a layout writes names: prefixes by part, whose module names, suffixes, and alpha."""

    prefixes: Mapping[Part, str]
    flat: bool
    single: bool
    style: Literal["lora_A", "lora_down"]
    alpha: Literal["where needed", "always", "folded"]


_COMFY = Spelling({"denoiser": "diffusion_model."}, False, False, "lora_A", "where needed")
_KOHYA_PREFIXES: Mapping[Part, str] = {
    "denoiser": "lora_unet_",
    "text-encoder": "lora_te1_",
    "text-encoder-2": "lora_te2_",
}
_DIFFUSERS_PREFIXES: Mapping[Part, str] = {
    "denoiser": "unet.",
    "text-encoder": "text_encoder.",
    "text-encoder-2": "text_encoder_2.",
}
_KOHYA = Spelling(_KOHYA_PREFIXES, True, True, "lora_down", "always")

SPELLINGS: Mapping[tuple[str, str], Spelling] = {
    ("zimage", "comfy"): _COMFY,
    ("zimage", "split"): _COMFY,
    ("zimage", "fused"): Spelling({"denoiser": "diffusion_model."}, False, True, "lora_A", "where needed"),
    ("zimage", "kohya"): _KOHYA,
    ("zimage", "diffusers"): Spelling({"denoiser": "transformer."}, False, False, "lora_A", "folded"),
    ("sdxl", "comfy"): _KOHYA,
    ("sdxl", "kohya"): _KOHYA,
    ("sdxl", "diffusers"): Spelling(_DIFFUSERS_PREFIXES, False, False, "lora_A", "folded"),
}
"""Layouts by family and name; any other pair is refused."""

SUFFIXES: Mapping[str, Mapping[str, str]] = {
    "lora_A": {"down": ".lora_A.weight", "up": ".lora_B.weight"},
    "lora_down": {"down": ".lora_down.weight", "up": ".lora_up.weight", "mid": ".lora_mid.weight"},
}

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


def convert(path: Path, out: Path, to: str, overwrite: bool = False) -> Converted:
    """Writes the LoRA `path` to `out` in the layout `to`, exactly, atomically; metadata is kept.

    The change to every weight is equal to the last bit in float32. Raises `UsageError` with the
    reason where that is not possible or `out` exists, `BadModelError` for a broken file.
    """
    lora = read_lora(path)
    spelling = _spelling(lora, to)
    _check(lora)
    changes = _arranged(lora, spelling)
    tensors: dict[str, Tensor] = {}
    for (part, name), change in changes.items():
        tensors |= _spelled(spelling, part, name, change)
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
    if (lora.family, to) not in SPELLINGS:
        raise UsageError(
            f"{lora.path} is for {lora.family}, whose q, k, v are never fused", "--to kohya or --to diffusers"
        )
    return SPELLINGS[lora.family, to]


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
        stored = lora.training.peft.get(adapter.prefix.part)
        if (
            lora.alpha(adapter).source == "metadata"
            and stored
            and stored.rslora
            and math.isqrt(adapter.rank) ** 2 != adapter.rank
        ):
            message = f"{lora.path}: rsLoRA's scale is alpha / sqrt({adapter.rank}), which no alpha says exactly"
            raise UsageError(message, "load it with diffusers as it is")


Place = tuple[Part, str]


def _arranged(lora: Lora, spelling: Spelling) -> dict[Place, Change]:
    """The changes by part and name in the new layout: moved, cut into thirds, or fused."""
    split: dict[Module, Change] = {}
    fused: dict[Place, tuple[tuple[Module, ...], Change]] = {}
    for adapter in lora.adapters:
        change, target = change_of(lora, adapter), adapter.targets[0]
        twice = target in split if len(adapter.targets) == 1 else (target.part, target.single) in fused
        if twice:
            raise UsageError(f"{lora.path}: {change.name} is changed twice", "sosie lora show FILE")
        if len(adapter.targets) == 1:
            split[target] = change
        else:
            fused[target.part, target.single] = adapter.targets, change
    for targets, change in fused.values():
        if any(module in split for module in targets):
            message = f"{lora.path}: {change.name} stands beside split q, k, v: the same weights are changed twice"
            raise UsageError(message, "sosie lora show FILE")
    if not spelling.single:
        moved: dict[Place, Change] = {(module.part, module.name): change for module, change in split.items()}
        for targets, change in fused.values():
            places: list[Place] = [(module.part, module.name) for module in targets]
            moved |= dict(zip(places, unfuse(change), strict=True))
        return moved
    arranged = {place: change for place, (_, change) in fused.items()}
    thirds: dict[Place, list[Change | None]] = {}
    for module, change in split.items():
        place = (module.part, module.single)
        if module.third is None:
            arranged[place] = change
        else:
            thirds.setdefault(place, [None, None, None])[module.third] = change
    return arranged | {place: fuse(place[1], parts) for place, parts in thirds.items()}


def _spelled(spelling: Spelling, part: Part, name: str, change: Change) -> dict[str, Tensor]:
    """A change's tensors under their new names."""
    if spelling.alpha == "folded":
        if change.algorithm != "lora" or "dora" in change.tensors or "mid" in change.tensors:
            what = "DoRA's dora_scale" if "dora" in change.tensors else f"{change.algorithm} as written here"
            raise UsageError(f"{change.name}: diffusers does not read {what}", "--to comfy")
        change = fold(change)
    if "mid" in change.tensors and spelling.style == "lora_A":
        raise UsageError(f"{change.name}: a Tucker core has no name in this layout", "--to kohya")
    stem = spelling.prefixes[part] + (underscored(name) if spelling.flat else name)
    suffixes = SUFFIXES[spelling.style] if change.algorithm == "lora" else _KEPT
    change = magnitudes_by_row(change)
    tensors = {stem + (suffixes.get(role) or _KEPT[role]): tensor for role, tensor in change.tensors.items()}
    if change.rank and (spelling.alpha == "always" or change.alpha != change.rank):
        tensors[f"{stem}.alpha"] = number(change.alpha)
    return tensors


_KEPT = {
    "dora": ".dora_scale",
    "diff": ".diff",
    "bias": ".diff_b",
    **{role: f".hada_{role}" for role in ("w1_a", "w1_b", "w2_a", "w2_b", "t1", "t2")},
    **{f"k{role}": f".lokr_w{role}" for role in ("1", "1_a", "1_b", "2", "2_a", "2_b")},
    "kt2": ".lokr_t2",
}
"""Suffixes that are the same in every layout, by role."""


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
