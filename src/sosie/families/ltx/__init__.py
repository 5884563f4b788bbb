"""LTX-Video of Lightricks, and LTX-2, which makes sound, too."""

from __future__ import annotations

from sosie.families.contract.family import Family
from sosie.families.ltx.adapters import ADAPTERS
from sosie.families.ltx.partners import PARTNERS
from sosie.families.ltx.signature import PARTS

LICENCES = (
    ("LTX-2", "LTX-2 Community License: paid from 10 million USD of revenue a year"),
    ("", "LTXV Open Weights License of Lightricks"),
)

FAMILY = Family(name="ltx", title="LTX-Video", parts=PARTS, partners=PARTNERS, adapters=ADAPTERS, licences=LICENCES)
