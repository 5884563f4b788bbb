"""CLIP and SigLIP encoders of text and images, which several families share."""

from __future__ import annotations

from sosie.families import Family
from sosie.families.clip.signature import PARTS

FAMILY = Family(name="clip", title="CLIP", package=__name__, parts=PARTS)
