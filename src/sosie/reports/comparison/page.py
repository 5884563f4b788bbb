"""The page of a comparison: figures first, then every pair under a slider, flickering, and its faces at one scale.

It reads without a script, which only lays two images over each other; the page lets no other run.
"""

from __future__ import annotations

import base64
import hashlib
import io
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from markupsafe import Markup
from PIL import Image

from sosie.core.errors import DeliveryError
from sosie.faces.crop import face_crop
from sosie.files.images import read_image
from sosie.reports.page import draw_page
from sosie.reports.place import publish
from sosie.reports.words import Language, words_of

if TYPE_CHECKING:
    from sosie.faces.detect import Detector

SIDE, FACE = 768, 240
MOST = 24
"""Pairs that are shown: with two images of 768 px each the page stays under 10 MB."""


ROOM = "comparison"
"""Where its words lie: `words_of`."""


@dataclass(frozen=True)
class Line:
    """A score in words, as it stands in the table; `verdict` says which side is better: a, b or empty."""

    name: str
    a: str
    b: str
    difference: str
    pairs: str
    note: str
    verdict: str = ""


@dataclass(frozen=True)
class ShownFace:
    """A face with head and shoulders as a data URL, and how far its pixels are enlarged; empty if there is none."""

    url: str = ""
    enlarged: str = ""


@dataclass(frozen=True)
class ShownPair:
    """Two images of a block and what is said of them."""

    block: str
    a: Path
    b: Path
    values: tuple[tuple[str, str, str], ...] = ()
    faces: tuple[ShownFace, ...] = ()


@dataclass(frozen=True)
class ComparisonPage:
    """Everything that the page shows, in its `language`. `asked`: see `place`."""

    title: str
    lead: str
    names: tuple[str, str]
    lines: tuple[Line, ...]
    pairs: tuple[ShownPair, ...]
    notes: tuple[str, ...]
    asked: str
    language: Language = "en"


def write_comparison(page: ComparisonPage, path: Path) -> Path:
    """Writes the page, whole or not at all; under another name where the file is not this comparison's."""
    try:
        return publish(path, page.asked, lambda stream: stream.write(comparison_page(page).encode()))
    except OSError as error:
        raise DeliveryError(
            f"the page could not be written to {path}: {error.strerror or error}", "choose another --out"
        ) from None


def comparison_page(page: ComparisonPage) -> str:
    """The page, one file. Its policy names its only script by digest."""
    script = (resources.files("sosie.reports") / "templates" / "compare.js").read_text(encoding="utf-8")
    sha256 = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    policy = f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'sha256-{sha256}'"
    safe = Markup(script)  # noqa: S704 - our own file, which its digest in the policy names
    words = words_of(ROOM, page.language)
    return draw_page(
        "compare.html", page.title, page.asked, page=page, side=SIDE, script=safe, policy=policy, words=words
    )


def face_of(path: Path, detector: Detector) -> ShownFace:
    """The largest face of an image, as large as any other's."""
    pixels: Any = np.asarray(read_image(path).convert("RGB"))
    face = max(detector.detect(pixels), key=lambda one: one.box[2] * one.box[3], default=None)
    if face is None:
        return ShownFace()
    crop = face_crop(pixels, face, FACE)
    buffer = io.BytesIO()
    Image.fromarray(crop.image).save(buffer, "WEBP", quality=92)
    url = "data:image/webp;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")
    return ShownFace(url, f"{crop.scale:.2f}")


def shown_first(sizes: Sequence[float | None], most: int = MOST) -> list[int]:
    """Which pairs are shown, the largest differences first; those without one come last."""
    known = sorted(range(len(sizes)), key=lambda at: (sizes[at] is None, -abs(sizes[at] or 0.0)))
    return known[:most]
