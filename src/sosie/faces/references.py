"""The check of reference images: what would teach or judge a character wrongly is left out, with the reason.

The limits were measured on 96 renders of eight people (12 each, 512 x 512 px, turned by up to 32
degrees, ten expressions, eight kinds of light), with SFace; each says what it finds and what it misses.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from sosie.core.errors import BadImageError
from sosie.core.finding import Finding, Rule
from sosie.faces.align import align
from sosie.faces.detect import Detector, Face
from sosie.faces.encoders import Encoder, Image8, Vector, template, unit
from sosie.files.images import image_digest, read_image

C001 = Rule("SOS-C001", "warning", "An offered reference is not an image")
C002 = Rule("SOS-C002", "warning", "An offered reference shows no face")
C003 = Rule("SOS-C003", "warning", "An offered reference shows several faces")
C004 = Rule("SOS-C004", "warning", "The face in a reference is too small")
C005 = Rule("SOS-C005", "warning", "The face in a reference is blurred")
C006 = Rule("SOS-C006", "warning", "A reference is there twice")
C007 = Rule("SOS-C007", "warning", "A reference shows another person than the others")
C008 = Rule("SOS-C008", "error", "There are fewer than three references")
C011 = Rule("SOS-C011", "warning", "The face in a reference does not stand upright")

# Fewer pixels between the eyes than this, and the crop of 112 px (35 px between the eyes) is mostly invented.
MIN_INTEROCULAR = 24.0
# A head that is tilted by more, in degrees, teaches a model heads that lie.
MAX_ROLL = 45.0
# A second face counts if its box is at least this part of the largest one's width: not a passer-by far behind.
SECOND_FACE = 0.25
# Variance of the Laplacian over grey variance in the 112 px crop, so that dim light is not taken for blur. All 96
# renders: 0.08 or more (0.07 at 256 px). Blurred by 0.04 of the eye distance (sigma): median 0.019, by 0.06: 0.009.
MIN_SHARPNESS = 0.03
# Largest difference (of 255) of any cell of a 32 x 32 thumbnail. Different renders of one person: 86 or more. The
# same one as JPEG of quality 30, WebP 50, halved, enlarged, 10 brighter: 6.3 or less. An opened mouth: 5 to 49.
MAX_COPY_DIFFERENCE = 6.0
# Mean cosine to the other references over the set's median of it. One stranger is found in 99 % of 672 trials among
# twelve, in 96 % among six, 92 % among four; of 96 good renders one (eyes closed, head bent) is left out.
MIN_RELATIVE_SIMILARITY = 0.82
# How many median absolute deviations over the median a reference's distance to the medoid may be for it to guide. With
# mini's encoder every stranger among twelve renders is left out (672 trials), and 13 of 96 good ones, mostly turned
# away; with SFace 96 % and 11. Smaller differences than MIN_DEVIATION (1 - cosine) move the mean by next to nothing.
MAX_DEVIATIONS = 2.0
MIN_DEVIATION = 0.05
# With fewer the mean of their embeddings, and every outlier, rests on chance.
GOOD_REFERENCES = 3


@dataclass(frozen=True)
class LeftOut:
    """An image that is no good as a reference, and why; the earlier image that it is a copy of, if it is one."""

    path: Path
    finding: Finding
    copy_of: Path | None = None


@dataclass(frozen=True)
class ReferenceReport:
    """Which of the offered images are good references, in the order they were offered."""

    kept: tuple[Path, ...]
    left_out: tuple[LeftOut, ...]
    notes: tuple[Finding, ...] = ()

    @property
    def findings(self) -> tuple[Finding, ...]:
        """Everything there is to say: one finding for each image left out, then what concerns the set."""
        return (*(item.finding for item in self.left_out), *self.notes)


@dataclass(frozen=True, eq=False)
class _Candidate:
    path: Path
    sha256: str
    thumbnail: NDArray[np.float32]
    embedding: Vector


def check_references(paths: Sequence[Path], detector: Detector, encoder: Encoder) -> ReferenceReport:
    """Sorts the images at `paths` into good references and others.

    Codes: SOS-C001 not an image, C002 no face, C003 several faces, C004 face too small, C005
    blurred, C006 the same picture as an earlier one, C007 unlike the other references (one image
    left out is a warning each), C011 a face that lies or stands on its head; C008 fewer than three good
    references (warning; error if none).
    `encoder` must compare by cosine (ValueError if not); the limit of C007 holds for SFace.
    """
    if encoder.metric != "cosine":
        raise ValueError(f"expected an encoder that compares by cosine, got '{encoder.name}' ({encoder.metric})")
    good: list[_Candidate] = []
    found: dict[int, LeftOut] = {}
    places: list[int] = []
    for place, path in enumerate(paths):
        outcome = _look_at(path, good, detector, encoder)
        if isinstance(outcome, LeftOut):
            found[place] = outcome
        else:
            good.append(outcome)
            places.append(place)
    for index, ratio in _outliers([candidate.embedding for candidate in good]):
        found[places[index]] = LeftOut(good[index].path, _unlike(good[index].path, ratio))
    kept = tuple(path for place, path in enumerate(paths) if place not in found)
    left_out = tuple(found[place] for place in sorted(found))
    return ReferenceReport(kept, left_out, _about_the_set(len(kept), len(paths)))


def identity_embedding(
    images: Sequence[Image.Image | Image8], detector: Detector, encoder: Encoder, count: int
) -> Vector:
    """What guides a FaceID adapter: float32 [d] with L2 norm 1.

    The mean of the unit embeddings of `count` faces (the largest of each RGB image), or of all if
    there are fewer. Faces unlike the others (`MAX_DEVIATIONS`) are left out first; then the most
    frontal ones (least |yaw|) are taken. A `count` of 1 takes the best alone: the least sum of its
    ranks by |yaw|, by sharpness and by similarity to the medoid. BadImageError if no image shows a
    face; ValueError if `count` is below 1.
    """
    return template("cosine", _chosen(images, detector, encoder.embed, count))


class RawEncoder(Protocol):
    """An encoder that can give its embedding as the network does; `ArcFaceOnnx` is one."""

    def embed(self, image: Image8, face: Face, *, normalise: bool = True) -> Vector:
        """The embedding float32 [d], of L2 norm 1 only if `normalise`."""
        ...


def raw_identity_embedding(
    images: Sequence[Image.Image | Image8], detector: Detector, encoder: RawEncoder, count: int
) -> Vector:
    """What guides InstantID, which was trained on embeddings as they come: float32 [d].

    The direction of `identity_embedding`, with the mean L2 norm that the encoder gave the faces in
    it: a mean of vectors would be shorter than any of them. Errors as there.
    """
    raw = _chosen(images, detector, lambda image, face: encoder.embed(image, face, normalise=False), count)
    return template("cosine", raw) * np.float32(np.mean([np.linalg.norm(vector) for vector in raw]))


def face_crops(
    images: Sequence[Image.Image | Image8], detector: Detector, count: int, size: int = 224
) -> list[Image.Image]:
    """The `count` most frontal faces, the most frontal first, as RGB images of `size` x `size` px.

    Aligned as `align` says, which is insightface's `norm_crop`; what FaceID Plus was trained to look
    at has 224 px. Errors as `identity_embedding`.
    """
    faces = sorted(_faces(images, detector, count), key=lambda one: abs(one.face.yaw))
    return [Image.fromarray(align(one.pixels, one.face.points, size)) for one in faces[:count]]


def guiding_places(
    images: Sequence[Image.Image | Image8], detector: Detector, count: int, encoder: Encoder | None = None
) -> list[int]:
    """The places of the images whose faces guide: those that `identity_embedding` takes by this encoder.

    Without an encoder those of `face_crops`. Errors as there.
    """
    faces = _faces(images, detector, count)
    if encoder is None:
        chosen = sorted(faces, key=lambda one: abs(one.face.yaw))[:count]
    else:
        vectors = [encoder.embed(one.pixels, one.face) for one in faces]
        chosen = [faces[place] for place in _choice(faces, vectors, count)]
    return [one.place for one in chosen]


@dataclass(frozen=True, eq=False)
class _Seen:
    """The largest face of an image, and the image's place among the others."""

    place: int
    pixels: Image8
    face: Face


