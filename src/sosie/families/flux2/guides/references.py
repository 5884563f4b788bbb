"""The character's references as images that the model itself sees, beside the picture that it draws.

klein was trained on them; no face encoder takes part. A reference is never stretched: it is put whole onto a canvas of
the picture's shape, with bars where it is of another one. On klein 9B that alone raised the likeness from 0.314 to
0.478, and image guidance of 1.5 to 0.595 (SceneWorks, docs/sc-8253, ArcFace, 22 of 22 pairs each; not measured here).

The guide's scale is that image guidance: 1 as the model was trained, more goes beyond, and costs another pass a step.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from sosie.core import Guide, Plan
from sosie.families.contract.guides import (
    Conditioning,
    GuideInput,
    GuideKind,
    GuideStage,
    InGraphs,
    InProcess,
    Scene,
)
from sosie.families.flux2.memory import REFERENCE_PIXELS
from sosie.graph.build import Builder, GraphPicture

if TYPE_CHECKING:
    from PIL.Image import Image

MOST = 4
"""References that klein is given at most, of all persons together."""

BLOCK = 16
BARS = (128, 128, 128)


def letterboxed(image: Image, size: tuple[int, int]) -> Image:
    """The image, whole and unstretched, in the middle of a canvas of the shape of `size` (width, height).

    Never enlarged: the canvas is as small as it may be around the image, at most `size` and a megapixel. Its sides are
    multiples of 16.
    """
    from PIL import Image as Pictures

    width, height = size
    most = min(1.0, (REFERENCE_PIXELS / (width * height)) ** 0.5)
    needed = max(image.width / width, image.height / height)
    share = min(most, needed)
    canvas = (_blocks(width * share), _blocks(height * share))
    scale = min(canvas[0] / image.width, canvas[1] / image.height, 1.0)
    inner = max(1, round(image.width * scale)), max(1, round(image.height * scale))
    drawn = image.convert("RGB")
    if inner != image.size:
        drawn = drawn.resize(inner, Pictures.Resampling.LANCZOS)
    made = Pictures.new("RGB", canvas, BARS)
    made.paste(drawn, ((canvas[0] - inner[0]) // 2, (canvas[1] - inner[1]) // 2))
    return made


def condition(asked: GuideInput) -> Conditioning:
    """The references, letterboxed to the shape of what is drawn; before them the image that a `refine` stage edits."""
    given = asked.given
    size = _drawn(asked)
    pictures = list(given.faces.portraits(asked.guide, given.plan)[:MOST])
    if given.stage.kind == "refine" and given.source is not None:
        pictures.insert(0, given.source)
    return Conditioning(images=tuple(letterboxed(one, size) for one in pictures))


def called(number: int) -> str:
    """What a reference is called in a graph."""
    return f"reference shown {number}"


def shown(asked: GuideInput) -> Mapping[str, Image]:
    """The references alone, for a graph, which has the image that is edited itself."""
    pictures = asked.given.faces.portraits(asked.guide, asked.given.plan)[:MOST]
    return {called(number): letterboxed(one, _drawn(asked)) for number, one in enumerate(pictures, 1)}


def count_of(guide: Guide, plan: Plan) -> int:
    """How many references a plan's stage is shown; as many as it asks for where the character is not known."""
    people = plan.character.cast or (plan.character,)
    each = max(1, min(guide.references, MOST) // len(people))
    return sum(min(each, len(person.references)) if person.references else each for person in people)


def draw(build: Builder, stage: GuideStage, scene: Scene) -> Scene:
    """Each reference encoded, and given to what the model is told, with words and without."""
    positive, negative = scene.positive, scene.negative
    if stage.given.stage.kind == "refine" and stage.given.source is not None:
        (latent,) = build.add("VAEEncode", "What is edited", pixels=stage.given.source, vae=scene.vae)
        (positive,) = build.add("ReferenceLatent", conditioning=positive, latent=latent)
        (negative,) = build.add("ReferenceLatent", conditioning=negative, latent=latent)
    for number in range(1, count_of(stage.guide, stage.given.plan) + 1):
        picture = build.add("LoadImage", f"Reference {number}", image=GraphPicture(called(number)))[0]
        (latent,) = build.add("VAEEncode", pixels=picture, vae=scene.vae)
        (positive,) = build.add("ReferenceLatent", conditioning=positive, latent=latent)
        (negative,) = build.add("ReferenceLatent", conditioning=negative, latent=latent)
    return replace(scene, positive=positive, negative=negative)


def _drawn(asked: GuideInput) -> tuple[int, int]:
    stage, plan, source = asked.given.stage, asked.given.plan, asked.given.source
    if stage.kind == "detail":
        return stage.detail.size, stage.detail.size
    return source.size if source is not None else (plan.width, plan.height)


def _blocks(side: float) -> int:
    return max(BLOCK, round(side / BLOCK) * BLOCK)


GUIDE = GuideKind(
    "references",
    ("flux2",),
    role="",
    shows=MOST,
    in_process=InProcess(condition, ("images",)),
    in_graphs=InGraphs(lambda _: (), draw, shown=shown),
)
