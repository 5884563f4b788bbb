"""Checks of a LoRA file: what it is, what it fits, who would drop what, and whether alpha is what it seems."""

from __future__ import annotations

import math
from collections.abc import Iterable
from pathlib import Path

from sosie.core import Finding
from sosie.core.errors import SosieError, UsageError, nearest
from sosie.core.finding import Rule
from sosie.families import Family, families
from sosie.files.safetensors import Header
from sosie.lora import Coverage, Lora, coverage, outcomes, read_lora
from sosie.lora.coverage import base_header
from sosie.lora.loaders import COMFY_OLD
from sosie.lora.modules import Module
from sosie.lora.training import UNKNOWN, plain

L001 = Rule("SOS-L001", "error", "The LoRA file is broken, or it is no LoRA")
L002 = Rule("SOS-L002", "error", "The LoRA is for a family that is not known")
L003 = Rule("SOS-L003", "error", "No tensor of the LoRA matches the base")
L004 = Rule("SOS-L004", "warning", "Only some tensors of the LoRA match the base")
L005 = Rule("SOS-L005", "info", "How much of the LoRA matches the base, and in which layout")
L006 = Rule("SOS-L006", "warning", "A loader would drop a part of the LoRA without an error")
L007 = Rule("SOS-L007", "info", "An old loader would drop a part of the LoRA")
L008 = Rule("SOS-L008", "warning", "A loader would refuse the LoRA")
L009 = Rule("SOS-L009", "error", "The base that the LoRA is compared with cannot be read")
L010 = Rule("SOS-L010", "warning", "The stated alpha is not in the file and was never applied")
L011 = Rule("SOS-L011", "warning", "Alpha stands in the metadata only, which ComfyUI ignores")
L012 = Rule("SOS-L012", "warning", "Alpha in the tensors and alpha in the metadata differ")
L013 = Rule("SOS-L013", "error", "Alpha is zero, negative or not a number")
L014 = Rule("SOS-L014", "warning", "An rsLoRA scales by the square root of the rank")
L020 = Rule("SOS-L020", "warning", "The LoRA was trained on another variant than it is asked for")
L021 = Rule("SOS-L021", "info", "Which base the LoRA was trained on is unknown")
L022 = Rule("SOS-L022", "info", "The LoRA's trigger words")
L030 = Rule("SOS-L030", "error", "Tensors of one adapter do not fit each other")
L031 = Rule("SOS-L031", "warning", "The file holds tensors that are no LoRA's")
L032 = Rule("SOS-L032", "error", "A weight is changed twice")


def check_lora(
    path: Path, base: Path | str | None = None, asked_for: str | None = None, trained_on: str = ""
) -> list[Finding]:
    """Everything that can be said of the LoRA `path` from its header, alpha scalars and metadata.

    `base` is a model's file or folder, or a family's name; by default the LoRA's own family.
    `asked_for` names the model that it shall run on (by default `base`'s file name), `trained_on`
    what the user says it was trained on. Never raises a `SosieError`: it becomes a finding.
    """
    try:
        lora = read_lora(path, families(), trained_on)
    except SosieError as error:
        return [L001.at(str(path), error.message, error.hint)]
    return check_read_lora(lora, base, asked_for)


def check_read_lora(
    lora: Lora, base: Path | str | None = None, asked_for: str | None = None, header: Header | None = None
) -> list[Finding]:
    """As `check_lora`, of a LoRA that was read already; `header` is that of the file `base`, if it was read too."""
    found, compared = None, list[Finding]()
    try:
        found = covered(lora, base) if header is None else coverage(lora, header)
        compared = _coverage(lora, found, _title(lora, base))
    except SosieError as error:
        compared = [_at(lora, L009, f"not compared with a base: {error.message}", error.hint)]
    wanted = asked_for or (base.name if isinstance(base, Path) else "")
    known = [*_family(lora, found), *_tensors(lora), *compared]
    return [*known, *_loaders(lora), *_alpha(lora), *_training(lora, wanted)]


