"""The key points of bodies, from OpenPose's JSON, and their picture: what a ControlNet for poses was trained on.

Points, order and colours are OpenPose's (Cao et al. 2017, arXiv:1611.08050; 18 points of COCO, or 25 of which the same
18 are drawn), as ControlNet's annotator draws them: limbs of 60 % of their colour, discs over them.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from PIL import Image, ImageDraw

from sosie.core.errors import BadFileError
from sosie.files.foreign import read_json

MOST = 4_000_000
"""Bytes of the longest file of key points that is read."""

PEOPLE = 64

LIMBS = (
    (1, 2), (1, 5), (2, 3), (3, 4), (5, 6), (6, 7), (1, 8), (8, 9), (9, 10), (1, 11), (11, 12), (12, 13), (1, 0),
    (0, 14), (14, 16), (0, 15), (15, 17),
)  # fmt: skip
"""Neck to shoulders, arms, neck to hips, legs, neck to nose, eyes, ears; each by two of the 18 points."""

COLOURS = (
    (255, 0, 0), (255, 85, 0), (255, 170, 0), (255, 255, 0), (170, 255, 0), (85, 255, 0), (0, 255, 0), (0, 255, 85),
    (0, 255, 170), (0, 255, 255), (0, 170, 255), (0, 85, 255), (0, 0, 255), (85, 0, 255), (170, 0, 255), (255, 0, 255),
    (255, 0, 170), (255, 0, 85),
)  # fmt: skip
"""Of each limb, and of each point."""

OF_25 = (0, 1, 2, 3, 4, 5, 6, 7, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18)
"""The places of the 18 points among OpenPose's 25."""

STICK, SIDE = 4.0, 1024
"""Half the width of a limb, and the radius of a disc, in pixels of a picture whose longer side is at most `SIDE`."""

Point = tuple[float, float] | None


@dataclass(frozen=True)
class Body:
    """18 points in shares of a picture's width and height, 0 to 1; None for one that was not seen."""

    points: tuple[Point, ...]


def read_bodies(path: Path) -> tuple[Body, ...]:
    """The people of a file of OpenPose's, or of one that an editor of poses writes (a list of pictures: the first).

    Points are pixels of `canvas_width` x `canvas_height`, or shares of the picture where the file says no size. Raises
    `BadFileError` for anything else.
    """
    table = read_json(path, MOST, strict=True)
    if isinstance(table, list):
        entries = cast("list[Any]", table)
        table = entries[0] if entries else None
    people = cast("dict[str, Any]", table).get("people") if isinstance(table, dict) else None
    if not isinstance(people, list) or not people:
        raise _bad(path, "it has no list of 'people'")
    found = cast("list[Any]", people)
    if len(found) > PEOPLE:
        raise _bad(path, f"it has {len(found):,} people; expected at most {PEOPLE}")
    size = _size(path, cast("dict[str, Any]", table))
    return tuple(_body(path, person, size) for person in found)


def draw_bodies(bodies: Sequence[Body], size: tuple[int, int]) -> Image.Image:
    """The picture (RGB) of `size` (width, height): limbs and points on black."""
    picture = Image.new("RGB", size)
    draw = ImageDraw.Draw(picture)
    stick = STICK * max(1.0, max(size) / SIDE)
    for body in bodies:
        places = [None if point is None else (point[0] * size[0], point[1] * size[1]) for point in body.points]
        for (start, end), colour in zip(LIMBS, COLOURS, strict=False):
            first, last = places[start], places[end]
            if first is not None and last is not None:
                draw.polygon(list(_ellipse(first, last, stick)), tuple(round(0.6 * level) for level in colour))
        for point, colour in zip(places, COLOURS, strict=True):
            if point is not None:
                x, y = point
                draw.ellipse((x - stick, y - stick, x + stick, y + stick), colour)
    return picture


def _ellipse(start: tuple[float, float], end: tuple[float, float], stick: float) -> Iterator[tuple[float, float]]:
    """A thin one between two points, a corner every ten degrees."""
    across, down = end[0] - start[0], end[1] - start[1]
    middle, half, turn = ((start[0] + end[0]) / 2, (start[1] + end[1]) / 2), math.hypot(across, down) / 2, 0.0
    turn = math.atan2(down, across)
    for degrees in range(0, 360, 10):
        along, beside = half * math.cos(math.radians(degrees)), stick * math.sin(math.radians(degrees))
        x = middle[0] + along * math.cos(turn) - beside * math.sin(turn)
        yield x, middle[1] + along * math.sin(turn) + beside * math.cos(turn)


def _size(path: Path, table: dict[str, Any]) -> tuple[float, float]:
    """What the points' numbers are shares of."""
    sides = [table.get("canvas_width"), table.get("canvas_height")]
    if sides == [None, None]:
        return 1.0, 1.0
    numbers = [side for side in sides if isinstance(side, int | float) and 1 <= side <= 100_000]
    if len(numbers) < 2:
        raise _bad(path, "'canvas_width' and 'canvas_height' are no sizes in pixels")
    return float(numbers[0]), float(numbers[1])


def _body(path: Path, person: Any, size: tuple[float, float]) -> Body:
    given = cast("dict[str, Any]", person).get("pose_keypoints_2d") if isinstance(person, dict) else None
    numbers = cast("list[Any]", given) if isinstance(given, list) else []
    if len(numbers) not in (54, 75) or not all(isinstance(number, int | float) for number in numbers):
        raise _bad(path, "'pose_keypoints_2d' is not 18 or 25 points of three numbers each")
    points = [(numbers[at] / size[0], numbers[at + 1] / size[1], numbers[at + 2]) for at in range(0, len(numbers), 3)]
    if size == (1.0, 1.0) and any(max(x, y) > 1.5 for x, y, _ in points):
        raise _bad(path, "its points are pixels, and it says no 'canvas_width' and 'canvas_height'")
    chosen = points if len(points) == len(COLOURS) else [points[place] for place in OF_25]
    return Body(tuple((x, y) if sure > 0 and abs(x) < 10 and abs(y) < 10 else None for x, y, sure in chosen))


def _bad(path: Path, why: str) -> BadFileError:
    hint = "save the pose as OpenPose's JSON with canvas_width and canvas_height, or give its picture"
    return BadFileError(f"{path} holds no key points of a body: {why}", hint)
