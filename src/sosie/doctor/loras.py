"""Checks of a LoRA file: what it is, what it fits, who would drop what, and whether alpha is what it seems."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from sosie.core import Finding
from sosie.core.errors import SosieError, UsageError, nearest
from sosie.core.finding import Rule, Severity
from sosie.families import Family, families
from sosie.files.safetensors import Header
from sosie.lora import Coverage, Lora, Outcome, coverage, outcomes, read_lora
from sosie.lora.adapters import Adapter
from sosie.lora.convert import refusal
from sosie.lora.coverage import base_header
from sosie.lora.layouts import NAMES
from sosie.lora.loaders import COMFY, NOT_READ, is_old
from sosie.lora.modules import Module, Table
from sosie.lora.training import UNKNOWN, plain

L001 = Rule("SOS-L001", "error", "The LoRA file is broken, or it is no LoRA")
L002 = Rule("SOS-L002", "info", "The LoRA is for a family that is not known")
L003 = Rule("SOS-L003", "error", "No tensor of the LoRA matches the base")
L004 = Rule("SOS-L004", "warning", "Only some tensors of the LoRA match the base")
L005 = Rule("SOS-L005", "info", "How much of the LoRA matches the base, and in which layout")
L006 = Rule("SOS-L006", "warning", "A loader would drop a part of the LoRA without an error")
L007 = Rule("SOS-L007", "info", "An old ComfyUI would drop a part of the LoRA")
L008 = Rule("SOS-L008", "warning", "A loader would refuse the LoRA")
L009 = Rule("SOS-L009", "error", "The base that the LoRA is compared with cannot be read")
L010 = Rule("SOS-L010", "warning", "The stated alpha is not in the file and was never applied")
L011 = Rule("SOS-L011", "warning", "Alpha stands in the metadata only, which ComfyUI ignores")
L012 = Rule("SOS-L012", "warning", "Alpha in the tensors and alpha in the metadata differ")
L013 = Rule("SOS-L013", "error", "Alpha is zero, negative or not a number")
L014 = Rule("SOS-L014", "warning", "An rsLoRA scales by the square root of the rank")
L015 = Rule("SOS-L015", "info", "The LoRA brings words that it learned")
L016 = Rule("SOS-L016", "warning", "A loader has no reader for the LoRA's algorithm")
L017 = Rule("SOS-L017", "warning", "The node does not reach a part of the LoRA")
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
    lora: Lora,
    base: Path | str | None = None,
    asked_for: str | None = None,
    header: Header | None = None,
    denoiser_only: bool = False,
) -> list[Finding]:
    """As `check_lora`, of a LoRA that was read already; `header` is that of the file `base`, if it was read too.

    With `denoiser_only` it is given to a model alone: what it has for text encoders is not reached.
    """
    found, compared = None, list[Finding]()
    try:
        found = covered(lora, base, header, denoiser_only)
        compared = _coverage(lora, found, _title(lora, base))
    except SosieError as error:
        compared = [_at(lora, L009, f"not compared with a base: {error.message}", error.hint)]
    wanted = asked_for or (base.name if isinstance(base, Path) else "")
    known = [*_family(lora, found), *_tensors(lora), *compared]
    return [*known, *_loaders(lora), *_alpha(lora), *_training(lora, wanted)]


def covered(
    lora: Lora, base: Path | str | None = None, header: Header | None = None, denoiser_only: bool = False
) -> Coverage | None:
    """How a LoRA covers a model's file or folder, or a family's table by name; None without any.

    Raises `NotFoundError` or `BadModelError` for a file, `UsageError` for a family without a table.
    """
    if header is not None:
        return coverage(lora, header, denoiser_only)
    if base is None:
        return coverage(lora, None, denoiser_only) if lora.known else None
    if isinstance(base, Path):
        return coverage(lora, base_header(base), denoiser_only)
    family = next((each for each in with_tables() if each.name == base), None)
    if family is None:
        near = nearest(base, [each.name for each in with_tables()])
        raise UsageError(f"no table of modules for '{base}'{near}", "give the base model's file instead")
    return coverage(lora, nearest_size(lora, family), denoiser_only)


def nearest_size(lora: Lora, family: Family) -> Table:
    """The table of a family that most of a LoRA's tensors match: its own where it is the family's."""
    tables = family.adapters.tables
    if lora.table in tables:
        return lora.table
    return max(tables, key=lambda table: coverage(lora, table).matched)


def with_tables() -> tuple[Family, ...]:
    """The families that a LoRA can be compared with by name."""
    return tuple(each for each in families() if each.adapters.table is not None)


def _at(lora: Lora, rule: Rule, message: str, hint: str = "", severity: Severity | None = None) -> Finding:
    return rule.at(str(lora.path), f"{lora.path.name}: {message}", hint, severity=severity)


def _convert(lora: Lora, *layouts: str) -> str:
    """How to convert it to the first of `layouts` (or `comfy`) that takes it, or empty."""
    to = next((to for to in (*layouts, "comfy") if to in lora.support.layouts and not refusal(lora, to)), "")
    return f"sosie lora convert {lora.path} OUT.safetensors --to {to}" if to else ""


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
            f"{len(lora.strangers)} tensors are not named as a LoRA's, first {plain(lora.strangers[0], 120)}; "
            f"{COMFY} and diffusers pass over them"
        )
        findings.append(_at(lora, L031, message, "use it with the program of its maker, if it acts too weakly"))
    for word, encoders in lora.words.items():
        message = (
            f"it brings the embedding '{plain(word)}' ({', '.join(map(plain, encoders))}), which LoRA loaders pass "
            f"over: {COMFY} reads it if the same file also lies in models/embeddings"
        )
        hint = f"put a copy there, and write embedding:{lora.path.stem} into the prompt"
        findings.append(_at(lora, L015, message, hint))
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
    unreached = list[Finding]()
    if found.unreached:
        message = (
            f"{found.unreached} of its tensors are for text encoders, which a loader of the model alone does not "
            "reach: they have no effect"
        )
        unreached.append(_at(lora, L017, message, "load it with LoraLoader, which takes the CLIP too"))
    if not found.total:
        return unreached
    if found.matched == found.total:
        rest = f" ({found.unjudged} of norms, biases or a text encoder are not judged)" if found.unjudged else ""
        message = f"{found.message} {name}{_size(lora)}{rest}, {_kind(lora)}{lora.layout.title}; {_how(lora)}"
        return [_at(lora, L005, message), *unreached]
    if not lora.known and not found.matched:
        return []
    detail = _detail(found)
    hint = "use it with the model that it was trained for"
    if not found.matched:
        return [_at(lora, L003, f"none of its {found.total} tensors matches {name}{detail}", hint)]
    return [_at(lora, L004, f"{found.message} {name}{detail}; the others have no effect", hint), *unreached]


def _kind(lora: Lora) -> str:
    """The algorithms that it is of, if it is no plain LoRA."""
    kinds = [NAMES[name] for name in lora.algorithms if name not in ("set", "norm")]
    return "" if kinds == [NAMES["lora"]] else f"{' + '.join(kinds)}, "


def _size(lora: Lora) -> str:
    """The size of the family's model that it is for, and other families that it fits, for people."""
    size = f" ({lora.variant})" if lora.table and lora.table.title else ""
    also = [each.title for each in families() if each.name in lora.also]
    return size + (f" (and {_listed(also, 'and')})" if also else "")


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
    good = [outcome.loader for outcome in seen if outcome.result == "loads" and not is_old(outcome)]
    return f"loads as is in {', '.join(good)}" if good else "no loader that was tried reads all of it as is"


