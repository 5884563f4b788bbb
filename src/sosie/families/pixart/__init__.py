"""PixArt alpha and sigma."""

from __future__ import annotations

from sosie.families.contract.family import Family
from sosie.families.pixart.adapters import ADAPTERS
from sosie.families.pixart.partners import PARTNERS
from sosie.families.pixart.signature import PARTS

LICENCES = (("", "CreativeML Open RAIL++-M"),)

FAMILY = Family(name="pixart", title="PixArt", parts=PARTS, partners=PARTNERS, adapters=ADAPTERS, licences=LICENCES)
