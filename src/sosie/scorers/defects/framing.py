"""How the faces stand in the image: none, several, or cut off by its border."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sosie.core.score import Score
from sosie.scorers.sample import Sample
from sosie.scorers.scorer import Checks, Scale

if TYPE_CHECKING:
    from sosie.faces.detect import Face

NO_FACE = Scale("no_face", 1.0, "faces", 0.0, 99.0, higher_is_better=True)
SEVERAL_FACES = Scale("several_faces", 0.3, "side of the largest face", 0.0, 1.0)
CUT_OFF_FACE = Scale("cut_off_face", 0.04, "face widths", -2.0, 10.0, higher_is_better=True)

_POINT_MARGIN = 0.15
"""Eyes and mouth corners lie at least this far inside a face's box, in face widths."""


def scores(sample: Sample) -> list[Score]:
    """`no_face` counts faces. `several_faces` and `cut_off_face` are None where there is none.

    `several_faces` is the side of the second largest face (root of the box's area) over that of
    the largest: a face of less than a third is a passer-by. Of a picture of several people it is
    that of the first face too many. `cut_off_face` is the distance from the largest face's box, or
    from its points less `_POINT_MARGIN`, to the nearest border, in widths of the box; negative
    when the face goes on outside.
    """
    face = sample.main_face
    if face is None:
        why = "no face was found"
        return [NO_FACE.score(0, why), SEVERAL_FACES.unmeasured(why), CUT_OFF_FACE.unmeasured(why)]
    sides = sorted(((other.box[2] * other.box[3]) ** 0.5 for other in sample.faces), reverse=True)
    people = sample.persons
    ratio = sides[people] / sides[0] if len(sides) > people else 0.0
    which = "the second" if people == 1 else f"number {people + 1}"
    gap, border = _gap(face, sample.width, sample.height)
    return [
        NO_FACE.score(len(sides), ""),
        SEVERAL_FACES.score(ratio, f"{len(sides)} faces; {which} is {ratio:.0%} of the first in size"),
        CUT_OFF_FACE.score(gap, f"the face is cut off at the {border}"),
    ]


def _gap(face: Face, columns: int, rows: int) -> tuple[float, str]:
    """The smallest distance of `face` to a border of the image, in face widths, and the border's name."""
    x, y, width, height = face.box
    inset = _POINT_MARGIN * width
    xs, ys = [float(v) for v in face.points[:, 0]], [float(v) for v in face.points[:, 1]]
    gaps = {
        "left": min(x, min(xs) - inset),
        "top": min(y, min(ys) - inset),
        "right": columns - max(x + width, max(xs) + inset),
        "bottom": rows - max(y + height, max(ys) + inset),
    }
    border = min(gaps, key=lambda name: gaps[name])
    return gaps[border] / max(width, 1.0), border


SCORER = Checks("framing", (), (NO_FACE, SEVERAL_FACES, CUT_OFF_FACE), scores)