def covered(lora: Lora, base: Path | str | None = None) -> Coverage | None:
    """How a LoRA covers a model's file or folder, or a family's table by name; None without any.

    Raises `NotFoundError` or `BadModelError` for a file, `UsageError` for a family without a table.
    """
    if base is None:
        return coverage(lora) if lora.known else None
    if isinstance(base, Path):
        return coverage(lora, base_header(base))
    family = next((each for each in with_tables() if each.name == base), None)
    if family is None:
        near = nearest(base, [each.name for each in with_tables()])
        raise UsageError(f"no table of modules for '{base}'{near}", "give the base model's file instead")
    return coverage(lora, family.adapters.table)


def with_tables() -> tuple[Family, ...]:
    """The families that a LoRA can be compared with by name."""
    return tuple(each for each in families() if each.adapters.table is not None)


def _at(lora: Lora, rule: Rule, message: str, hint: str = "") -> Finding:
    return rule.at(str(lora.path), f"{lora.path.name}: {message}", hint)


def _convert(lora: Lora, *layouts: str) -> str:
    """How to convert it to the first of `layouts` (or `comfy`) that its family has."""
    to = next((to for to in (*layouts, "comfy") if to in lora.support.spellings), "")
    return f"sosie lora convert {lora.path} OUT.safetensors --to {to}" if to else "get it in another layout"


def _family(lora: Lora, found: Coverage | None) -> list[Finding]:
    """An unknown family, unless every tensor matches what the LoRA is compared with."""
    if lora.known or (found is not None and found.matched == found.total):
        return []
    near = f", nearest is {lora.nearest}" if lora.nearest else ""
    message = f"a LoRA for a model that Sosie does not know{near}: {lora.because}"
    return [_at(lora, L002, message, "use it with the model that it was trained for")]


def _tensors(lora: Lora) -> list[Finding]:
    findings: list[Finding] = []
    broken = [adapter for adapter in lora.adapters if adapter.problem]
    if broken:
        first = f"{plain(broken[0].name, 120)}: {broken[0].problem}"
        message = f"{len(broken)} of {len(lora.adapters)} adapters cannot be used, first {first}"
        findings.append(_at(lora, L030, message, "get the file again from its source"))
    if lora.strangers:
        message = (
            f"{len(lora.strangers)} tensors are no LoRA's, first {plain(lora.strangers[0], 120)}; no loader reads them"
        )
        findings.append(_at(lora, L031, message, "ask its maker what they are"))
    seen: set[Module] = set()
    twice = [module for adapter in lora.adapters for module in adapter.targets if module in seen or seen.add(module)]
    if twice:
        message = f"{len(twice)} weights are changed twice (split and fused names), first {twice[0].name}"
        hint = "loaders differ: some add both, some take one; get it in one layout"
        findings.append(_at(lora, L032, message, hint))
    return findings


def _coverage(lora: Lora, found: Coverage | None, name: str) -> list[Finding]:
    if found is None:
        return []
    if found.matched == found.total:
        return [_at(lora, L005, f"{found.message} {name}, {lora.layout.title}; {_how(lora)}")]
    detail = _detail(found)
    if not found.matched:
        message = f"none of its {found.total} tensors matches {name}{detail}"
        return [_at(lora, L003, message, "use it with the model that it was trained for")]
    message = f"{found.message} {name}{detail}; the others have no effect"
    return [_at(lora, L004, message, "use it with the model that it was trained for")]


def _title(lora: Lora, base: Path | str | None) -> str:
    """What it is compared with, for people."""
    if isinstance(base, Path):
        return base.name
    return next((each.title for each in families() if each.name == base), base or lora.title)


def _how(lora: Lora) -> str:
    """Who loads it as it is."""
    seen = outcomes(lora)
    if all(outcome.result == "unknown" for outcome in seen):
        return f"which loaders read it is not known: {seen[0].because}"
    good = [outcome.loader for outcome in seen if outcome.result == "loads"]
    return f"loads as is in {', '.join(good)}" if good else "no loader that was tried reads all of it as is"


def _detail(found: Coverage) -> str:
    texts: list[str] = []
    for names, what in ((found.misfits, "have another size there"), (found.foreign, "do not exist there")):
        if names:
            texts.append(f"{len(names)} modules {what}, first {plain(names[0], 120)}")
    return f" ({'; '.join(texts)})" if texts else ""