def _faces(images: Sequence[Image.Image | Image8], detector: Detector, count: int) -> list[_Seen]:
    """The largest face of each image that shows one."""
    if count < 1:
        raise ValueError(f"expected count >= 1, got {count}")
    seen: list[_Seen] = []
    for place, image in enumerate(images):
        pixels = np.asarray(image, dtype=np.uint8)
        seen.extend(_Seen(place, pixels, face) for face in detector.detect(pixels)[:1])
    if not seen:
        message = f"none of the {len(images)} references shows a face; expected at least one"
        raise BadImageError(message, "use portraits in which the face can be seen")
    return seen


def _chosen(
    images: Sequence[Image.Image | Image8],
    detector: Detector,
    embed: Callable[[Image8, Face], Vector],
    count: int,
) -> list[Vector]:
    """The embeddings that make up a character's, as `embed` gives them."""
    faces = _faces(images, detector, count)
    vectors = [embed(one.pixels, one.face) for one in faces]
    return [vectors[place] for place in _choice(faces, vectors, count)]


def _choice(faces: Sequence[_Seen], vectors: Sequence[Vector], count: int) -> list[int]:
    """The places among `faces` of those that make up the embedding, as `identity_embedding` says."""
    distances = medoid_distances(vectors)
    alike = [place for place in range(len(faces)) if place not in _deviating(distances)]
    turned = [abs(one.face.yaw) for one in faces]
    if count > 1:
        return sorted(alike, key=turned.__getitem__)[:count]
    blurs = [-sharpness(align(one.pixels, one.face.points)) for one in faces]
    ranks = [
        sum(sum(values[other] < values[place] for other in alike) for values in (turned, blurs, distances))
        for place in alike
    ]
    return [alike[ranks.index(min(ranks))]]


