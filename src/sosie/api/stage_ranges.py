"""The ranges of a stage's values: what a recipe may say, whatever family runs it."""

from __future__ import annotations

from collections.abc import Iterator

from sosie.core import Guide, Stage
from sosie.core.plan import MAX_SIDE

Complaint = tuple[bool, str]
"""Whether a value is in its range, and what to say if it is not."""


def stage_complaints(stage: Stage, at: str) -> list[Complaint]:
    """Every range of a stage; `at` is its place in the recipe (`stages[0]`)."""
    sampler = stage.sampler
    return [
        (1 <= sampler.steps <= 1000, f"{at}.sampler.steps = {sampler.steps} is not 1 to 1000"),
        (1 <= sampler.cfg <= 100, f"{at}.sampler.cfg = {sampler.cfg:g} is not 1 to 100"),
        (0 < sampler.denoise <= 1, f"{at}.sampler.denoise = {sampler.denoise:g} is not above 0 and at most 1"),
        (0 <= sampler.shift <= 100, f"{at}.sampler.shift = {sampler.shift:g} is not 0 to 100"),
        (0 <= stage.clip_skip <= 12, f"{at}.clip_skip = {stage.clip_skip} is not 0 to 12"),
        *(
            (-4 <= use.weight <= 4, f"{at}: LoRA '{use.file}' has weight {use.weight:g}, not -4 to 4")
            for use in stage.loras
        ),
        *(
            (0 <= use.guide_scale <= 1, f"{at}: LoRA '{use.file}' has guide_scale {use.guide_scale:g}, not 0 to 1")
            for use in stage.loras
        ),
        *(entry for index, guide in enumerate(stage.guides) for entry in _guide(guide, f"{at}.guides[{index}]")),
        *_detail(stage, at),
        *_upscale(stage, at),
    ]


def _guide(guide: Guide, at: str) -> Iterator[Complaint]:
    yield 0 <= guide.scale <= 2, f"{at}.scale = {guide.scale:g} is not 0 to 2"
    yield 1 <= guide.references <= 100, f"{at}.references = {guide.references} is not 1 to 100"
    yield -4 <= guide.lora_weight <= 4, f"{at}.lora_weight = {guide.lora_weight:g} is not -4 to 4"
    points = guide.keypoints
    if points is not None:
        yield 0 <= points.scale <= 2, f"{at}.keypoints.scale = {points.scale:g} is not 0 to 2"
        order = 0 <= points.start < points.end <= 1
        yield order, f"{at}.keypoints: start {points.start:g} and end {points.end:g} are not in order within 0 to 1"
        yield points.stick > 0 and points.radius > 0, f"{at}.keypoints: stick and radius must be above 0"


def _detail(stage: Stage, at: str) -> Iterator[Complaint]:
    if stage.kind != "detail":
        return
    detail = stage.detail
    yield (
        64 <= detail.size <= 2048 and detail.size % 8 == 0,
        (f"{at}.detail.size = {detail.size} is not 64 to 2048 and a multiple of 8"),
    )
    yield 1 <= detail.margin <= 5, f"{at}.detail.margin = {detail.margin:g} is not 1 to 5"
    yield 0 <= detail.dilate <= 1, f"{at}.detail.dilate = {detail.dilate:g} is not 0 to 1"
    yield 0 <= detail.feather <= 1, f"{at}.detail.feather = {detail.feather:g} is not 0 to 1"
    yield detail.min_face >= 0, f"{at}.detail.min_face = {detail.min_face:g} is below 0"
    yield 0 <= detail.max_yaw <= 90, f"{at}.detail.max_yaw = {detail.max_yaw:g} is not 0 to 90"
    yield detail.seam > 0, f"{at}.detail.seam = {detail.seam:g} is not above 0"


def _upscale(stage: Stage, at: str) -> Iterator[Complaint]:
    if stage.kind != "upscale":
        return
    upscale = stage.upscale
    yield 1 <= upscale.factor <= 16, f"{at}.upscale.factor = {upscale.factor:g} is not 1 to 16"
    yield 64 <= upscale.tile <= MAX_SIDE, f"{at}.upscale.tile = {upscale.tile} is not 64 to {MAX_SIDE}"
    yield 0 <= upscale.overlap < upscale.tile / 2, f"{at}.upscale.overlap = {upscale.overlap} is not below half a tile"
