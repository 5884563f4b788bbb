"""The pictures of a report: small copies in the page, or files beside it where the page would be too large."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from sosie.core.errors import SosieError
from sosie.files.images import read_image

if TYPE_CHECKING:
    from sosie.faces.detect import Detector

QUALITY = 82
FACE = 2.0
"""The side of a zoom, in widths of the face's box."""


@dataclass(frozen=True, eq=False)
class Pictures:
    """Where the images of a result lie, by their SHA-256. `files` fills with what is to lie beside the page.

    With `beside`, a picture's source is a file's name; else it is in the page itself.
    """

    paths: Mapping[str, Path]
    detector: Detector
    beside: bool = False
    files: dict[str, bytes] = field(default_factory=dict[str, bytes])

    def small(self, sha256: str, side: int = 160) -> str:
        """The source of a copy with no side above `side`; empty where the image cannot be read."""
        path = self.paths.get(sha256)
        return self._source(_small(path, side), f"{sha256[:16]}-{side}") if path else ""

    def zoomed(self, sha256: str, side: int = 96) -> str:
        """The source of its largest face, on a square; empty where there is none."""
        path = self.paths.get(sha256)
        return self._source(_face(path, side, self.detector), f"{sha256[:16]}-face") if path else ""

    def reference(self, path: Path, side: int = 96) -> str:
        """The source of a reference's face."""
        return self._source(_face(path, side, self.detector), f"reference-{path.stem}")

    def _source(self, data: bytes, name: str) -> str:
        if not data:
            return ""
        if self.beside:
            self.files[f"{name}.webp"] = data
            return f"images/{name}.webp"
        return "data:image/webp;base64," + base64.b64encode(data).decode("ascii")


@cache
def _small(path: Path, side: int) -> bytes:
    try:
        image = read_image(path)
    except SosieError:
        return b""
    image.thumbnail((side, side), Image.Resampling.LANCZOS)
    return _webp(image)


@cache
def _face(path: Path, side: int, detector: Detector) -> bytes:
    try:
        image = read_image(path)
    except SosieError:
        return b""
    faces = detector.detect(np.asarray(image))
    if not faces:
        return b""
    x, y, width, height = max(faces, key=lambda face: face.box[2] * face.box[3]).box
    half = max(width, height) * FACE / 2
    middle = (x + width / 2, y + height / 2)
    left, top = max(0, round(middle[0] - half)), max(0, round(middle[1] - half))
    right, bottom = min(image.width, round(middle[0] + half)), min(image.height, round(middle[1] + half))
    zoom = image.crop((left, top, right, bottom))
    zoom.thumbnail((side, side), Image.Resampling.LANCZOS)
    return _webp(zoom)


def _webp(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "WEBP", quality=QUALITY)
    return buffer.getvalue()