def medoid_distances(vectors: Sequence[Vector]) -> list[float]:
    """1 - cosine of each vector to the medoid: the one that is most similar to all the others."""
    stack = np.stack([unit(vector) for vector in vectors])
    similarities = stack @ stack.T
    medoid = int(np.argmax(similarities.sum(axis=1)))
    return [float(distance) for distance in 1 - similarities[medoid]]


def _deviating(distances: Sequence[float]) -> list[int]:
    """Which distances are larger than usual; of fewer than four nothing can be said."""
    if len(distances) < 4:
        return []
    usual = float(np.median(distances))
    spread = float(np.median(np.abs(np.asarray(distances) - usual)))
    limit = usual + max(MAX_DEVIATIONS * spread, MIN_DEVIATION)
    return [place for place, distance in enumerate(distances) if distance > limit]


def sharpness(crop: Image8) -> float:
    """How sharp an aligned face (uint8 RGB [112, 112, 3]) is: variance of the Laplacian over grey variance.

    Without unit, 0 and up; a flat crop has 0. The Laplacian's variance as a measure of focus:
    Pech-Pacheco et al., ICPR 2000. The border, where hair and background are, does not count.
    """
    cv2: Any = importlib.import_module("cv2")
    grey: NDArray[np.float32] = cv2.cvtColor(crop, cv2.COLOR_RGB2GRAY).astype(np.float32)[16:100, 16:96]
    return float(cv2.Laplacian(grey, cv2.CV_32F).var()) / (float(grey.var()) + 1.0)


def _look_at(path: Path, earlier: Sequence[_Candidate], detector: Detector, encoder: Encoder) -> _Candidate | LeftOut:
    """The image as a candidate, or the first thing that is wrong with it. `earlier` are its rivals for C006."""
    try:
        sha256 = image_digest(path)
        for other in earlier:
            if other.sha256 == sha256:
                why = f"is the same file as {other.path}; expected different pictures"
                return LeftOut(path, _left_out(C006, path, why), other.path)
        pixels = np.asarray(read_image(path))
    except BadImageError as error:
        return LeftOut(path, C001.at(str(path), error.message, error.hint))
    faces = detector.detect(pixels)
    wrong = _wrong_with_faces(path, pixels, faces)
    if wrong is not None:
        return LeftOut(path, wrong)
    thumbnail = _thumbnail(pixels)
    for other in earlier:
        if _difference(thumbnail, other.thumbnail) <= MAX_COPY_DIFFERENCE:
            why = f"shows the same picture as {other.path}; expected different pictures"
            return LeftOut(path, _left_out(C006, path, why), other.path)
    return _Candidate(path, sha256, thumbnail, unit(encoder.embed(pixels, faces[0])))


