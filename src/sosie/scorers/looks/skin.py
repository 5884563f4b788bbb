"""The skin of the face: plastic where it has no texture."""

from __future__ import annotations

from sosie.faces.texture import FaceChip, skin_texture
from sosie.scorers.looks.look import KIND, Look
from sosie.scorers.looks.view import View
from sosie.scorers.scorer import Scale

TEXTURE = Scale("skin_texture", None, "% of the skin's luma", 0.0, 100.0, higher_is_better=True, kind=KIND)
RELIEF = Scale("skin_relief", 0.35, "% of the skin's luma", 0.0, 100.0, higher_is_better=True, kind=KIND)

_HIDDEN = "too little skin is seen on cheeks and forehead"


def _texture(view: View) -> float | str:
    return _of(view.large, view)


def _relief(view: View) -> float | str:
    return _of(view.little, view)


def _of(chip: FaceChip | str, view: View) -> float | str:
    if isinstance(chip, str):
        return chip
    found = skin_texture(chip, 0.0 if isinstance(view.grain, str) else view.grain)
    return _HIDDEN if found is None else found


LOOKS = (
    Look(TEXTURE, "the skin has hardly any texture, as plastic has", _texture),
    Look(RELIEF, "the skin is evenly smooth", _relief),
)
