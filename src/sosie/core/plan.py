"""A Plan: one image, fully resolved. After `plan()` nothing reads configuration or clock."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from sosie.core.character import Character
from sosie.core.errors import NotFoundError, UsageError, nearest
from sosie.core.prompt import final
from sosie.core.recipe import CHARACTER_LORA, MAX_SIDE, Acceptance, LoraUse, Recipe, Stage
from sosie.core.request import Request
from sosie.core.schema import digest, from_table, to_table

ORDER = ("generate", "refine", "detail", "upscale")
"""The order in which stages that were chosen one by one are run."""


@dataclass(frozen=True)
class Asset:
    """A file or folder that a plan uses: the name it was asked by and what it contains.

    `sha256` is the digest of a file's bytes (of a folder: of its sorted listing of digests), or
    empty for a remote file that cannot be read: then name and server are all that is known.
    """

    name: str
    sha256: str


@dataclass(frozen=True)
class Draw:
    """Which image of a request this is: its index, the attempt, and the plan it replaces.

    A repair names the digest of the pixels of the parent's image, which it works on, as `source`.
    """

    index: int = 0
    attempt: int = 0
    parent: str = ""
    source: str = ""

    @property
    def is_repair(self) -> bool:
        """Whether it mends the parent's image rather than drawing a new one."""
        return bool(self.source)


