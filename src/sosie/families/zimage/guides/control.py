"""A ControlNet for Z-Image: alibaba-pai's Fun Controlnet Union, given a picture of a pose, of edges or of depth.

One file for all kinds of pictures, and one each for Turbo and Base (Z-Image-Turbo-Fun-Controlnet-Union,
Z-Image-Fun-Controlnet-Union). In ComfyUI it is a model patch: the template `image_z_image_turbo_fun_union_controlnet`
applies it by QwenImageDiffsynthControlnet. Its page recommends a scale of 0.65 to 0.9.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from sosie.core import Guide
from sosie.core.errors import NotFoundError
from sosie.core.recipe import Keypoints
from sosie.core.schema import digest
from sosie.families.contract.guides import (
    Conditioning,
    Control,
    GuideInput,
    GuideKind,
    GuideStage,
    InGraphs,
    InProcess,
    Scene,
)
from sosie.graph.build import Builder, GraphPicture, WantedFile, wanted

if TYPE_CHECKING:
    from PIL.Image import Image


def picture_of(guide: Guide, paths: Mapping[str, Path], size: tuple[int, int]) -> Image:
    """The guide's picture (RGB) at the size of what is drawn: its image, scaled to it, or its key points, drawn at it.

    Raises `NotFoundError`, `BadImageError`, or `BadFileError` for what holds no key points.
    """
    from PIL import Image

    from sosie.faces.body import draw_bodies, read_bodies
    from sosie.files.images import read_image

    path = paths.get(guide.picture)
    if path is None:
        raise NotFoundError(f"the picture '{guide.picture}' of guide '{guide.kind}' is not here", "name it by its path")
    if path.suffix.lower() == ".json":
        return draw_bodies(read_bodies(path), size)
    image = read_image(path)
    return image if image.size == size else image.resize(size, Image.Resampling.LANCZOS)


def condition(asked: GuideInput) -> Conditioning:
    """The picture, for the ControlNet in the guide's weights."""
    guide, given = asked.guide, asked.given
    size = (given.plan.width, given.plan.height)
    if given.source is not None:
        width, height = given.source.size
        size = (width - width % 8, height - height % 8)
    span = Keypoints(guide.weights, guide.scale, guide.start, guide.end)
    return Conditioning(control=Control(picture_of(guide, given.paths, size), span))


def files(guide: Guide) -> tuple[WantedFile, ...]:
    """The patch."""
    return (wanted(guide.weights, "model patch", "model_patches"),)


def called(guide: Guide) -> str:
    """What the guide's picture is called in a graph; nothing of its own name."""
    return f"control {digest(guide.picture)[:8]}"


def pictures(guide: Guide, paths: Mapping[str, Path], size: tuple[int, int]) -> Mapping[str, Image]:
    """Its one picture."""
    return {called(guide): picture_of(guide, paths, size)}


def draw(build: Builder, stage: GuideStage, scene: Scene) -> Scene:
    """The model with the patch on it."""
    (patch,) = build.add("ModelPatchLoader", name=files(stage.guide)[0])
    picture = build.add("LoadImage", "Control picture", image=GraphPicture(called(stage.guide)))[0]
    (model,) = build.add(
        "QwenImageDiffsynthControlnet",
        model=scene.model,
        model_patch=patch,
        vae=scene.vae,
        image=picture,
        strength=stage.guide.scale,
    )
    return replace(scene, model=model)


GUIDE = GuideKind(
    "control",
    ("zimage",),
    "model-patch",
    needs={"weights": "a Fun ControlNet", "picture": "a pose, or another picture that it was trained on"},
    spans=True,
    stages=("generate", "refine"),
    in_process=InProcess(condition, ("control",)),
    in_graphs=InGraphs(files, draw, pictures),
)
