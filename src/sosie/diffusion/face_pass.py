"""The face pass: a face found, drawn again in its own square, and put back where nothing shows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from sosie.core import Finding
from sosie.core.errors import BadImageError
from sosie.core.finding import Rule
from sosie.core.recipe import Detail
from sosie.faces.blend import Blend, Insertion, insert
from sosie.faces.colour import to_lab
from sosie.faces.crop import Crop, face_crop
from sosie.faces.mask import FaceParser, Mask, face_mask, parsed_mask, skin_following
from sosie.faces.skin import skin_mask
from sosie.faces.texture import skin_looks
from sosie.faces.tone import Toned, recoloured, toned, usual_tone

if TYPE_CHECKING:
    from PIL.Image import Image

    from sosie.faces.detect import Face, Image8


E024 = Rule("SOS-E024", "error", "A new face would show a seam")
E025 = Rule("SOS-E025", "info", "The face-parsing model saw no face")
E043 = Rule("SOS-E043", "info", "A new face has the tone of its body")


# Cosine, by the encoder that guides, from which on a face is the character's, and below which it is anybody's.
ALIKE, STRANGE = 0.65, 0.15


@dataclass(frozen=True, eq=False)
class FacePass:
    """Whose face is drawn again in which image (RGB), and how.

    `find` gives the character's face in the image, or the finding that says why it is left alone. `portraits` gives
    faces of the character as `align` cuts them out (RGB squares), for their tone; there may be none. `parser` is the
    file of the face-parsing model that `detail` names, if it names one. `seed` is that of the blend's grain.
    """

    source: Image
    detail: Detail
    character: str
    seed: int
    find: Callable[[Image], Face | Finding]
    portraits: Callable[[], Sequence[Image]] = tuple
    parser: Path | None = None


@dataclass(frozen=True, eq=False)
class Square:
    """What is drawn again: the crop, the face in the crop's pixels, and how much may change where.

    `under` is what is drawn upon, RGB uint8 [size, size, 3]: the crop, or the crop with its skin in the guide's tone
    (`toned`). `change` is float32 [size, size]: 1 draws anew, 0 keeps, in between it is freed later. `more_denoise` is
    added to the sampler's.
    """

    crop: Crop
    face: Face
    under: Image8
    change: Mask
    toned: Toned | None = None
    more_denoise: float = 0.0
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
    the source. Where the body could not follow into the character's tone (a beard below the jaw,
    hair in the colour of skin), the face is drawn once more in the body's first (SOS-E043).
    Outside the mask, and the skin that gets another tone, no pixel changes.
    """
    square = face_square(task)
    if isinstance(square, FaceResult):
        return square
    result = put_back(task, square, draw(square))
    if square.toned is None or not is_refused(result):
        return result
    plain = untoned(square)
    again = put_back(task, plain, draw(plain))
    if is_refused(again):
        return result
    message = f"the body did not take the tone of '{task.character}' without a seam; the new face has the body's"
    finding = E043.at(task.character, message, 'another picture, or tone = "body" if it is always so')
    return replace(again, findings=(*again.findings, finding))


def untoned(square: Square) -> Square:
    """The square with the skin of its body as it is."""
    return replace(square, under=square.crop.image, toned=None)


def is_refused(result: FaceResult) -> bool:
    """Whether the new face would show a seam, so that the image is the source."""
    return any(finding.code == E024.code for finding in result.findings)


def face_square(task: FacePass) -> Square | FaceResult:
    """The square around the character's face, or the unchanged source where it is left alone."""
    found = task.find(task.source)
    if isinstance(found, Finding):
        return FaceResult(task.source, (found,))
    crop = face_crop(np.asarray(task.source.convert("RGB")), found, task.detail.size, task.detail.margin)
    face = crop.face(found)
    mask, findings = _mask(task, crop, face)
    given = _toned(task, crop, face)
    under = crop.image if given is None else recoloured(crop.image, given)
    return Square(crop, face, under, mask, given, task.detail.far * strangeness(found.likeness), findings)