def _wrong_with_faces(path: Path, pixels: Image8, faces: Sequence[Face]) -> Finding | None:
    if not faces:
        return _left_out(C002, path, "no face was found; expected exactly one")
    several = [face for face in faces if face.box[2] >= SECOND_FACE * faces[0].box[2]]
    if len(several) > 1:
        return _left_out(C003, path, f"{len(several)} faces were found; expected exactly one")
    if faces[0].interocular < MIN_INTEROCULAR:
        message = f"the eyes are {faces[0].interocular:.0f} px apart; expected at least {MIN_INTEROCULAR:.0f} px"
        return _left_out(C004, path, message)
    if abs(faces[0].roll) > MAX_ROLL:
        side = "clockwise" if faces[0].roll > 0 else "counter-clockwise"
        message = f"the face is turned by {abs(faces[0].roll):.0f} degrees {side}; expected at most {MAX_ROLL:.0f}"
        return _left_out(C011, path, message)
    measured = sharpness(align(pixels, faces[0].points))
    if measured < MIN_SHARPNESS:
        message = f"the face is blurred (sharpness {measured:.3f}); expected at least {MIN_SHARPNESS:.2f}"
        return _left_out(C005, path, message)
    return None


_HINTS = {
    C002: "use a picture in which the face is visible and not in profile",
    C003: "crop the picture to the character",
    C004: "use a larger picture, or one that is closer to the face",
    C005: "use a picture that is in focus and was not enlarged",
    C006: "leave one of the two out",
    C011: "rotate the picture until the face stands upright",
}


def _left_out(rule: Rule, path: Path, message: str) -> Finding:
    return rule.at(str(path), f"{path}: {message}", _HINTS[rule])


def _unlike(path: Path, ratio: float) -> Finding:
    message = (
        f"{path}: seems to show somebody else: as similar to the other references as {ratio:.0%} of what is usual "
        f"among them; expected at least {MIN_RELATIVE_SIMILARITY:.0%}"
    )
    hint = "leave it out if it is another person; a hidden or distorted face of the character does harm too"
    return C007.at(str(path), message, hint)


def _about_the_set(kept: int, offered: int) -> tuple[Finding, ...]:
    if kept >= GOOD_REFERENCES:
        return ()
    message = f"{kept} of {offered} images are good references; expected at least {GOOD_REFERENCES}, better 8 to 16"
    hint = "add sharp portraits of the same person in other poses, expressions and light"
    return (C008.at("references", message, hint, severity="warning" if kept else "error"),)


def _thumbnail(pixels: Image8) -> NDArray[np.float32]:
    """float32 [32, 32, 3], the means of the cells: the same for the same picture at any size."""
    cv2: Any = importlib.import_module("cv2")
    height, width = pixels.shape[:2]
    if min(height, width) < 128:
        pixels = cv2.resize(pixels, (max(128, width), max(128, height)), interpolation=cv2.INTER_LINEAR)
    return cv2.resize(pixels, (32, 32), interpolation=cv2.INTER_AREA).astype(np.float32)


def _difference(first: NDArray[np.float32], second: NDArray[np.float32]) -> float:
    """The largest difference between two thumbnails after one shift of each colour as a whole.

    The largest and not the mean: with the same framing and background, an expression changes a
    few cells much, and compression changes all cells a little.
    """
    difference = first - second
    difference -= np.median(difference, axis=(0, 1))
    return float(np.abs(difference).mean(axis=2).max())


def _outliers(embeddings: Sequence[Vector]) -> list[tuple[int, float]]:
    """Which of these unit vectors do not belong to the rest, with their similarity relative to the median.

    The least similar one is taken out while it is below the limit, and the rest is looked at
    again. Mean similarity to all others finds more strangers than similarity to the medoid (99 %
    against 92 % of 672 at the same one false alarm in 96), since the medoid is one picture with its
    own pose. Of fewer than three nothing can be said.
    """
    remaining = list(range(len(embeddings)))
    outliers: list[tuple[int, float]] = []
    while len(remaining) >= 3:
        stack = np.stack([embeddings[index] for index in remaining])
        similarities = ((stack @ stack.T).sum(axis=1) - 1.0) / (len(remaining) - 1)
        usual = float(np.median(similarities))
        worst = int(np.argmin(similarities))
        ratio = float(similarities[worst]) / usual if usual > 0 else 1.0
        if ratio >= MIN_RELATIVE_SIMILARITY:
            break
        outliers.append((remaining.pop(worst), ratio))
    return outliers
