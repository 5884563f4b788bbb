"""The check of a folder of training images with captions."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from sosie.core import Finding
from sosie.core.errors import MissingExtraError, NotFoundError
from sosie.core.finding import Rule
from sosie.dataset.check.balance import balance_of, check_balance
from sosie.dataset.check.buckets import check_sizes, count_buckets
from sosie.dataset.check.captions import check_captions
from sosie.dataset.check.report import Balance, DatasetReport
from sosie.dataset.given import Layout, layout_of, read_captions
from sosie.dataset.names import KINDS, listed

if TYPE_CHECKING:
    from sosie.faces.detect import Detector
    from sosie.faces.encoders import Encoder

T001 = Rule("SOS-T001", "error", "The folder has no images")
T003 = Rule("SOS-T003", "warning", "Too few images for a character")
T004 = Rule("SOS-T004", "info", "Only a part of the images was looked at")
T049 = Rule("SOS-T049", "warning", "Faces were not looked at")

FEW = 9
"""Guides for character LoRAs use 9 to 25 images, and more."""

MAX_IMAGES = 1000
"""Every image is compared with every other one."""


def check_dataset(
    folder: Path, trigger: str, detector: Detector | None = None, encoder: Encoder | None = None
) -> DatasetReport:
    """Looks at the images of `folder` (`layout_of`) and their captions: SOS-T001 to T034 and T049.

    `trigger` is the token of the character, or empty. `detector` and `encoder` are YuNet and SFace
    when None. Nothing is written. NotFoundError if `folder` is not a folder.
    """
    if not folder.is_dir():
        raise NotFoundError(f"{folder} is not a folder; expected one with images and captions")
    from sosie.dataset.check.faces import check_faces, look

    try:
        layout = layout_of(folder)
        names = [placed.name for placed in layout.pictures]
        findings = [*_number(layout), *layout.findings]
        captions = read_captions(folder, names)
    except OSError as error:
        raise NotFoundError(f"{folder} cannot be read: {error.strerror or error}") from None
    if not names:
        return DatasetReport((), tuple(findings), (), Balance())
    try:
        detector, encoder = _models(detector, encoder)
    except MissingExtraError as error:
        message = f"faces were not looked at: {error.message}"
        findings.append(T049.at("faces", message, error.hint))
    images, unreadable = look(folder, names[:MAX_IMAGES], detector)
    images = [replace(image, caption=captions.texts.get(image.file)) for image in images]
    findings += [
        *unreadable,
        *check_captions(captions, [image.file for image in images], trigger),
        *check_sizes(images),
    ]
    balance = balance_of(images)
    if detector is not None and encoder is not None:
        findings += check_faces([folder / image.file for image in images], detector, encoder)
        findings += check_balance(balance)
    return DatasetReport(tuple(images), tuple(findings), count_buckets(images), balance)


def _number(layout: Layout) -> list[Finding]:
    """What there is to say of the number of images."""
    folder, count = layout.root, len(layout.pictures)
    if count == 0:
        hint = f"give the folder that has them: {listed(layout.passed)}" if layout.passed else KINDS
        return [T001.at(str(folder), f"{folder} has no images", hint)]
    if count < FEW:
        message = f"{count} images; a character is learned from {FEW} to 25 or more"
        return [T003.at(str(folder), message, "add different pictures, not copies")]
    if count > MAX_IMAGES:
        message = f"{count} images; the first {MAX_IMAGES} by name were looked at"
        return [T004.at(str(folder), message)]
    return []


def _models(detector: Detector | None, encoder: Encoder | None) -> tuple[Detector, Encoder]:
    from sosie.faces.detect import Detector
    from sosie.faces.encoders import SFace

    return detector or Detector(), encoder or SFace()
