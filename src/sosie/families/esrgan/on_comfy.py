"""Upscalers as nodes of ComfyUI: as often as the factor takes, then scaled to the exact size."""

from __future__ import annotations

import re
from math import ceil

from sosie.core import Finding, Plan, Stage
from sosie.core.finding import Rule
from sosie.core.stage_rules import E001
from sosie.families.contract.graphs import GraphChoices, GraphStage
from sosie.graph.build import Builder, WantedFile, wanted
from sosie.graph.graph import Link

E063 = Rule("SOS-E063", "error", "An upscaled image would be too long for ComfyUI")

VERSION = ""

MAX_SIDE = 16_384
"""Longest side that ComfyUI's ImageScale makes."""

SUFFIXES = (".pth", ".safetensors", ".pt")


def check(stage: Stage, plan: Plan, choices: GraphChoices) -> list[Finding]:
    """What ComfyUI cannot enlarge of a plan."""
    del choices
    hint = f"sosie recipe show {plan.recipe}"
    if stage.kind != "upscale":
        return [E001.at(plan.recipe, f"an upscaler has no stage '{stage.kind}'; expected 'upscale'", hint)]
    side = max(plan.width, plan.height)
    for each in plan.stages:
        side = round(side * each.upscale.factor) if each.kind == "upscale" else side
    message = f"the upscaled image would be {side:,} px long; ComfyUI makes at most {MAX_SIDE:,}"
    return [E063.at(plan.recipe, message, hint)] if side > MAX_SIDE else []


def names(stage: Stage) -> tuple[WantedFile, ...]:
    """The upscaler."""
    return (wanted(stage.model, "upscaler", "upscale_models", SUFFIXES),)


def draw(build: Builder, given: GraphStage) -> Link:
    """The source, `factor` times as large to the pixel. ComfyUI tiles it itself, smaller where memory runs out."""
    if given.source is None:
        raise ValueError("an upscaler works on an image; expected one, got none")
    (file,) = names(given.stage)
    (upscaler,) = build.add("UpscaleModelLoader", model_name=file)
    factor = given.stage.upscale.factor
    target = round(given.size[0] * factor), round(given.size[1] * factor)
    scale = scale_of(file.names[0])
    sizes = passes(given.size, target, scale)
    image, size = given.source, given.size
    for begin in sizes:
        image = _scaled(build, image, size, begin)
        (image,) = build.add("ImageUpscaleWithModel", upscale_model=upscaler, image=image)
        size = begin[0] * scale, begin[1] * scale
    # The scale is a guess from the name, so the exact size is asked for even where it should be reached.
    return _scaled(build, image, (0, 0), target)


def scale_of(name: str) -> int:
    """How many times a network enlarges, by its file's name (`4x-UltraSharp`, `RealESRGAN_x2plus`); 4 if not told."""
    found = re.search(r"(?<![0-9a-z])([1248])x|x([1248])(?![0-9])", name.lower())
    return int(found[1] or found[2]) if found else 4


def passes(size: tuple[int, int], target: tuple[int, int], scale: int) -> tuple[tuple[int, int], ...]:
    """The size from which each pass enlarges `scale` times: the last begins just large enough for the target."""
    sizes = [size]
    while scale > 1 and sizes[-1][0] * scale < target[0]:
        sizes.append((sizes[-1][0] * scale, sizes[-1][1] * scale))
    if len(sizes) > 1:
        sizes[-1] = ceil(target[0] / scale), ceil(target[1] / scale)
    return tuple(sizes)


def _scaled(build: Builder, image: Link, size: tuple[int, int], wanted_size: tuple[int, int]) -> Link:
    if size == wanted_size:
        return image
    width, height = wanted_size
    return build.add("ImageScale", image=image, upscale_method="lanczos", width=width, height=height)[0]
