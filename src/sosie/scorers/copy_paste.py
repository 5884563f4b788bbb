"""The copy-paste index: whether images repeat the references they were guided by, or show the person.

It is a figure of a set and not of one image's verdict: it needs photos of the same person that guided
nothing, and it means little without the value that images of no guide have. So it stands here, not
among the scorers.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Vectors = NDArray[np.float32] | NDArray[np.float64]


def copy_paste_index(images: Vectors, references: Vectors, targets: Vectors) -> NDArray[np.float64]:
    """The index of each image, float64 [n], -1 to 1: positive is nearer to the references than to the targets.

    `images` [n, d], `references` [r, d] that guided and `targets` [t, d] of the same person that did not
    are embeddings by one encoder that guided nothing. With θ the angle between two of them it is
    (θ(image, target) - θ(image, reference)) / θ(target, reference), each θ the mean over all pairs
    (WithAnyone, arXiv:2510.14975, for one reference and one target). +1: the image is the reference;
    -1: it is the target; 0: no nearer to one than to the other. References and targets that differ in
    pose or light move it, so compare it with the index of unguided images of the same prompts.

    Raises ValueError if references or targets are missing, or are the same pictures.
    """
    if not len(references) or not len(targets):
        raise ValueError(f"expected references and targets, got {len(references)} and {len(targets)}")
    apart = float(_angles(targets, references).mean())
    if apart < 1e-3:
        raise ValueError("references and targets are the same pictures; expected targets that guided nothing")
    return (_angles(images, targets).mean(axis=1) - _angles(images, references).mean(axis=1)) / apart


def _angles(first: Vectors, second: Vectors) -> NDArray[np.float64]:
    """The angle between each row of `first` [n, d] and each of `second` [m, d], radians [n, m]."""
    one, two = (np.asarray(rows, np.float64) for rows in (first, second))
    one = one / np.linalg.norm(one, axis=1, keepdims=True)
    two = two / np.linalg.norm(two, axis=1, keepdims=True)
    return np.arccos(np.clip(one @ two.T, -1.0, 1.0))
