"""SDXL (Podell et al. 2023, arXiv:2307.01952) and what descends from it without a change of layout."""

from __future__ import annotations

from sosie.families import Family
from sosie.families.sdxl.signature import PARTS

FAMILY = Family(name="sdxl", title="SDXL", package=__name__, parts=PARTS)
