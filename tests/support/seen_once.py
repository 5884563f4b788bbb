"""What the face nets say of a picture, remembered: tests show the same few pictures to them again and again."""

from __future__ import annotations

import hashlib
from typing import Any

import pytest

SEEN: dict[Any, Any] = {}


def look_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """From now on the detector and the judges look at each picture once in the whole test run."""
    from sosie.faces.detect import Detector
    from sosie.faces.encoders import DlibResNet, SFace

    for place, (kind, name) in enumerate(((Detector, "detect"), (SFace, "embed"), (DlibResNet, "embed"))):
        monkeypatch.setattr(kind, name, _remembered(getattr(kind, name), place))


def _remembered(method: Any, place: int) -> Any:
    def call(self: Any, *given: Any) -> Any:
        points = given[1].points.tobytes() if len(given) > 1 else b""
        pixels = getattr(given[0], "pixels", given[0])
        key = (place, hashlib.sha256(pixels.tobytes()).digest(), pixels.shape, points)
        if key not in SEEN:
            SEEN[key] = method(self, *given)
        return SEEN[key]

    return call
