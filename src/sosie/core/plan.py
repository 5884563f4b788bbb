"""A Plan: one image, fully resolved. After `plan()` nothing reads configuration or clock."""

from __future__ import annotations

import dataclasses
import hashlib
import re
import string
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from sosie.core.character import Character
from sosie.core.errors import ConfigError, NotFoundError, UsageError, nearest
from sosie.core.recipe import Acceptance, Recipe, Stage
from sosie.core.schema import digest, from_table, to_table

MAX_SIDE = 8192


@dataclass(frozen=True)
class Asset:
    """A file or folder that a plan uses: the name it was asked by and what it contains.

    `sha256` is the digest of a file's bytes (of a folder: of its sorted listing of digests), or
    empty for a remote file that cannot be read: then name and server are all that is known.
    """

    name: str
    sha256: str


@dataclass(frozen=True)
class Request:
    """What was asked, before anything was resolved. Seed: 0 to 2^63 - 1."""

    recipe: str
    character: str
    prompt: str = ""
    negative_prompt: str | None = None
    seed: int = 0
    width: int | None = None
    height: int | None = None


@dataclass(frozen=True)
class Draw:
    """Which image of a request this is: its index, the attempt, and the plan it replaces."""

    index: int = 0
    attempt: int = 0
    parent: str = ""


@dataclass(frozen=True)
class Plan:
    """One image: recipe + character + request, resolved, beside what was asked.

    Everything but `requested` is the plan's content, and `id` is its hash: two requests that
    resolve to the same content are the same plan. `prompt` is the final text.
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

    @cached_property
    def id(self) -> str:
        """SHA-256 of the content, 64 hex digits."""
        return digest({k: v for k, v in to_table(self).items() if k != "requested"})

    def asset(self, name: str) -> Asset:
        """The asset asked for by `name`; an unknown name is an error."""
        for asset in self.assets:
            if asset.name == name:
                return asset
        raise NotFoundError(f"plan {self.id[:12]} has no asset '{name}'{nearest(name, [a.name for a in self.assets])}")

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
    one is missing and `UsageError` for a size or seed out of range.
    """
    width, height = request.width or recipe.width, request.height or recipe.height
    for side in (width, height):
        if not 64 <= side <= MAX_SIDE or side % 8:
            raise UsageError(
                f"size {width}x{height} is not possible: each side is 64 to {MAX_SIDE} pixels and a multiple of 8"
            )
    if not 0 <= request.seed < 2**63:
        raise UsageError(f"seed {request.seed} is out of range: 0 to {2**63 - 1}")
    if missing := [name for name in asset_names(recipe) if name not in assets]:
        raise NotFoundError(f"recipe '{recipe.name}' needs '{missing[0]}', which was not found", "sosie model list")
    negative = recipe.negative_prompt if request.negative_prompt is None else request.negative_prompt
    return Plan(
        recipe=recipe.name,
        stages=recipe.stages,
        acceptance=recipe.acceptance,
        character=character,
        prompt=fill(recipe.prompt, character, request.prompt),
        negative_prompt=negative,
        width=width,
        height=height,
        seed=derive_seed(request.seed, draw.index, draw.attempt),
        draw=draw,
        assets=tuple(Asset(name, assets[name]) for name in asset_names(recipe)),
        requested=request,
    )


def asset_names(recipe: Recipe) -> tuple[str, ...]:
    """Every file or model that a recipe names, once, in order."""
    names: dict[str, None] = {}
    for stage in recipe.stages:
        names[stage.model] = None
        for guide in stage.guides:
            names[guide.weights] = None
            names[guide.encoder] = None
    return tuple(names)


def without_guides(recipe: Recipe) -> Recipe:
    """The same recipe with no identity guide: the generator of hard impostors."""
    return dataclasses.replace(recipe, stages=tuple(dataclasses.replace(s, guides=()) for s in recipe.stages))


def fill(template: str, character: Character, prompt: str) -> str:
    """The template's text; a comma-separated part whose fields are all empty is dropped."""
    values = {"description": character.prompt_description, "trigger": character.trigger, "prompt": prompt.strip()}
    parts: list[str] = []
    for part in template.split(","):
        try:
            names = [name for _, name, _, _ in string.Formatter().parse(part) if name is not None]
        except ValueError as error:
            raise ConfigError(f"prompt template {template!r}: {error}") from None
        for name in names:
            if name not in values:
                raise ConfigError(f"prompt template {template!r}: unknown field '{name}'{nearest(name, values)}")
        if names and not any(values[name] for name in names):
            continue
        parts.append(_replace(part, values).strip())
    return ", ".join(part for part in parts if part)


def _replace(text: str, values: Mapping[str, str]) -> str:
    """Each `{name}` replaced in one pass: braces in a value stay as they are."""
    return re.sub(r"\{(\w+)\}", lambda match: values.get(match[1], match[0]), text)
