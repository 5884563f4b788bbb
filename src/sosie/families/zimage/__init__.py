"""Z-Image of Tongyi-MAI (arXiv:2511.22699): Base, Turbo, Omni, and what descends from them."""

from __future__ import annotations

from sosie.families import Family
from sosie.families.zimage.signature import PARTS

FAMILY = Family(name="zimage", title="Z-Image", package=__name__, parts=PARTS)