@dataclass(frozen=True)
class Plan:
    """One image: recipe + character + request, resolved, beside what was asked.

    Everything but `requested` is the plan's content, and `id` is its hash: two requests that
    resolve to the same content are the same plan. `prompt` is the final text. `source` is the
    digest of the pixels that the first stage works on; empty: it draws from noise. With `watermark`
    the image carries 64 bits of the id.
    """

    recipe: str
    stages: tuple[Stage, ...]
    acceptance: Acceptance
    character: Character
    prompt: str
    negative_prompt: str
    width: int
    height: int
    seed: int
    draw: Draw
    assets: tuple[Asset, ...]
    requested: Request
    source: str = ""
    watermark: bool = False

    @cached_property
    def id(self) -> str:
        """SHA-256 of the content, 64 hex digits. Without a watermark it is that of plans before there was one."""
        content = {key: value for key, value in to_table(self).items() if key != "requested"}
        if not self.watermark:
            del content["watermark"]
        return digest(content)

    def asset(self, name: str) -> Asset:
        """The asset asked for by `name`; an unknown name is an error."""
        for asset in self.assets:
            if asset.name == name:
                return asset
        raise NotFoundError(f"plan {self.id[:12]} has no asset '{name}'{nearest(name, [a.name for a in self.assets])}")

    def stage_seed(self, index: int) -> int:
        """The seed of the stage at `index`: the plan's own for the first, 63 bits derived from it after."""
        return self.seed if index == 0 else derive_seed(self.seed, index, 0)

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values; `from_json` gives an equal plan with the same id."""
        return to_table(self)

    @staticmethod
    def from_json(table: Mapping[str, Any]) -> Plan:
        """The plan that `to_json` wrote; unknown keys are errors."""
        return from_table(Plan, table, "plan")


def derive_seed(seed: int, index: int, attempt: int) -> int:
    """63 bits of SHA-256 over the request's seed, the image's index and the attempt."""
    text = f"{seed}:{index}:{attempt}".encode()
    return int.from_bytes(hashlib.sha256(text).digest()[:8], "big") >> 1


def plan(recipe: Recipe, character: Character, request: Request, draw: Draw, assets: Mapping[str, str]) -> Plan:
    """Resolves one image; pure.

    `assets` maps every name that `asset_names` lists to its SHA-256. Raises `NotFoundError` if
    one is missing and `UsageError` for a size, seed or choice of stages that is not possible.
    """
    stages = resolve_stages(recipe, character, request, draw.is_repair)
    width, height = request.width or recipe.width, request.height or recipe.height
    source = draw.source or request.source
    _check_size(width, height, source)
    if not 0 <= request.seed < 2**63:
        raise UsageError(f"seed {request.seed} is out of range: 0 to {2**63 - 1}")
    names = asset_names(stages)
    if missing := [name for name in names if name not in assets]:
        raise NotFoundError(f"recipe '{recipe.name}' needs '{missing[0]}', which was not found", "sosie model list")
    negative = recipe.negative_prompt if request.negative_prompt is None else request.negative_prompt
    used = tuple(lora for lora in character.loras if character.lora_name(lora) in names)
    return Plan(
        recipe=recipe.name,
        stages=stages,
        acceptance=recipe.acceptance,
        character=replace(character, loras=used),
        prompt=_prompt(recipe.prompt, character, request.prompt, stages),
        negative_prompt=negative,
        width=width,
        height=height,
        seed=derive_seed(request.seed, draw.index, draw.attempt),
        draw=draw,
        assets=tuple(Asset(name, assets[name]) for name in names),
        requested=request,
        source=source,
        watermark=recipe.provenance.watermark,
    )


def resolve_stages(recipe: Recipe, character: Character, request: Request, repair: bool = False) -> tuple[Stage, ...]:
    """The stages that a request (or a repair of its images) runs, with the character's LoRAs and texts filled in.

    Raises `UsageError` if a kind that was asked for is not in the recipe, or a source is missing
    or too much.
    """
    chosen = recipe.repair if repair else _requested(recipe, request)
    resolved: list[Stage] = []
    for stage in chosen:
        loras = tuple(use for asked in stage.loras for use in _lora(asked, stage, character))
        share = min((use.guide_scale for use in loras), default=1.0)
        guides = tuple(replace(guide, scale=guide.scale * share) for guide in stage.guides)
        loras = tuple(replace(use, guide_scale=1.0) for use in loras)
        stage = request.changes(replace(stage, loras=loras, guides=guides))  # noqa: PLW2901
        text = _prompt(stage.prompt, character, request.prompt, (stage,)) if stage.prompt else ""
        resolved.append(replace(stage, prompt=text))
    return tuple(resolved)


def needed_stages(
    recipe: Recipe, character: Character | None = None, request: Request | None = None
) -> tuple[Stage, ...]:
    """Every stage that may run for a request: those of its images and those of a repair.

    Without a character its LoRAs are left out, without a request the recipe's own stages count.
    """
    who = character or Character("nobody", "fictional", True)
    asked = request or Request(recipe.name, who.name)
    return (*resolve_stages(recipe, who, asked), *resolve_stages(recipe, who, asked, repair=True))


def asset_names(stages: tuple[Stage, ...]) -> tuple[str, ...]:
    """Every file or model that stages name, once, in order."""
    names: dict[str, None] = {}
    for stage in stages:
        names |= dict.fromkeys((stage.model, stage.text_encoder, stage.vae, *(lora.file for lora in stage.loras)))
        names[stage.detail.parser if stage.kind == "detail" else ""] = None
        for guide in stage.guides:
            controlnet = guide.keypoints.controlnet if guide.keypoints else ""
            given = (guide.weights, guide.encoder, guide.image_encoder, guide.lora, controlnet, guide.picture)
            names |= dict.fromkeys(given)
    names.pop("", None)
    return tuple(names)


def without_guides(recipe: Recipe) -> Recipe:
    """The same recipe with nothing that knows the character: the generator of hard impostors."""
    stages = (s for s in recipe.stages if s.kind not in ("detail", "upscale"))
    free = tuple(
        replace(stage, guides=(), loras=tuple(use for use in stage.loras if use.file != CHARACTER_LORA))
        for stage in stages
    )
    return replace(recipe, stages=free, repair=())


def _requested(recipe: Recipe, request: Request) -> tuple[Stage, ...]:
    if not request.source and not request.stages:
        return recipe.stages
    everything = (*recipe.stages, *(stage for stage in recipe.repair if stage.kind not in _kinds(recipe.stages)))
    kinds = request.stages or tuple(kind for kind in _kinds(everything) if kind != "generate")
    for kind in kinds:
        if kind not in _kinds(everything):
            raise UsageError(
                f"recipe '{recipe.name}' has no stage '{kind}'{nearest(kind, _kinds(everything))}",
                f"sosie recipe show {recipe.name}",
            )
    chosen = tuple(sorted((stage for stage in everything if stage.kind in kinds), key=lambda s: ORDER.index(s.kind)))
    if not chosen:
        raise UsageError(f"recipe '{recipe.name}' has no stage that works on an image", "sosie recipe list")
    if bool(request.source) == (chosen[0].kind == "generate"):
        wanted = "no stage 'generate' after it" if request.source else "an image to work on"
        raise UsageError(
            f"stages {', '.join(s.kind for s in chosen)}: expected {wanted}", "sosie generate NAME --from IMAGE"
        )
    return chosen


def _kinds(stages: tuple[Stage, ...]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(stage.kind for stage in stages))


def _lora(asked: LoraUse, stage: Stage, character: Character) -> tuple[LoraUse, ...]:
    """What a stage's LoRA stands for: itself, or the character's own of the stage's family, if there are any."""
    if asked.file != CHARACTER_LORA:
        return (asked,)
    return tuple(
        LoraUse(
            character.lora_name(own), own.weight * asked.weight, own.trigger or character.trigger, asked.guide_scale
        )
        for own in character.loras
        if own.family == stage.family and own.model in ("", stage.model)
    )


def _prompt(template: str, character: Character, prompt: str, stages: tuple[Stage, ...]) -> str:
    triggers = dict.fromkeys(use.trigger for stage in stages for use in stage.loras if use.trigger)
    return final(template, character, prompt, tuple(triggers))


def _check_size(width: int, height: int, source: str) -> None:
    for side in (width, height):
        if not 64 <= side <= MAX_SIDE or (side % 8 and not source):
            raise UsageError(
                f"size {width}x{height} is not possible: each side is 64 to {MAX_SIDE} pixels and a multiple of 8"
            )