def _detail(found: Coverage) -> str:
    texts: list[str] = []
    for names, what in ((found.misfits, "have another size there"), (found.foreign, "do not exist there")):
        if names:
            texts.append(f"{len(names)} modules {what}, first {plain(names[0], 120)}")
    return f" ({'; '.join(texts)})" if texts else ""


def _loaders(lora: Lora) -> list[Finding]:
    """What is dropped or refused: by its names, which a conversion changes, or by its algorithm, which none changes."""
    findings: list[Finding] = []
    seen = outcomes(lora)
    now = next((each for each in seen if each.loader == COMFY), None)
    lost = set(now.dropped) if now else set[str]()
    for outcome in reversed([each for each in seen if is_old(each)]):
        if more := [name for name in outcome.dropped if name not in lost]:
            message = f"{outcome.loader} drops {len(more)} of {lora.total} tensors, first {plain(more[0], 120)}"
            findings.append(_at(lora, L007, message, _or("update ComfyUI", _convert(lora, "fused"))))
            break
    for outcome in seen:
        if outcome.result == "fails":
            findings.append(_refused(lora, outcome, not lost))
        elif not is_old(outcome) and (names := [name for name in outcome.dropped if name not in lora.strangers]):
            findings.append(_dropped(lora, replace(outcome, dropped=tuple(names))))
    return findings


