"""ERNIE-Image of Baidu: base and Turbo."""

from __future__ import annotations

from sosie.families.contract.family import Family
from sosie.families.ernie.partners import PARTNERS
from sosie.families.ernie.signature import PARTS

LICENCES = (("", "Apache-2.0"),)

FAMILY = Family(name="ernie", title="ERNIE-Image", parts=PARTS, partners=PARTNERS, licences=LICENCES)
