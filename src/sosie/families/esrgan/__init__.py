"""Upscalers of the ESRGAN class (Wang et al. 2018, arXiv:1809.00219; Real-ESRGAN, arXiv:2107.10833)."""

from __future__ import annotations

from sosie.families import Family
from sosie.families.esrgan.signature import PARTS

FAMILY = Family(name="esrgan", title="ESRGAN", package=__name__, parts=PARTS)
