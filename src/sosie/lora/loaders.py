"""What each loader would do with a LoRA file, and what it would silently drop.

What was tried is the families' (`LoraSupport.loaders`); here stands how ComfyUI and diffusers read any family's LoRAs.
ComfyUI takes the names of a model's weights and looks for tensors named so: a LoRA key that fits none is one log
line. diffusers filters names by their prefix.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Literal

from sosie.lora.adapters import Adapter
from sosie.lora.lora import Loader, Lora, Outcome, Result
from sosie.lora.modules import underscored

COMFY_OLD, COMFY, DIFFUSERS = "ComfyUI before 2025-11-28", "ComfyUI", "diffusers 0.42"
LOADERS = (COMFY_OLD, COMFY, DIFFUSERS)
"""The loaders that every family is asked about."""

Names = Literal["single", "split", "either"]
"""Whose names a loader expects behind a prefix: those of single files, those of diffusers, or either."""

KeyMap = Mapping[str, Names]
"""Prefix -> names that are read behind it; a prefix that is not here is not read."""


def outcomes(lora: Lora) -> tuple[Outcome, ...]:
    """One outcome for each of `LOADERS` and each other loader that the family was tried with.

    Unknown for an unknown family, mixed prefixes, and a loader that the family was not tried with.
    """
    tried = {loader.name: loader for loader in lora.support.loaders}
    names = (*LOADERS, *(name for name in tried if name not in LOADERS))
    if lora.known is None or lora.layout.naming == "mixed":
        because = "its prefixes are mixed" if lora.known else "its family is not known"
        return tuple(Outcome(name, "unknown", (), because) for name in names)
    untried = f"it was not tried with LoRAs of {lora.title}"
    return tuple(
        tried[name].outcome(lora) if name in tried else Outcome(name, "unknown", (), untried) for name in names
    )


def comfy(name: str, keys: KeyMap, source: str) -> Loader:
    """A version of ComfyUI with this map of keys."""
    return Loader(name, partial(by_key_map, name, keys), source)


def by_key_map(loader: str, keys: KeyMap, lora: Lora) -> Outcome:
    """What ComfyUI does: it reads adapters by the names behind their prefix, and DoRA as `dora_scale` alone."""
    dropped = [name for a in lora.adapters if not _reads(keys, a) for name in a.keys.values()]
    dropped += [
        a.keys["dora"]
        for a in lora.adapters
        if a.dora and _reads(keys, a) and not a.keys["dora"].endswith("dora_scale")
    ]
    because = "it looks for other names and only logs 'lora key not loaded'"
    return _summed(lora, loader, [*dropped, *lora.strangers], because)


def _reads(keys: KeyMap, adapter: Adapter) -> bool:
    names = keys.get(adapter.prefix.text)
    if names is None or not adapter.targets:
        return False
    return names == "either" or spelled_as(adapter, names)


def spelled_as(adapter: Adapter, names: Literal["single", "split"]) -> bool:
    """True if the file names the module as single files do (or as diffusers does)."""
    known = {target.single if names == "single" else target.name for target in adapter.targets}
    return adapter.module in known or adapter.module in {underscored(name) for name in known}


def styles(lora: Lora) -> set[str]:
    """The styles of its suffixes (`layouts.SUFFIXES`)."""
    return {adapter.style for adapter in lora.adapters}


def has_alpha(lora: Lora) -> bool:
    """True if it holds alpha tensors."""
    return any("alpha" in adapter.keys for adapter in lora.adapters)


def by_diffusers(lora: Lora, refusal: str, listens: bool) -> Outcome:
    """What diffusers 0.42 does: it refuses other algorithms, and drops names that it does not translate.

    `refusal` says why it refuses this layout of the family (empty: it does not), `listens` whether the
    names get past its filter of prefixes.
    """
    algorithms = {adapter.algorithm for adapter in lora.adapters}
    if algorithms != {"lora"} or any("mid" in adapter.keys for adapter in lora.adapters):
        odd = sorted(algorithms - {"lora"}) or ["Tucker cores"]
        return Outcome(DIFFUSERS, "fails", (), f"it does not read {odd[0]}")
    if refusal:
        return Outcome(DIFFUSERS, "fails", (), refusal)
    if not listens:
        every = tuple(lora.header.tensors)
        return Outcome(DIFFUSERS, "nothing", every, "it filters names by their prefix and only logs a warning")
    dropped = [a.keys["dora"] for a in lora.adapters if a.dora and a.keys["dora"].endswith("dora_scale")]
    naming = lora.layout.naming
    if naming == "diffusers" or (naming != "kohya" and "lora.down" not in styles(lora)):
        dropped += [n for a in lora.adapters if _untranslated(a) for role, n in a.keys.items() if role != "dora"]
    summed = _summed(lora, DIFFUSERS, [*dropped, *lora.strangers], "it has no such modules and only logs a warning")
    if summed.result == "nothing":
        return Outcome(DIFFUSERS, "fails", (), "it finds none of these modules")
    return summed


def _untranslated(adapter: Adapter) -> bool:
    """True for a single file's name that diffusers does not translate in dotted layouts."""
    if not adapter.targets:
        return True
    renamed = adapter.style == "lora_down" and adapter.module.endswith(".out")
    return not renamed and not spelled_as(adapter, "split")


def _summed(lora: Lora, loader: str, dropped: list[str], because: str) -> Outcome:
    if not dropped:
        return Outcome(loader, "loads", (), "")
    result: Result = "nothing" if len(dropped) == len(lora.header.tensors) else "partial"
    return Outcome(loader, result, tuple(dropped), because)
