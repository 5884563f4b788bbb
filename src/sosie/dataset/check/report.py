"""What the check of a training set says."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from sosie.core import Finding

Framing = Literal["close-up", "half body", "full body"]

CLOSE_UP = 0.28
FULL_BODY = 0.13
"""Face height over image height: above the first a close-up, below the second a full body.

Not fitted: from the proportions of a standing adult of 7.5 heads, whose face (forehead to chin, as
the detector boxes it) is three quarters of the head. Filling the picture, head and shoulders give
about 0.37, the upper half 0.2, the whole body 0.1."""

FRONTAL_DEGREES = 15.0


@dataclass(frozen=True)
class DatasetImage:
    """One image: its file name, size in pixels, caption or None, bucket, and its largest face.

    `face_height` is that of the face's box over the image's height, `yaw` in degrees, negative =
    turned to the left of the picture; both None when no face was found or looked for.
    """

    file: str
    width: int
    height: int
    bucket: tuple[int, int]
    caption: str | None = None
    face_height: float | None = None
    yaw: float | None = None

    @property
    def framing(self) -> Framing | None:
        """How much of the person the picture can show, judged by the face's height."""
        if self.face_height is None:
            return None
        if self.face_height >= CLOSE_UP:
            return "close-up"
        return "full body" if self.face_height < FULL_BODY else "half body"


@dataclass(frozen=True)
class Bucket:
    """A training resolution in pixels, and how many images are cropped to it."""

    width: int
    height: int
    images: int


@dataclass(frozen=True)
class Balance:
    """How many images show what. Left and right are turned by 15 degrees or more, as seen in the picture."""

    close_up: int = 0
    half_body: int = 0
    full_body: int = 0
    frontal: int = 0
    left: int = 0
    right: int = 0
    no_face: int = 0

    @property
    def faces(self) -> int:
        """How many images show a face."""
        return self.close_up + self.half_body + self.full_body


@dataclass(frozen=True)
class DatasetReport:
    """The images that could be read, everything there is to say, the buckets (fullest first) and the balance."""

    images: tuple[DatasetImage, ...]
    findings: tuple[Finding, ...]
    buckets: tuple[Bucket, ...]
    balance: Balance
