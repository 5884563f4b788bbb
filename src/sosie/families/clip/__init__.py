"""CLIP and SigLIP encoders of text and images, which several families share."""

from __future__ import annotations

from sosie.families.clip.signature import PARTS
from sosie.families.contract.family import Family

FAMILY = Family(name="clip", title="CLIP", parts=PARTS)
