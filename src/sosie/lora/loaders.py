"""What each loader would do with a LoRA file, and what it would silently drop.

ComfyUI looks for names that it makes of a model's weights (`keymap`); a LoRA key that is none of them is one log line.
diffusers filters names by their prefix; what was tried with it, and with other programs, is the families'
(`LoraSupport.loaders`).
"""

from __future__ import annotations

from typing import Literal

from sosie.lora.adapters import Adapter
from sosie.lora.keymap import KeyRule, dropped, key_map
from sosie.lora.layouts import NAMES
from sosie.lora.lora import Loader, Lora, Outcome, Result
from sosie.lora.modules import underscored

COMFY, DIFFUSERS = "ComfyUI", "diffusers 0.42"
LOADERS = (COMFY, DIFFUSERS)
"""The loaders that every family is asked about."""


def outcomes(lora: Lora) -> tuple[Outcome, ...]:
    """One outcome for each older ComfyUI that reads less of the family, for each of `LOADERS`, and each other loader.

    Unknown for an unknown family, and a loader that the family was not tried with.
    """
    tried = {loader.name: loader for loader in lora.support.loaders}
    other = tuple(name for name in tried if name not in LOADERS)
    if lora.known is None:
        return tuple(Outcome(name, "unknown", (), "its family is not known") for name in (*LOADERS, *other))
    days = sorted({rule.since for rule in lora.support.rules if rule.since})
    old = [comfy_outcome(lora, f"{COMFY} before {day}", day) for day in days]
    untried = f"it was not tried with LoRAs of {lora.title}"
    return (
        *old,
        tried[COMFY].outcome(lora) if COMFY in tried else comfy_outcome(lora),
        *(
            tried[name].outcome(lora) if name in tried else Outcome(name, "unknown", (), untried)
            for name in (DIFFUSERS, *other)
        ),
    )


def is_old(outcome: Outcome) -> bool:
    """True for a ComfyUI of another day."""
    return outcome.loader.startswith(f"{COMFY} before ")


def comfy_outcome(lora: Lora, name: str = COMFY, before: str = "") -> Outcome:
    """What ComfyUI does with it, of today or as it was before a day."""
    if lora.table is None:
        return Outcome(name, "unknown", (), f"the modules of {lora.title} are not listed")
    rules = tuple(rule for rule in lora.support.rules if not rule.beside or rule.beside in lora.header.tensors)
    keys = key_map(lora.table, rules, before)
    lost = [*dropped((a for a in lora.adapters if is_judged(lora, a)), keys), *lora.strangers]
    if any(rule.beside for rule in rules):
        lost = [name for name in lost if not name.endswith(".lora_B.bias")]
    return _summed(lora, name, lost, _because(lora, set(lost)) if lost else "")


def _because(lora: Lora, lost: set[str]) -> str:
    """Why ComfyUI passes over tensors: it has no reader for them, or it would call the first of them otherwise."""
    first = next((each for each in lora.adapters if not lost.isdisjoint(each.keys.values())), None)
    if first is None:
        return "they are not named as a LoRA's"
    if first.algorithm in NOT_READ or first.odd:
        return f"it has no reader for {NAMES[first.algorithm]}{' as it is kept here' if first.odd else ''}"
    if not first.targets:
        return f"{lora.title} has no such module"
    wanted = next((name for rule in lora.support.rules if (name := _spelled_by(rule, first))), "")
    looked = f"it looks for '{wanted}'" if wanted else "it looks for other names"
    return f"{looked}, and only logs 'lora key not loaded'"


def _spelled_by(rule: KeyRule, adapter: Adapter) -> str:
    """What ComfyUI would call an adapter by a rule, if it is one with dots."""
    return "" if rule.flat or rule.component != adapter.prefix.component else rule.spell(adapter.targets)


NOT_READ = ("ia3", "vera", "other")
"""Algorithms that ComfyUI has no reader for."""


def is_judged(lora: Lora, adapter: Adapter) -> bool:
    """False for a text encoder of which nothing is listed, and for norms and biases alone."""
    known = lora.table is None or adapter.prefix.component in lora.table.components
    return known and (bool(adapter.targets) or not adapter.on_vectors)


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


PLAIN = ("transformer.", "text_encoder.", "text_encoder_2.", "text_encoder_3.")
"""diffusers' own prefixes."""


def _own_layout(lora: Lora) -> Outcome:
    own = all(adapter.prefix.text in PLAIN and spelled_as(adapter, "split") for adapter in lora.adapters)
    if {adapter.algorithm for adapter in lora.adapters if not adapter.on_vectors} - {"lora"}:
        return by_diffusers(lora, "", True)
    if own and styles(lora) == {"lora_A"} and not has_alpha(lora) and not lora.strangers:
        return Outcome(DIFFUSERS, "loads")
    return Outcome(DIFFUSERS, "unknown", (), f"this layout was not tried with LoRAs of {lora.title}")


OWN_LAYOUT = Loader(DIFFUSERS, _own_layout, "diffusers reads its own layout of every transformer")
"""diffusers, for a family whose other layouts were not tried with it."""


def by_diffusers(lora: Lora, refusal: str, listens: bool) -> Outcome:
    """What diffusers 0.42 does: it refuses other algorithms, and drops names that it does not translate.

    `refusal` says why it refuses this layout of the family (empty: it does not), `listens` whether the
    names get past its filter of prefixes.
    """
    if lora.layout.naming == "mixed":
        return Outcome(DIFFUSERS, "unknown", (), "its prefixes are mixed")
    algorithms = {adapter.algorithm for adapter in lora.adapters if not adapter.on_vectors}
    if algorithms - {"lora"} or any("mid" in adapter.keys for adapter in lora.adapters):
        odd = [NAMES[name] for name in sorted(algorithms - {"lora"})] or ["Tucker cores"]
        return Outcome(DIFFUSERS, "fails", (), f"it does not read {odd[0]}")
    if refusal:
        return Outcome(DIFFUSERS, "fails", (), refusal)
    if not listens:
        every = tuple(name for adapter in lora.adapters for name in adapter.keys.values())
        return Outcome(DIFFUSERS, "nothing", every, "it filters names by their prefix and only logs a warning")
    lost = [a.keys["dora"] for a in lora.adapters if a.dora and a.keys["dora"].endswith("dora_scale")]
    naming = lora.layout.naming
    if naming == "diffusers" or (naming != "kohya" and "lora.down" not in styles(lora)):
        lost += [n for a in lora.adapters if _untranslated(a) for role, n in a.keys.items() if role != "dora"]
    summed = _summed(lora, DIFFUSERS, [*lost, *lora.strangers], "it has no such modules and only logs a warning")
    if summed.result == "nothing":
        return Outcome(DIFFUSERS, "fails", (), "it finds none of these modules")
    return summed


def _untranslated(adapter: Adapter) -> bool:
    """True for a single file's name that diffusers does not translate in dotted layouts."""
    if not adapter.targets:
        return True
    renamed = adapter.style == "lora_down" and adapter.module.endswith(".out")
    return not renamed and not spelled_as(adapter, "split")


def _summed(lora: Lora, loader: str, lost: list[str], because: str) -> Outcome:
    if not lost:
        return Outcome(loader, "loads", (), "")
    result: Result = "nothing" if len(lost) == lora.total else "partial"
    return Outcome(loader, result, tuple(lost), because)
