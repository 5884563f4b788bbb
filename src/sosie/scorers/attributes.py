"""Which attributes a portrait shows: a classifier in one ONNX file, its vocabulary in the file's metadata."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sosie.core.errors import BadModelError, NotFoundError
from sosie.faces.onnx import open_session

METADATA = "sosie.attributes"
"""The key of the file's metadata under which its vocabulary stands, as JSON."""

HINT = "packages/sosie-mini/tools/train_attributes.py shows how such a file is made"


@dataclass(frozen=True)
class Value:
    """One value of an attribute, and the phrases (lower case) with which a prompt asks for it."""

    name: str
    phrases: tuple[str, ...]


@dataclass(frozen=True)
class Attribute:
    """What is told apart: the values exclude each other.

    `near`: words of which one must follow a phrase, with at most two words between them ("hair" for a
    colour of hair); empty: the phrases speak for themselves.
    """

    name: str
    values: tuple[Value, ...]
    near: tuple[str, ...] = ()


class AttributeClassifier:
    """An ONNX classifier of attributes, run by onnxruntime on one thread; 5 ms an image on one core.

    One input float32 [n, 3, side, side], RGB in 0..1, and one output float32 [n, k] of logits: the
    values of all attributes in the vocabulary's order. The metadata `sosie.attributes` holds
    `{"side": px, "attributes": [{"name", "near": [...], "values": [{"name", "phrases": [...]}]}]}`.
    """

    def __init__(self, path: Path) -> None:
        """Loads and tries the file: NotFoundError if there is none, BadModelError if it is no such classifier."""
        if not path.is_file():
            raise NotFoundError(f"the attribute classifier {path} does not exist", HINT)
        content = path.read_bytes()
        self.path = path
        self.sha256 = hashlib.sha256(content).hexdigest()
        self._session = _open(path, content)
        self.side, self.attributes = _vocabulary(path, self._session.get_modelmeta().custom_metadata_map)
        self._try()

    def __reduce__(self) -> tuple[Any, ...]:
        """Another process reads the file itself."""
        return AttributeClassifier, (self.path,)

    def see(self, pixels: NDArray[np.uint8]) -> dict[str, dict[str, float]]:
        """The probability of each value, by attribute; each attribute's sum to 1.

        `pixels` is RGB uint8 [h, w, 3] of any size: the square in its middle is looked at.
        """
        logits = self._run(_square(pixels, self.side))
        seen: dict[str, dict[str, float]] = {}
        start = 0
        for attribute in self.attributes:
            part = logits[start : start + len(attribute.values)]
            raised = np.exp(part - part.max())
            shares = (raised / raised.sum()).tolist()
            seen[attribute.name] = dict(zip((value.name for value in attribute.values), shares, strict=True))
            start += len(part)
        return seen

    def _run(self, square: NDArray[np.uint8]) -> NDArray[np.float64]:
        image = square.astype(np.float32).transpose(2, 0, 1)[np.newaxis] / 255
        name = self._session.get_inputs()[0].name
        return np.asarray(self._session.run(None, {name: image})[0], np.float64)[0]

    def _try(self) -> None:
        total = sum(len(attribute.values) for attribute in self.attributes)
        try:
            logits = self._run(np.full((self.side, self.side, 3), 128, np.uint8))
        # onnxruntime's exceptions have no common base below Exception.
        except Exception as error:
            raise _refused(self.path, f"it fails on an image of {self.side} px ({str(error).strip()[:200]})") from error
        if logits.shape != (total,) or not np.isfinite(logits).all():
            found = f"it answers {list(logits.shape)} values"
            raise _refused(self.path, f"{found}; expected the {total} of its vocabulary, all finite")


def _open(path: Path, content: bytes) -> Any:
    return open_session(content, lambda why: _refused(path, f"onnxruntime cannot load it ({why})"))


def _vocabulary(path: Path, metadata: Mapping[str, str]) -> tuple[int, tuple[Attribute, ...]]:
    if METADATA not in metadata:
        raise _refused(path, f"it has no metadata '{METADATA}', which names what it tells apart")
    try:
        table: Any = json.loads(metadata[METADATA])
        side = int(table["side"])
        attributes = tuple(
            Attribute(
                str(item["name"]),
                tuple(
                    Value(str(value["name"]), tuple(str(phrase) for phrase in value["phrases"]))
                    for value in item["values"]
                ),
                tuple(str(word) for word in item["near"]),
            )
            for item in table["attributes"]
        )
    except (ValueError, KeyError, TypeError) as error:
        raise _refused(path, f"its metadata '{METADATA}' is damaged ({type(error).__name__}: {error})") from None
    if not 1 <= side <= 1024 or not attributes or any(not attribute.values for attribute in attributes):
        raise _refused(path, f"its metadata '{METADATA}' names no attribute, no value or a side of {side} px")
    return side, attributes


def _square(pixels: NDArray[np.uint8], side: int) -> NDArray[np.uint8]:
    """The largest square in the middle, at `side` px; where it becomes smaller, each pixel is a mean."""
    from PIL import Image

    height, width = pixels.shape[:2]
    short = min(height, width)
    top, left = (height - short) // 2, (width - short) // 2
    square = Image.fromarray(pixels[top : top + short, left : left + short])
    how = Image.Resampling.BOX if short >= side else Image.Resampling.BICUBIC
    return np.asarray(square.resize((side, side), how))


def _refused(path: Path, why: str) -> BadModelError:
    return BadModelError(f"{path} is not an attribute classifier: {why}", HINT)
