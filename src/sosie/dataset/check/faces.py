"""The pictures of a training set, looked at one after another: size, faces, blur, copies, strangers."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from sosie.core import Finding
from sosie.core.errors import BadImageError
from sosie.core.finding import Rule
from sosie.dataset.check.buckets import bucket_of
from sosie.dataset.check.report import DatasetImage
from sosie.dataset.names import printable
from sosie.faces.detect import Detector
from sosie.faces.encoders import Encoder
from sosie.faces.references import C001, C002, C003, C004, C005, C006, C007, check_references
from sosie.files.images import read_image

T002 = Rule("SOS-T002", "error", "An image cannot be read")
T023 = Rule("SOS-T023", "warning", "A face is blurred")
T024 = Rule("SOS-T024", "warning", "The same picture is there twice")
T025 = Rule("SOS-T025", "warning", "No face was found")
T026 = Rule("SOS-T026", "warning", "Several faces were found")
T027 = Rule("SOS-T027", "warning", "An image seems to show somebody else")
T028 = Rule("SOS-T028", "warning", "A face is too small to learn from")
T034 = Rule("SOS-T034", "warning", "Too few good faces")

MIN_GOOD = 5

AS_TRAINING = {
    C001.code: (T002, "save it again as PNG or JPEG, or leave it out"),
    C002.code: (T025, "fine for a view from behind; otherwise leave it out"),
    C003.code: (T026, "crop it to the character: the LoRA learns everybody who is in the picture"),
    C004.code: (T028, "use a larger original; the face is not learned from this picture"),
    C005.code: (T023, "use a sharp picture: a LoRA learns the blur"),
    C006.code: (T024, "leave one of the two out: what is there twice weighs twice"),
    C007.code: (T027, "leave it out if it is another person, or if the face is hidden or distorted"),
}
"""What the checks of reference images say, said of training images: code there -> rule here and hint."""


def look(folder: Path, names: Sequence[str], detector: Detector | None) -> tuple[list[DatasetImage], list[Finding]]:
    """Every picture of a folder that can be read with its largest face, and a finding (SOS-T002) for each other one."""
    images: list[DatasetImage] = []
    findings: list[Finding] = []
    for name in names:
        try:
            pixels = np.asarray(read_image(folder / name))
        except BadImageError as error:
            findings.append(T002.at(printable(name), error.message, error.hint))
            continue
        height, width = pixels.shape[:2]
        face = next(iter(detector.detect(pixels)), None) if detector is not None else None
        images.append(
            DatasetImage(
                name,
                width,
                height,
                bucket_of(width, height),
                face_height=face.box[3] / height if face is not None else None,
                yaw=face.yaw if face is not None else None,
            )
        )
    return images, findings


def check_faces(paths: Sequence[Path], detector: Detector, encoder: Encoder) -> list[Finding]:
    """SOS-T023 to T028, an image each, by the limits of `check_references`, and SOS-T034 for too few good faces.

    `encoder` must compare by cosine (ValueError if not).
    """
    report = check_references(paths, detector, encoder)
    findings: list[Finding] = []
    for item in report.left_out:
        if item.finding.code != C001.code:  # of those `look` told already
            rule, hint = AS_TRAINING[item.finding.code]
            found = item.finding
            findings.append(rule.at(printable(item.path.name), found.message, hint, severity=found.severity))
    if len(report.kept) < MIN_GOOD:
        message = (
            f"{len(report.kept)} of {len(paths)} images show one sharp face of the same person; expected 9 or more"
        )
        findings.append(T034.at("faces", message, "add sharp pictures of the character alone"))
    return findings
