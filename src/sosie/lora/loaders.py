"""What each loader would do with a LoRA file, and what it would silently drop.

ComfyUI takes the names of a model's weights and looks for tensors named so: a LoRA key that fits
none is one log line. Its map for Z-Image's split names came on 2025-11-28 (ComfyUI #10978);
kohya names with split q, k, v are still not in it (#11487). diffusers 0.42 was observed by loading
every layout onto small Z-Image and SDXL models.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from sosie.lora.adapters import Adapter
from sosie.lora.lora import Lora
from sosie.lora.modules import underscored

Result = Literal["loads", "partial", "nothing", "fails", "unknown"]

COMFY_OLD, COMFY, DIFFUSERS = "ComfyUI before 2025-11-28", "ComfyUI", "diffusers 0.42"
LOADERS = (COMFY_OLD, COMFY, DIFFUSERS)


@dataclass(frozen=True)
class Outcome:
    """What a loader does: loads all, loads a part, has no effect, fails with an error, or not known.

    `dropped` are the names of the tensors that have no effect; `because` says why, empty if all load.
    """

    loader: str
    result: Result
    dropped: tuple[str, ...]
    because: str


def outcomes(lora: Lora) -> tuple[Outcome, ...]:
    """One outcome for each of `LOADERS`; all are unknown for an unknown family or mixed prefixes."""
    if not lora.family or lora.layout.naming == "mixed":
        because = "its prefixes are mixed" if lora.family else "its family is not known"
        return tuple(Outcome(loader, "unknown", (), because) for loader in LOADERS)
    return (_comfy(lora, COMFY_OLD), _comfy(lora, COMFY), _diffusers(lora))


def _comfy(lora: Lora, loader: str) -> Outcome:
    if lora.family == "sdxl" and lora.layout.naming in ("diffusers", "bare") and lora.layout.style != "_lora.down":
        return Outcome(
            loader, "unknown", (), "diffusers names of SDXL with lora_A were not tried; kohya's load everywhere"
        )
    reads = _reads_sdxl if lora.family == "sdxl" else _reads_old if loader == COMFY_OLD else _reads_new
    dropped = [name for a in lora.adapters if not reads(a) for name in a.keys.values()]
    dropped += [
        a.keys["dora"] for a in lora.adapters if a.dora and reads(a) and not a.keys["dora"].endswith("dora_scale")
    ]
    return _summed(
        lora, loader, [*dropped, *lora.strangers], "it looks for other names and only logs 'lora key not loaded'"
    )


def _reads_sdxl(adapter: Adapter) -> bool:
    if adapter.prefix.naming == "comfy":
        return _spelled_as(adapter, single=True)
    return bool(adapter.targets) and adapter.prefix.naming != "peft"


def _reads_old(adapter: Adapter) -> bool:
    return adapter.prefix.text in ("diffusion_model.", "lora_unet_") and _spelled_as(adapter, single=True)


def _reads_new(adapter: Adapter) -> bool:
    if adapter.prefix.naming in ("diffusers", "bare", "lycoris"):
        return _spelled_as(adapter, single=False)
    if adapter.prefix.naming == "comfy":
        return bool(adapter.targets)
    return adapter.prefix.text == "lora_unet_" and _spelled_as(adapter, single=True)


def _spelled_as(adapter: Adapter, single: bool) -> bool:
    """True if the file names the module as single files do (or as diffusers does)."""
    names = {target.single if single else target.name for target in adapter.targets}
    return adapter.module in names or adapter.module in {underscored(name) for name in names}


def _diffusers(lora: Lora) -> Outcome:
    styles = {a.style for a in lora.adapters}
    alpha = any("alpha" in a.keys for a in lora.adapters)
    algorithms = {a.algorithm for a in lora.adapters}
    if algorithms == {"lokr"} and lora.family == "zimage":
        return Outcome(DIFFUSERS, "unknown", (), "it has a reader for LoKr, which was not tried")
    if algorithms != {"lora"} or any("mid" in a.keys for a in lora.adapters):
        odd = sorted(algorithms - {"lora"}) or ["Tucker cores"]
        return Outcome(DIFFUSERS, "fails", (), f"it does not read {odd[0]}")
    why = (_fails_on_zimage if lora.family == "zimage" else _fails_on_sdxl)(lora, styles, alpha)
    if why:
        return Outcome(DIFFUSERS, "fails", (), why)
    naming, every = lora.layout.naming, tuple(lora.header.tensors)
    heard = ("kohya", "diffusers") if lora.family == "sdxl" else ("kohya", "diffusers", "comfy")
    converted = lora.family == "zimage" and naming == "bare" and (alpha or "lora_A.default" in styles)
    foreign = any(a.prefix.text == "lora_transformer_" for a in lora.adapters)
    if foreign or not (converted or naming in heard):
        return Outcome(DIFFUSERS, "nothing", every, "it filters names by their prefix and only logs a warning")
    dropped = [a.keys["dora"] for a in lora.adapters if a.dora and a.keys["dora"].endswith("dora_scale")]
    if naming == "diffusers" or (naming != "kohya" and "lora.down" not in styles):
        dropped += [n for a in lora.adapters if _unread(a) for role, n in a.keys.items() if role != "dora"]
    summed = _summed(lora, DIFFUSERS, [*dropped, *lora.strangers], "it has no such modules and only logs a warning")
    if summed.result == "nothing":
        return Outcome(DIFFUSERS, "fails", (), "it finds none of these modules")
    return summed


def _unread(adapter: Adapter) -> bool:
    """True for a single file's name that diffusers does not translate in dotted layouts."""
    if not adapter.targets:
        return True
    renamed = adapter.style == "lora_down" and adapter.module.endswith(".out")
    return not renamed and not _spelled_as(adapter, single=False)


def _fails_on_zimage(lora: Lora, styles: set[str], alpha: bool) -> str:
    naming, default = lora.layout.naming, "lora_A.default" in styles
    if naming in ("diffusers", "onetrainer", "peft", "lycoris") or _other_kohya(lora):
        if alpha:
            return "it takes the prefix for a part of the names as soon as alpha tensors are there"
        if default:
            return "it takes the prefix for a part of the names when an adapter name (default) is there"
    if naming == "diffusers" and "lora_down" in styles:
        return "with this prefix it expects lora_A and lora_B"
    if lora.layout.fusion in ("fused", "mixed") and styles & {"lora_A", "lora_A.default"} and alpha:
        return "alpha of the fused q, k, v is left over"
    return ""


def _other_kohya(lora: Lora) -> bool:
    return any(adapter.prefix.text == "lora_transformer_" for adapter in lora.adapters)


def _fails_on_sdxl(lora: Lora, styles: set[str], alpha: bool) -> str:
    if lora.layout.naming == "kohya":
        return ""
    if alpha:
        return "it wants 'lora' in every name, and alpha's have none"
    if lora.layout.naming == "diffusers" and styles & {"lora_down", "lora_A.default"}:
        return "with this prefix it expects lora_A and lora_B"
    return ""


def _summed(lora: Lora, loader: str, dropped: list[str], because: str) -> Outcome:
    if not dropped:
        return Outcome(loader, "loads", (), "")
    result: Result = "nothing" if len(dropped) == len(lora.header.tensors) else "partial"
    return Outcome(loader, result, tuple(dropped), because)
