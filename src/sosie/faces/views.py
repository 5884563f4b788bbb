"""Which references show a person best: one from the front, then others that are turned, by what was asked."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from sosie.core.errors import BadImageError
from sosie.faces.crop import face_crop
from sosie.faces.detect import Detector, Face

HEAD = 2.2
"""A head's square over the head's size: hair and neck are in it."""

_ASKED = (
    (r"facing the camera|front(al)? view|from the front", 0.0),
    (r"(slight|bit)[a-z]* (turned|to the side)|turned slightly", 15.0),
    (r"three[- ]quarters?|3/4", 35.0),
    (r"profile|side view|from the side", 60.0),
    (r"turned|over (her|his|their|the) shoulder", 30.0),
)
"""What prompts say of a head's turn, in degrees; the first that is there counts."""


def asked_turn(prompt: str) -> float | None:
    """By how many degrees a prompt has the head turned, to whichever side; None: it says nothing of it."""
    text = prompt.lower()
    return next((degrees for words, degrees in _ASKED if re.search(rf"\b({words})\b", text)), None)


def spread(yaws: Sequence[float], count: int, asked: float | None = None) -> list[int]:
    """The places of at most `count` views, from their yaws in degrees.

    The most frontal first; then, if a turn is `asked` for, the one nearest to it; then always the one that is turned
    most otherwise than all before it.
    """
    if not yaws or count < 1:
        return []
    chosen = [min(range(len(yaws)), key=lambda place: abs(yaws[place]))]
    while len(chosen) < min(count, len(yaws)):
        rest = [place for place in range(len(yaws)) if place not in chosen]
        if asked is not None and len(chosen) == 1:
            chosen.append(min(rest, key=lambda place: abs(abs(yaws[place]) - asked)))
            continue
        chosen.append(max(rest, key=lambda place: min(abs(yaws[place] - yaws[other]) for other in chosen)))
    return chosen


def viewing_places(
    images: Sequence[Image.Image], detector: Detector, count: int, asked: float | None = None
) -> list[int]:
    """The places of the images that `views` shows. `BadImageError` if none shows a face."""
    seen = _seen(images, detector)
    return [seen[place][0] for place in spread([face.yaw for _, face in seen], count, asked)]


def views(
    images: Sequence[Image.Image], detector: Detector, count: int, asked: float | None = None, *, head: bool = False
) -> list[Image.Image]:
    """At most `count` of the images (RGB) as `spread` orders them, whole or the head's square alone.

    A square is not larger than the head is in its image. Raises `BadImageError` if none shows a face.
    """
    seen = _seen(images, detector)
    chosen = [seen[place] for place in spread([face.yaw for _, face in seen], count, asked)]
    return [_head(images[place], face) if head else images[place] for place, face in chosen]


def _head(image: Image.Image, face: Face) -> Image.Image:
    pixels: NDArray[np.uint8] = np.asarray(image.convert("RGB"))
    side = max(64, round(HEAD * max(face.box[2], face.box[3])))
    return Image.fromarray(face_crop(pixels, face, side, HEAD).image)


def _seen(images: Sequence[Image.Image], detector: Detector) -> list[tuple[int, Face]]:
    """The largest face of each image that shows one, with the image's place."""
    seen = [
        (place, face)
        for place, image in enumerate(images)
        for face in detector.detect(np.asarray(image.convert("RGB")))[:1]
    ]
    if not seen:
        message = f"none of the {len(images)} references shows a face; expected at least one"
        raise BadImageError(message, "use portraits in which the face can be seen")
    return seen
