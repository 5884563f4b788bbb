"""Stray text, read by rapidocr (Apache-2.0, models in its package) where a glance says that there may be some."""

from __future__ import annotations

import importlib
from functools import cache
from typing import Any

import numpy as np

from sosie.core.score import Score
from sosie.scorers.defects.glance import may_hold_words
from sosie.scorers.sample import Sample
from sosie.scorers.scorer import Checks, Scale

TEXT = Scale("text", 4.0, "characters", 0.0, 9999.0)

_CONFIDENCE = 0.7
"""Words that the reader is less sure of are not counted."""
_WORD = 3
"""Shorter words are not counted: bricks, buttons and books are read as one or two letters."""
_LONGEST = 768
"""A larger image is read at this longer side."""
_SHORTEST = 384
"""Words are looked for at this shorter side or more; at the reader's own 736 it takes longer and finds no more."""


def scores(sample: Sample) -> list[Score]:
    """`text`: how many letters and digits can be read in the image."""
    words = read_words(sample)
    count = sum(_letters(word) for word in words)
    return [TEXT.score(count, f"text in the image: {', '.join(repr(word) for word in words)}")]


def read_words(sample: Sample) -> list[str]:
    """The words that the reader is sure of, top to bottom."""
    cv2: Any = importlib.import_module("cv2")
    pixels: Any = sample.picture.whole(2 * _LONGEST).pixels
    scale = _LONGEST / max(pixels.shape[:2])
    if scale < 1:
        pixels = cv2.resize(pixels, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    if not may_hold_words(pixels):
        return []
    result = _reader()(np.ascontiguousarray(pixels[:, :, ::-1]))
    read = zip(result.txts or (), result.scores or (), strict=True)
    return [str(word) for word, sure in read if sure >= _CONFIDENCE and _letters(str(word)) >= _WORD]


def _letters(word: str) -> int:
    return sum(letter.isalnum() for letter in word)


@cache
def _reader() -> Any:
    """The process's one reader: quiet, on one thread."""
    rapidocr: Any = importlib.import_module("rapidocr")
    return rapidocr.RapidOCR(
        params={
            "Global.log_level": "critical",
            "Global.use_cls": False,
            "Det.limit_type": "min",
            "Det.limit_side_len": _SHORTEST,
            "EngineConfig.onnxruntime.intra_op_num_threads": 1,
            "EngineConfig.onnxruntime.inter_op_num_threads": 1,
            "EngineConfig.onnxruntime.enable_cpu_mem_arena": True,
        }
    )


SCORER = Checks("text", ("rapidocr", "cv2"), (TEXT,), scores)
