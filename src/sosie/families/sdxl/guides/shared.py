"""What guides of SDXL have in common: their references as one batch, and the key points of a face."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sosie.core.recipe import Keypoints
from sosie.families.contract.guides import Control, GuideInput, GuideStage, Pose
from sosie.graph.build import Builder, GraphPicture
from sosie.graph.graph import Link

if TYPE_CHECKING:
    from PIL.Image import Image


def references(build: Builder, stage: GuideStage) -> Link:
    """The pictures of the character as one batch. They are squares of one size, so that nothing is cut off.

    As many as the guide asks for, if there are so many.
    """
    count = max(1, min(stage.guide.references, stage.given.portraits))
    batch, *others = (
        build.add("LoadImage", f"Reference {number}", image=GraphPicture(f"reference {number}"))[0]
        for number in range(1, count + 1)
    )
    for picture in others:
        (batch,) = build.add("ImageBatch", image1=batch, image2=picture)
    return batch


def key_points(asked: GuideInput) -> Control | None:
    """The picture of the face's key points; None where the guide has none, or there is no face yet."""
    points, pose = asked.guide.keypoints, asked.pose
    return None if points is None or pose is None else Control(draw_key_points(points, pose), points)


def draw_key_points(points: Keypoints, pose: Pose) -> Image:
    """Five points and the lines between them, as InstantID's ControlNet was trained on."""
    from PIL import Image

    from sosie.faces.keypoints import KeypointStyle, draw_keypoints

    style = KeypointStyle(points.stick, points.radius)
    return Image.fromarray(draw_keypoints(pose.points, (pose.height, pose.width), style))