def strangeness(likeness: float | None) -> float:
    """How far a face is from the character, 0 (theirs) to 1 (anybody's), by its cosine; 0 where that is not known."""
    return 0.0 if likeness is None else float(np.clip((ALIKE - likeness) / (ALIKE - STRANGE), 0, 1))


def put_back(task: FacePass, square: Square, drawn: Image) -> FaceResult:
    """The source with the square's new image (RGB, same size) in it; see `run_face_pass`."""
    from PIL import Image

    crop = square.crop
    pixels, new = (np.asarray(image.convert("RGB")) for image in (task.source, drawn))
    blended = insert(pixels, crop, Insertion(new, square.change, square.face, task.seed, square.toned))
    seam = blended.seam
    measures = (*_measures(square, blended, task.source.size), *_skin(square, pixels, blended.image))
    if seam.severity > task.detail.seam:
        message = (
            f"the new face of '{task.character}' was refused: its colour steps by {seam.severity:.1f} (CIEDE2000) "
            f"across the seam; at most {task.detail.seam:g} is allowed"
        )
        finding = E024.at(task.character, message, "another --seed, or a lower denoise")
        return FaceResult(task.source, (*square.findings, finding), measures)
    return FaceResult(Image.fromarray(blended.image), square.findings, measures)


def _measures(square: Square, blended: Blend, size: tuple[int, int]) -> tuple[tuple[str, float], ...]:
    """The seam, where the face is and how large, and how it goes with its body: before, and after."""
    x, y = square.crop.to_image(square.face.points).mean(axis=0) / size
    measures: list[tuple[str, float | None]] = [
        ("seam", round(blended.seam.severity, 4)),
        ("eyes", round(square.face.interocular / square.crop.scale, 2)),
        ("x", round(float(x), 4)),
        ("y", round(float(y), 4)),
    ]
    for when, found in (("before", blended.before), ("after", blended.after)):
        for name in ("colour", "grain", "skin"):
            value: float | None = getattr(found, name)
            measures.append((f"{name}_{when}", None if value is None else round(value, 3)))
    if square.more_denoise:
        measures.append(("more_denoise", round(square.more_denoise, 4)))
    return tuple((name, value) for name, value in measures if value is not None)


def _skin(square: Square, before: Image8, after: Image8) -> tuple[tuple[str, float], ...]:
    """The texture of the skin as looks measure it, where the face is large enough: before, and after."""
    points = square.crop.to_image(square.face.points)
    pairs = (("before", skin_looks(before, points)), ("after", skin_looks(after, points)))
    return tuple((f"{name}_{when}", round(value, 3)) for when, found in pairs for name, value in found.items())


def _toned(task: FacePass, crop: Crop, face: Face) -> Toned | None:
    """The crop's skin in the tone of the character's portraits, where the recipe asks for it and there are some."""
    if task.detail.tone != "guide":
        return None
    tone = usual_tone(task.portraits())
    return None if tone is None else toned(to_lab(crop.image), face, tone)


def _mask(task: FacePass, crop: Crop, face: Face) -> tuple[Mask, tuple[Finding, ...]]:
    """The user's face-parsing model decides where the face is, if there is one and it sees the face.

    Else the skin's own colour does, around the face; where it is not seen, the egg around the face is all there is.
    """
    detail = task.detail
    shares = {"dilate": detail.dilate, "feather": detail.feather}
    findings: tuple[Finding, ...] = ()
    if task.parser is not None:
        try:
            classes = FaceParser(task.parser).parse(crop.image)
            return parsed_mask(classes, face, **shares), ()
        except BadImageError as error:
            message = f"the face-parsing model saw no face ({error.message}); the skin's colour was used"
            findings = (E025.at(detail.parser, message),)
    skin = skin_mask(to_lab(crop.image), face)
    if skin is None:
        return face_mask(face, (crop.size, crop.size), **shares), findings
    return skin_following(face, skin, **shares), findings
