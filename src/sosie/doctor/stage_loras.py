"""Whether the LoRAs of a stage fit its model: the family, the tensors, and what they were trained on."""

from __future__ import annotations

from dataclasses import replace

from sosie.core import Finding
from sosie.core.finding import Rule
from sosie.doctor.assembly import Assembly, LoraPart
from sosie.doctor.loras import L005, check_read_lora
from sosie.doctor.slots import misplaced

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
    if part.lora.family and a.family and a.family not in (part.lora.family, *part.lora.also):
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