def _loaders(lora: Lora) -> list[Finding]:
    findings: list[Finding] = []
    total = len(lora.header.tensors)
    for outcome in outcomes(lora):
        if outcome.result == "fails":
            message = f"{outcome.loader} refuses it: {outcome.because}"
            findings.append(_at(lora, L008, message, _convert(lora)))
        elif outcome.dropped:
            old = outcome.loader == COMFY_OLD
            first = plain(outcome.dropped[0], 120)
            message = (
                f"{outcome.loader} drops {len(outcome.dropped)} of {total} tensors, first {first}: {outcome.because}"
            )
            hint = f"update ComfyUI, or {_convert(lora, 'fused')}" if old else _convert(lora)
            findings.append(_at(lora, L007 if old else L006, message, hint))
    return findings


def _alpha(lora: Lora) -> list[Finding]:
    findings: list[Finding] = []
    stated, rank, peft = lora.training.alpha, max(lora.ranks, default=0), lora.training.peft
    bad = [value for value in lora.alphas.values() if not math.isfinite(value) or value <= 0]
    if bad:
        message = f"alpha is {bad[0]:g} in {len(bad)} adapters, expected above 0; there the LoRA does nothing, or harm"
        findings.append(_at(lora, L013, message, "get the file again, or ask its maker for alpha"))
    if lora.alpha_source == "none" and rank and stated is not None and stated != rank:
        message = (
            f"its metadata states alpha {stated:g} at rank {rank}, but it holds no alpha tensor: every loader takes "
            f"alpha = rank, and so (very probably) did its training"
        )
        hint = f"do not write alpha {stated:g} into it: that would change its strength to {stated / rank:g}"
        findings.append(_at(lora, L010, message, hint))
    differing = [s for s in lora.scales if s != 1]
    if lora.alpha_source == "metadata" and differing:
        message = (
            f"alpha stands in the metadata only: diffusers applies alpha / rank = {differing[0]:g}, "
            "ComfyUI ignores it and applies 1"
        )
        findings.append(_at(lora, L011, message, _convert(lora)))
    if lora.alpha_source == "key" and (other := _contradiction(lora)):
        findings.append(_at(lora, L012, other, _convert(lora)))
    if any(alpha.rslora for alpha in peft.values()):
        message = "it is an rsLoRA: alpha / sqrt(rank) counts, and only diffusers knows that from its metadata"
        findings.append(_at(lora, L014, message, _convert(lora)))
    return findings


def _contradiction(lora: Lora) -> str:
    """What the metadata says of an adapter's alpha, if its tensor says otherwise."""
    for adapter in lora.adapters:
        stored = lora.training.peft.get(adapter.prefix.component)
        alpha = lora.alpha(adapter)
        if stored is not None and alpha.source == "key" and adapter.targets:
            value = stored.of(adapter.targets[0].name)
            if value != alpha.value:
                return (
                    f"alpha of {plain(adapter.name, 120)} is {alpha.value:g} as a tensor and {value:g} in the metadata"
                )
    return ""


def _training(lora: Lora, wanted: str) -> list[Finding]:
    findings = _variants(lora, wanted)
    words = ", ".join(lora.training.triggers)
    message = f"trigger words: {words}" if words else "its metadata names no trigger word"
    findings.append(_at(lora, L022, message, "" if words else "ask its maker for the trigger word"))
    return findings


def _variants(lora: Lora, wanted: str) -> list[Finding]:
    """Whether it was trained on a variant that takes LoRAs of the one that it is asked for."""
    variants, base = lora.support.variants, lora.training.base
    if variants is None:
        return []
    if base == UNKNOWN:
        message = (
            f"its metadata does not say which {lora.title} it was trained on "
            f"({_listed(variants.titles.values(), 'and')} LoRAs look the same)"
        )
        return [_at(lora, L021, message, f"say it: --trained-on {_listed(variants.titles, 'or')}")]
    trained, asked = variants.named(base), variants.named(wanted)
    if not trained or not asked or asked in variants.akin(trained):
        return []
    message = (
        f"trained on {lora.title} {variants.titles[trained]} ({plain(base)}), asked to run on "
        f"{lora.title} {variants.titles[asked]}: it loads, but its effect there is a matter of luck"
    )
    first = ", then ".join(variants.titles[name] for name in variants.akin(trained))
    return [_at(lora, L020, message, f"try it on {first} first")]


def _listed(words: Iterable[str], last: str) -> str:
    """`a, b and c`."""
    *rest, end = words
    return f"{', '.join(rest)} {last} {end}" if rest else end