READERS = {
    "ia3": "load it with the LoRA extension that A1111 and Forge have built in, which reads it",
    "oft": "load it with kohya's scripts, or the LoRA extension that A1111 and Forge have built in",
    "vera": "load it with peft",
}
"""Who reads an algorithm that ComfyUI does not, by algorithm."""


def _dropped(lora: Lora, outcome: Outcome) -> Finding:
    """A part that a loader passes over: mended by other names, or not."""
    lost = set(outcome.dropped)
    touched = [adapter for adapter in lora.adapters if not lost.isdisjoint(adapter.keys.values())]
    first = plain(outcome.dropped[0], 120)
    message = f"{outcome.loader} drops {len(lost)} of {lora.total} tensors, first {first}: {outcome.because}"
    if outcome.loader == COMFY and (odd := next((a for a in touched if a.algorithm in NOT_READ or a.odd), None)):
        return _at(lora, L016, message, _reader(odd))
    if outcome.loader != COMFY and lost <= {adapter.keys.get("dora") for adapter in touched}:
        return _at(lora, L006, message, f"load it with {COMFY}, which reads DoRA", "info")
    mended = _convert(lora) if any(adapter.targets for adapter in touched) else ""
    return _at(lora, L006, message, mended or "use it with the program that wrote it")


def _refused(lora: Lora, outcome: Outcome, comfy_reads: bool) -> Finding:
    """A loader stops at it: at its algorithm, which is good to know and which no layout mends, or at its layout."""
    message = f"{outcome.loader} refuses it: {outcome.because}"
    odd = next((a for a in lora.adapters if a.algorithm != "lora"), None)
    if odd is None:
        return _at(lora, L008, message, _convert(lora) or "use it with the program that wrote it")
    cure = f"load it with {COMFY}" if comfy_reads else _convert(lora)
    return _at(lora, L008, message, cure or _reader(odd), "info")


def _reader(adapter: Adapter) -> str:
    """Which program to use for an algorithm that ComfyUI does not read."""
    own = "load it with OneTrainer or peft" if adapter.style in ("oft_R", "boft_R") else READERS.get(adapter.algorithm)
    return own or "use it with the program that wrote it"


def _or(*cures: str) -> str:
    return ", or ".join(filter(None, cures))


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
        strength = f"in ComfyUI, set its strength to {differing[0]:g}" if len(lora.scales) == 1 else ""
        cure = _or(_convert(lora), strength) or "load it with diffusers"
        findings.append(_at(lora, L011, message, cure))
    if lora.alpha_source == "key" and (other := _contradiction(lora)):
        findings.append(_at(lora, L012, other, _convert(lora) or "ask its maker if the strength is wrong"))
    if any(alpha.rslora for alpha in peft.values()):
        message = "it is an rsLoRA: alpha / sqrt(rank) counts, and only diffusers knows that from its metadata"
        findings.append(_at(lora, L014, message, _convert(lora) or "load it with diffusers"))
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
