"""Everything that can be said of a recipe before it runs: its files, what they are, its settings, its licences."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from sosie.core import Character, Finding, Guide, Recipe, Request, Stage
from sosie.core.plan import needed_stages
from sosie.doctor.assembly import Assembly, GuidePart, LoraPart, Part, Parts, Settings
from sosie.doctor.guides import check_guides
from sosie.doctor.licences import check_licences
from sosie.doctor.models import check_assets
from sosie.doctor.sampling import check_sampling
from sosie.doctor.slots import check_complete, check_slots
from sosie.doctor.stage_loras import check_stage_loras
from sosie.workspace.library import find_asset
from sosie.workspace.workspace import Workspace

CHECKS = (check_slots, check_stage_loras, check_sampling, check_guides)
"""What is checked of every stage, and of every sampler of a graph."""


def check_recipe(
    workspace: Workspace,
    recipe: Recipe,
    character: Character | None = None,
    request: Request | None = None,
    known: Path | None = None,
) -> list[Finding]:
    """All findings of a recipe's stages (those of a request, and of a repair), of their files and licences.

    With a character its LoRAs are checked too. `known` is the user's table of variants. No weight is loaded.
    """
    stages = needed_stages(recipe, character, request)
    parts = Parts(partial(find_asset, workspace), known)
    trained_on = {character.lora_name(lora): lora.trained_on for lora in character.loras} if character else {}
    findings = check_assets(workspace, recipe, stages)
    for place, stage in enumerate(stages):
        where = f"{'stage' if place < len(stages) - len(recipe.repair) else 'repair'} {stage.kind}"
        assembly = _assembly((recipe.name, where), stage, parts, trained_on)
        findings += [finding for check in (*CHECKS, check_complete) for finding in check(assembly)]
    findings += parts.findings
    findings += check_licences(workspace, recipe, stages)
    return list(dict.fromkeys(findings))


def _assembly(named: tuple[str, str], stage: Stage, parts: Parts, trained_on: dict[str, str]) -> Assembly:
    sampler = stage.sampler
    encoder = parts.part(stage.text_encoder)
    return Assembly(
        subject=named[0],
        where=named[1],
        family=stage.family,
        model=parts.part(stage.model),
        encoders=(encoder,) if encoder else (),
        vae=parts.part(stage.vae),
        loras=tuple(
            LoraPart(parts.part(use.file) or Part(use.file), use.weight, trained_on.get(use.file, ""))
            for use in stage.loras
        ),
        guides=tuple(_guide(guide, parts) for guide in stage.guides),
        settings=Settings(sampler.steps, sampler.cfg, sampler.denoise, sampler.shift or None, stage.precision),
    )


def _guide(guide: Guide, parts: Parts) -> GuidePart:
    return GuidePart(
        kind=guide.kind,
        scale=guide.scale,
        weights=parts.part(guide.weights),
        encoder=guide.encoder,
        image_encoder=parts.part(guide.image_encoder),
        controlnet=parts.part(guide.keypoints.controlnet) if guide.keypoints else None,
    )
