"""FLUX.1 of Black Forest Labs: dev, schnell, fill and the tools."""

from __future__ import annotations

from sosie.families.contract.family import Family
from sosie.families.flux1.adapters import ADAPTERS
from sosie.families.flux1.partners import PARTNERS
from sosie.families.flux1.signature import PARTS

LICENCES = (("schnell", "Apache-2.0"), ("", "FLUX non-commercial licence of Black Forest Labs"))

FAMILY = Family(name="flux1", title="FLUX.1", parts=PARTS, partners=PARTNERS, adapters=ADAPTERS, licences=LICENCES)
