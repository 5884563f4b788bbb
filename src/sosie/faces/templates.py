"""Templates: what a face encoder makes of a character's references, kept between commands."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from sosie.core import Character
from sosie.core.errors import BadImageError, SosieError
from sosie.core.schema import digest
from sosie.faces.encoders import template
from sosie.files.arrays import read_array
from sosie.files.images import read_image
from sosie.files.whole import make_folder, whole_stream

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from sosie.faces.detect import Detector, Face
    from sosie.faces.encoders import Encoder

VERSION = 3

MAX_BYTES = 100_000
"""Of a template; those of known encoders have 2 kB."""


def judge_templates(
    character: Character, paths: Mapping[str, Path], encoders: Mapping[str, Encoder], detector: Detector, folder: Path
) -> dict[str, tuple[Encoder, NDArray[np.float32]]]:
    """Each judge's template [d]: the mean over the largest face of every reference.

    Templates are kept in `folder`, by the digests of references and encoder. Raises
    `BadImageError` when no reference shows a face.
    """

    @cache
    def shown() -> list[tuple[NDArray[np.uint8], Face]]:
        pixels = [np.asarray(read_image(path)) for path in paths.values()]
        found = [(image, faces[0]) for image in pixels if (faces := detector.detect(image))]
        if not found:
            raise BadImageError(
                f"no face was found in any of the {len(pixels)} references of '{character.name}'",
                f"sosie new {character.name} IMAGES... --replace",
            )
        return found

    made: dict[str, tuple[Encoder, NDArray[np.float32]]] = {}
    for name, encoder in encoders.items():
        key = digest([VERSION, list(paths), encoder.sha256, encoder.metric])

        def compute(encoder: Encoder = encoder) -> NDArray[np.float32]:
            return template(encoder.metric, [encoder.embed(image, face) for image, face in shown()])

        made[name] = (encoder, kept(folder / f"{key[:32]}.npy", compute))
    return made


def kept(path: Path, compute: Callable[[], NDArray[np.float32]]) -> NDArray[np.float32]:
    """The vector in `path`, or a new one that is written there if the disk takes it."""
    try:
        vector = read_array(path, MAX_BYTES)
        if vector.dtype == np.float32 and vector.ndim == 1 and np.isfinite(vector).all():
            return vector
    except (SosieError, OSError, ValueError):
        pass
    vector = compute()
    with suppress(OSError):
        make_folder(path.parent)
        with whole_stream(path) as file:
            np.save(file, vector)
    return vector
