"""The face pass: a face found, drawn anew in its own square, and put back where nothing shows."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from sosie.core import Finding
from sosie.core.errors import BadImageError
from sosie.core.finding import Rule
from sosie.faces.blend import insert
from sosie.faces.crop import Crop, face_crop
from sosie.faces.mask import FaceParser, Mask, face_mask, parsed_mask
from sosie.families.contract.draws import StageInput, StageOutput

if TYPE_CHECKING:
    from PIL.Image import Image

    from sosie.faces.detect import Face

E024 = Rule("SOS-E024", "error", "A new face would show a seam")
E025 = Rule("SOS-E025", "info", "The face-parsing model saw no face")


@dataclass(frozen=True, eq=False)
class Square:
    """What is to be drawn anew: the crop, the face in the crop's pixels, and how much may change where.

    `change` is float32 [size, size]: 1 draws anew, 0 keeps, in between it is freed later. `notes` are what is to be
    said of it.
    """

    crop: Crop
    face: Face
    change: Mask
    notes: tuple[Finding, ...] = ()


def face_pass(given: StageInput, draw: Callable[[Square], Image]) -> StageOutput:
    """Draws the character's face anew with `draw`, which gives the crop's new picture (RGB, same size).

    A face that is not there, too small, too turned or not told apart is left alone, with the
    finding that says so. A composite with a visible seam is refused: SOS-E024, and the image is
    the source. Outside the mask no pixel changes.
    """
    square = face_square(given)
    return square if isinstance(square, StageOutput) else put_back(given, square, draw(square))


def face_square(given: StageInput) -> Square | StageOutput:
    """The square around the character's face, or the unchanged source where it is to be left alone."""
    detail, source = given.stage.detail, given.source
    if source is None:
        raise ValueError("a face pass works on an image; expected one, got none")
    found = given.faces.find(source, given.plan, given.stage)
    if isinstance(found, Finding):
        return StageOutput(source, (found,))
    crop = face_crop(np.asarray(source.convert("RGB")), found, detail.size, detail.margin)
    face = crop.face(found)
    mask, notes = _mask(given, crop, face)
    return Square(crop, face, mask, notes)


def put_back(given: StageInput, square: Square, drawn: Image) -> StageOutput:
    """The source with the square's new picture (RGB, same size) in it; see `face_pass`."""
    from PIL import Image

    plan, source, crop = given.plan, given.source, square.crop
    if source is None:
        raise ValueError("a face pass works on an image; expected one, got none")
    pixels = np.asarray(source.convert("RGB"))
    blended = insert(pixels, crop, np.asarray(drawn.convert("RGB")), square.change, given.seed)
    seam = blended.seam
    measures = (("seam", round(seam.severity, 4)), ("eyes", round(square.face.interocular / crop.scale, 2)))
    if seam.severity > given.stage.detail.seam:
        message = (
            f"the new face of '{plan.character.name}' was refused: its colour steps by {seam.severity:.1f} (CIEDE2000) "
            f"across the seam; at most {given.stage.detail.seam:g} is allowed"
        )
        finding = E024.at(plan.character.name, message, "another --seed, or a lower denoise")
        return StageOutput(source, (*square.notes, finding), measures)
    return StageOutput(Image.fromarray(blended.image), square.notes, measures)


def _mask(given: StageInput, crop: Crop, face: Face) -> tuple[Mask, tuple[Finding, ...]]:
    """The user's face-parsing model decides where the face is, if there is one and it sees the face."""
    detail = given.stage.detail
    shares = {"dilate": detail.dilate, "feather": detail.feather}
    if detail.parser:
        try:
            classes = FaceParser(given.paths[detail.parser]).parse(crop.image)
            return parsed_mask(classes, face, **shares), ()
        except BadImageError as error:
            message = f"the face-parsing model saw no face ({error.message}); the ellipse was used"
            note = E025.at(detail.parser, message)
            return face_mask(face, (crop.size, crop.size), **shares), (note,)
    return face_mask(face, (crop.size, crop.size), **shares), ()
