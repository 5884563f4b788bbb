"""Whether the LoRAs of a stage fit its model: the family, the tensors, and what they were trained on."""

from __future__ import annotations

from dataclasses import replace

from sosie.core import Finding
from sosie.core.finding import Rule
from sosie.doctor.assembly import Assembly, LoraPart
from sosie.doctor.fit.slots import misplaced
from sosie.doctor.loras import L005, check_read_lora, nearest_size
from sosie.families import find_family
from sosie.lora import Lora, coverage

R014 = Rule("SOS-R014", "error", "A LoRA is for another family than the stage")

SHOWN = (L005.code,)
"""Infos of a LoRA that are worth a line here: how many of its tensors match."""


OTHER_NAMES = ("svdquant", "awq", "gptq")
"""Storages whose tensors are called otherwise than those that a LoRA is for: their names say nothing of it."""


def check_stage_loras(assembly: Assembly) -> list[Finding]:
    """SOS-R010 for what is no LoRA, SOS-R014 for another family, and what the LoRA's own check (SOS-L) finds."""
    return [finding for lora in assembly.loras for finding in _lora(assembly, lora)]


def _lora(a: Assembly, used: LoraPart) -> list[Finding]:
    part = used.part
    if part.lora is None or part.path is None:
        return list(misplaced(a, part, ("lora",)))
    if _is_for_another(a, part.lora):
        message = (
            f"LoRA '{part.name}' is for {part.lora.family}, the stage draws with {a.family}: it would have no effect"
        )
        return [a.finding(R014, message, f"train or get one for {a.title}")]
    base = a.model if a.model and a.model.model and a.model.header else None
    if base is not None and base.model is not None and base.model.storage in OTHER_NAMES:
        base = None
    path = base.path if base else None
    asked = a.variant or (path.name if path else "")
    header = base.header if base else None
    found = check_read_lora(part.lora, path, asked, header, used.denoiser_only)
    kept = [finding for finding in found if finding.severity != "info" or finding.code in SHOWN]
    return [replace(finding, subject=a.subject, message=f"{a.where}: {finding.message}") for finding in kept]


def _is_for_another(a: Assembly, lora: Lora) -> bool:
    """True if it is known for another family than the stage, whose model less than half of it matches."""
    if not lora.family or not a.family or a.family in (lora.family, *lora.also):
        return False
    family, header = find_family(a.family), a.model.header if a.model else None
    if family is None or not family.adapters.tables:
        return True
    found = coverage(lora, header) if header is not None else coverage(lora, nearest_size(lora, family))
    return found.matched == 0 or 2 * found.matched < found.total
