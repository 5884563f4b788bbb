"""The text encoder's last layer, which Z-Image never reads and the package leaves out.

Z-Image takes the states of the last layer but one. So the last layer was never trained; a stock loader wants it all
the same, and gets zeros, and ones for its norms.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from sosie_mini.cache import expanded_bytes as unpacked
from sosie_mini.packing import Array, expand

FIRST, LAST = "layers.0.", "layers.3."
"""The encoder has four layers."""


def expanded_bytes(packed: bytes, path: str) -> bytes:
    """What the packed file `path` expands to."""
    if path == "text_encoder/model.safetensors":
        return expand(packed, completed)
    return unpacked(packed, path)


def completed(tensors: Mapping[str, Array]) -> dict[str, Array]:
    """The encoder's tensors with those of its last layer."""
    made = dict(tensors)
    for name, value in tensors.items():
        if FIRST in name:
            made.setdefault(name.replace(FIRST, LAST), (np.zeros_like if value.ndim > 1 else np.ones_like)(value))
    return made
