"""The pictures of a training set, looked at one after another: size, faces, blur, copies, strangers."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from sosie.core import Finding
from sosie.core.errors import BadImageError
from sosie.dataset.check.buckets import bucket_of
from sosie.dataset.check.report import DatasetImage, printable
from sosie.faces.detect import Detector
from sosie.faces.encoders import Encoder
from sosie.faces.references import check_references
from sosie.files.images import read_image

MIN_GOOD = 5

AS_TRAINING = {
    "SOS-C001": ("SOS-T002", "save it again as PNG or JPEG, or leave it out"),
    "SOS-C002": ("SOS-T025", "fine for a view from behind; otherwise leave it out"),
    "SOS-C003": ("SOS-T026", "crop it to the character: the LoRA learns everybody who is in the picture"),
    "SOS-C004": ("SOS-T028", "use a larger original; the face is not learned from this picture"),
    "SOS-C005": ("SOS-T023", "use a sharp picture: a LoRA learns the blur"),
    "SOS-C006": ("SOS-T024", "leave one of the two out: what is there twice weighs twice"),
    "SOS-C007": ("SOS-T027", "leave it out if it is another person, or if the face is hidden or distorted"),
}
"""What the checks of reference images say, said of training images: code there -> code here and hint."""


def look(paths: Sequence[Path], detector: Detector | None) -> tuple[list[DatasetImage], list[Finding]]:
    """Every picture that can be read with its largest face, and a finding (SOS-T002) for each other one."""
    images: list[DatasetImage] = []
    findings: list[Finding] = []
    for path in paths:
        try:
            pixels = np.asarray(read_image(path))
        except BadImageError as error:
            findings.append(Finding("SOS-T002", "error", printable(path.name), error.message, error.hint))
            continue
        height, width = pixels.shape[:2]
        face = next(iter(detector.detect(pixels)), None) if detector is not None else None
        images.append(
            DatasetImage(
                path.name,
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
        if item.finding.code != "SOS-C001":  # of those `look` told already
            code, hint = AS_TRAINING[item.finding.code]
            name = printable(item.path.name)
            findings.append(Finding(code, item.finding.severity, name, item.finding.message, hint))
    if len(report.kept) < MIN_GOOD:
        message = (
            f"{len(report.kept)} of {len(paths)} images show one sharp face of the same person; expected 9 or more"
        )
        findings.append(Finding("SOS-T034", "warning", "faces", message, "add sharp pictures of the character alone"))
    return findings
