"""The face pass: a face found, drawn again in its own square, and put back where nothing shows."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from sosie.core import Finding
from sosie.core.errors import BadImageError
from sosie.core.finding import Rule
from sosie.core.recipe import Detail
from sosie.faces.blend import insert
from sosie.faces.crop import Crop, face_crop
from sosie.faces.mask import FaceParser, Mask, face_mask, parsed_mask

if TYPE_CHECKING:
    from PIL.Image import Image

    from sosie.faces.detect import Face


E024 = Rule("SOS-E024", "error", "A new face would show a seam")
E025 = Rule("SOS-E025", "info", "The face-parsing model saw no face")


@dataclass(frozen=True, eq=False)
class FacePass:
    """Whose face is drawn again in which image (RGB), and how.

    `find` gives the character's face in the image, or the finding that says why it is left alone. `parser` is the file
    of the face-parsing model that `detail` names, if it names one. `seed` is that of the blend's grain.
    """

    source: Image
    detail: Detail
    character: str
    seed: int
    find: Callable[[Image], Face | Finding]
    parser: Path | None = None


@dataclass(frozen=True, eq=False)
class Square:
    """What is drawn again: the crop, the face in the crop's pixels, and how much may change where.

    `change` is float32 [size, size]: 1 draws anew, 0 keeps, in between it is freed later.
    """

    crop: Crop
    face: Face
    change: Mask
    findings: tuple[Finding, ...] = ()


@dataclass(frozen=True, eq=False)
class FaceResult:
    """The image (RGB), its findings, and what was measured, by name. After a refusal the image is the source."""

    image: Image
    findings: tuple[Finding, ...] = ()
    measures: tuple[tuple[str, float], ...] = ()


def run_face_pass(task: FacePass, draw: Callable[[Square], Image]) -> FaceResult:
    """Draws the character's face again with `draw`, which gives the crop's new image (RGB, same size).

    A face that is not there, too small, too turned or not told apart is left alone, with the
    finding that says so. A composite with a visible seam is refused: SOS-E024, and the image is
    the source. Outside the mask no pixel changes.
    """
    square = face_square(task)
    return square if isinstance(square, FaceResult) else put_back(task, square, draw(square))


def face_square(task: FacePass) -> Square | FaceResult:
    """The square around the character's face, or the unchanged source where it is left alone."""
    found = task.find(task.source)
    if isinstance(found, Finding):
        return FaceResult(task.source, (found,))
    crop = face_crop(np.asarray(task.source.convert("RGB")), found, task.detail.size, task.detail.margin)
    face = crop.face(found)
    mask, findings = _mask(task, crop, face)
    return Square(crop, face, mask, findings)


def put_back(task: FacePass, square: Square, drawn: Image) -> FaceResult:
    """The source with the square's new image (RGB, same size) in it; see `run_face_pass`."""
    from PIL import Image

    crop = square.crop
    pixels = np.asarray(task.source.convert("RGB"))
    blended = insert(pixels, crop, np.asarray(drawn.convert("RGB")), square.change, task.seed)
    seam = blended.seam
    x, y = crop.to_image(square.face.points).mean(axis=0) / (task.source.width, task.source.height)
    measures = (
        ("seam", round(seam.severity, 4)),
        ("eyes", round(square.face.interocular / crop.scale, 2)),
        ("x", round(float(x), 4)),
        ("y", round(float(y), 4)),
    )
    if seam.severity > task.detail.seam:
        message = (
            f"the new face of '{task.character}' was refused: its colour steps by {seam.severity:.1f} (CIEDE2000) "
            f"across the seam; at most {task.detail.seam:g} is allowed"
        )
        finding = E024.at(task.character, message, "another --seed, or a lower denoise")
        return FaceResult(task.source, (*square.findings, finding), measures)
    return FaceResult(Image.fromarray(blended.image), square.findings, measures)


def _mask(task: FacePass, crop: Crop, face: Face) -> tuple[Mask, tuple[Finding, ...]]:
    """The user's face-parsing model decides where the face is, if there is one and it sees the face."""
    detail = task.detail
    shares = {"dilate": detail.dilate, "feather": detail.feather}
    if task.parser is not None:
        try:
            classes = FaceParser(task.parser).parse(crop.image)
            return parsed_mask(classes, face, **shares), ()
        except BadImageError as error:
            message = f"the face-parsing model saw no face ({error.message}); the ellipse was used"
            finding = E025.at(detail.parser, message)
            return face_mask(face, (crop.size, crop.size), **shares), (finding,)
    return face_mask(face, (crop.size, crop.size), **shares), ()
