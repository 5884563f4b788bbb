"""How alike a character's references are to each other: what sets thresholds where no cohort does."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from sosie.core.schema import digest
from sosie.faces.templates import kept
from sosie.files.images import read_image
from sosie.scorers.identity import leave_one_out, why_not_judged

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from sosie.faces.detect import Detector, Face
    from sosie.faces.encoders import Encoder

VERSION = 2


@dataclass(frozen=True, eq=False)
class Likeness:
    """By one judge, the value of every usable reference [n] against the template of all others, and its file."""

    values: NDArray[np.float32]
    files: tuple[Path, ...]

    def least(self, higher_is_better: bool) -> str:
        """The name of the least alike reference."""
        index = int(self.values.argmin() if higher_is_better else self.values.argmax())
        return self.files[index].name


def reference_likeness(
    paths: Mapping[str, Path], encoders: Mapping[str, Encoder], detector: Detector, folder: Path
) -> dict[str, Likeness]:
    """The likeness by each encoder; `paths` are the references by their digests.

    The largest face counts. Those that a judge could not judge (too small, turned too far) are part of the
    template, as ever, but have no value. Answers are kept in `folder`.
    """

    @cache
    def shown() -> list[tuple[int, NDArray[np.uint8], Face]]:
        pixels = [np.asarray(read_image(path)) for path in paths.values()]
        return [(i, image, faces[0]) for i, image in enumerate(pixels) if (faces := detector.detect(image))]

    found: dict[str, Likeness] = {}
    for name, encoder in encoders.items():
        key = digest(["alone", VERSION, list(paths), encoder.sha256, encoder.metric])

        def compute(encoder: Encoder = encoder) -> NDArray[np.float32]:
            """Pairs of a reference's index and its value, one after another."""
            if len(shown()) < 2:
                return np.zeros(0, np.float32)
            values = leave_one_out(encoder.metric, [encoder.embed(image, face) for _, image, face in shown()])
            usable = [(i, v) for (i, _, face), v in zip(shown(), values, strict=True) if not why_not_judged(face)]
            return np.array(usable, np.float32).reshape(-1)

        pairs = kept(folder / f"{key[:32]}.npy", compute).reshape(-1, 2)
        files = list(paths.values())
        found[name] = Likeness(pairs[:, 1], tuple(files[int(index)] for index in pairs[:, 0]))
    return found
