"""Ideogram 4: one model that draws with text, and one that draws without."""

from __future__ import annotations

from sosie.families.contract.family import Family
from sosie.families.ideogram4.partners import PARTNERS
from sosie.families.ideogram4.signature import PARTS

LICENCES = (("", "Ideogram Non-Commercial Model Agreement"),)

FAMILY = Family(name="ideogram4", title="Ideogram 4", parts=PARTS, partners=PARTNERS, licences=LICENCES)
