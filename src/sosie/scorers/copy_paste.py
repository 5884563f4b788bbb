"""The copy-paste index: whether images repeat the references they were guided by, or show the person.

It needs photos of the same person that guided nothing, and it means little without the value that images of no
guide have: it passes and fails nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from sosie.scorers.scorer import Scale

if TYPE_CHECKING:
    from sosie.core.score import Score
    from sosie.faces.encoders import Encoder
    from sosie.scorers.sample import Sample

Vectors = NDArray[np.float32] | NDArray[np.float64]

COPY_PASTE = Scale("copy_paste", None, "index", -1.0, 1.0, kind="copies")


@dataclass(frozen=True, eq=False)
class CopyPaste:
    """The scorer of the index, by an encoder that guided nothing.

    `references` [r, d] are its embeddings of what guided or was learned from, `targets` [t, d] of the same person.
    """

    encoder: Encoder
    references: Vectors
    targets: Vectors
    name: str = "copy_paste"
    needs: tuple[str, ...] = ()
    scales: tuple[Scale, ...] = (COPY_PASTE,)

    def score(self, sample: Sample, /) -> list[Score]:
        """`copy_paste`: the index of the largest face."""
        if not len(self.references) or not len(self.targets):
            which = "reference that guided" if not len(self.references) else "reference that guided nothing"
            return [COPY_PASTE.unmeasured(f"there is no {which} with a face to compare with")]
        if sample.main_face is None:
            return [COPY_PASTE.unmeasured("no face was found")]
        own = sample.embedding(self.encoder)[np.newaxis]
        try:
            return [COPY_PASTE.score(float(copy_paste_index(own, self.references, self.targets)[0]))]
        except ValueError as error:
            return [COPY_PASTE.unmeasured(str(error))]


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
