"""Everything that can be said of a recipe before it runs: its files, what they are, its settings, its licences."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from sosie.core import Finding, Guide, Recipe, Stage
from sosie.core.errors import UsageError, nearest
from sosie.core.finding import Rule
from sosie.doctor.assembly import Assembly, GuidePart, LoraPart, Parts, PlacedFile, SamplingSettings
from sosie.doctor.fit.partners import R013, check_complete, check_partners
from sosie.doctor.fit.sampling import check_sampling
from sosie.doctor.fit.slots import check_slots
from sosie.doctor.fit.stage_loras import check_stage_loras
from sosie.doctor.guides import check_guides
from sosie.doctor.licences import check_licences
from sosie.doctor.model_files import F103, F104
from sosie.families import families, find_family, guides_of
from sosie.files.model_file import ModelFile
from sosie.files.storage import unreadable, way_out
from sosie.workspace.bill import Bill

R002 = Rule("SOS-R002", "error", "A file that a recipe names does not exist")
R003 = Rule("SOS-R003", "error", "A recipe's family is not known")
R004 = Rule("SOS-R004", "error", "A name means several files")

NOT_HERE = (R002.code, R004.code, R013.code)
"""What a recipe may have missing here and not on a server that has files of its own."""

STORED = (F103.code, F104.code)

CHECKS = (check_slots, check_partners, check_stage_loras, check_sampling, check_guides)
"""What is checked of every stage, and of every sampler of a graph."""


def check_recipe(recipe: Recipe, bill: Bill) -> list[Finding]:
    """All findings of a recipe's stages, those of `bill`, of their files and licences. No weight is loaded."""
    parts = Parts(bill.known)
    findings = [*_check_families(recipe, bill.stages), *check_files(recipe, bill)]
    for place, stage in enumerate(bill.stages):
        where = f"{'stage' if place < len(bill.stages) - len(recipe.repair) else 'repair'} {stage.kind}"
        assembly = assembly_of((recipe.name, where), stage, lambda name: parts.of(bill[name]) if name else None)
        findings += [finding for check in (*CHECKS, check_complete) for finding in check(assembly)]
    findings += parts.findings if bill.remote else _drawn_here(bill, parts)
    findings += check_licences(recipe, bill)
    return list(dict.fromkeys(findings))


def _drawn_here(bill: Bill, parts: Parts) -> list[Finding]:
    """What is said of the files, where this process draws: how they are stored is an error if it reads them not."""
    drawn: dict[str, ModelFile] = {}
    for stage in bill.stages:
        family = find_family(stage.family)
        if family is not None and family.reads_packed:
            placed = (parts.of(bill[name]) for name in (stage.model, stage.text_encoder) if name)
            drawn |= {str(part.path): part.model for part in placed if part.model is not None}
    told: list[Finding] = []
    for finding in parts.findings:
        model = drawn.get(finding.subject) if finding.code in STORED else None
        if model is None:
            told.append(finding)
        elif refused := unreadable(model.storage):
            message = f"{finding.subject} {refused.holds}, which is not read here"
            told.append(F104.at(finding.subject, message, way_out(refused, model.plain_file), severity="error"))
    return told


def _check_families(recipe: Recipe, stages: tuple[Stage, ...]) -> list[Finding]:
    """SOS-R003 for each stage whose family is not known."""
    known = {family.name for family in families()}
    return [
        R003.at(
            recipe.name,
            f"family '{stage.family}' is not known{nearest(stage.family, known)}",
            f"sosie recipe show {recipe.name}",
        )
        for stage in stages
        if stage.family not in known
    ]


def check_files(recipe: Recipe, bill: Bill) -> list[Finding]:
    """SOS-R002 for each file that is missing, SOS-R004 for each name that means several files."""
    findings: list[Finding] = []
    for entry in bill:
        problem = entry.problem
        if isinstance(problem, UsageError):
            findings.append(R004.at(recipe.name, problem.message, problem.hint))
        elif problem is not None:
            hint = _hint(recipe, entry.name) or problem.hint
            findings.append(R002.at(recipe.name, problem.message, hint))
    return findings


def _hint(recipe: Recipe, name: str) -> str:
    """How to get a file of which the recipe says where it comes from, or that the user brings it; empty if neither."""
    file = recipe.source_of(name)
    if file is None:
        return ""
    if file.source:
        return f"it comes from {file.source}: sosie model fetch {recipe.name}"
    return f'the choice is yours: name your file in sosie.toml under [models]: {name} = "PATH"'


def assembly_of(named: tuple[str, str], stage: Stage, part: Callable[[str], PlacedFile | None]) -> Assembly:
    """A stage with the files that `part` gives for its names; `named` is the recipe and the stage, for messages."""
    sampler = stage.sampler
    encoder, vae = part(stage.text_encoder), part(stage.vae)
    return Assembly(
        subject=named[0],
        where=named[1],
        family=stage.family,
        model=part(stage.model),
        encoders=(encoder,) if encoder else (),
        vaes=(vae,) if vae else (),
        loras=tuple(LoraPart(part(use.file) or PlacedFile(use.file), use.weight) for use in stage.loras),
        guides=tuple(_guide(guide, part) for guide in stage.guides),
        settings=SamplingSettings(
            sampler.steps,
            sampler.cfg,
            sampler.denoise,
            sampler.shift or None,
            stage.precision,
            (sampler.cfg_start, sampler.cfg_end),
        ),
        references=_references(stage),
    )


def _references(stage: Stage) -> Literal["", "with a VAE", "without a VAE"]:
    """As a graph's node has them: whether a guide gives the model reference images, and with what."""
    takes = guides_of(stage.family).references
    if takes is None or not takes.guide or not any(guide.kind == takes.guide for guide in stage.guides):
        return ""
    return "with a VAE" if stage.vae else "without a VAE"


def _guide(guide: Guide, part: Callable[[str], PlacedFile | None]) -> GuidePart:
    return GuidePart(
        kind=guide.kind,
        scale=guide.scale,
        weights=part(guide.weights),
        encoder=guide.encoder,
        image_encoder=part(guide.image_encoder),
        controlnet=part(guide.keypoints.controlnet) if guide.keypoints else None,
        span=(guide.start, guide.end),
        pictures=guide.references,
    )
