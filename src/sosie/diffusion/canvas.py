"""What a stage is drawn on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from PIL.Image import Image

    from sosie.faces.detect import Face


@dataclass(frozen=True, eq=False)
class Canvas:
    """What is drawn: the size in pixels, the image under it (RGB, or None) and how much may change where.

    `change` is float32 [h, w], 0 keeps and 1 draws anew (Differential Diffusion); None: all of it.
    `face` is where the key points of a guide are taken from.
    """

    width: int
    height: int
    under: Image | None = None
    change: NDArray[np.float32] | None = None
    face: Face | None = None
