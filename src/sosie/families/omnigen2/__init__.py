"""OmniGen2 of VectorSpaceLab: images of text and of references."""

from __future__ import annotations

from sosie.families.contract.family import Family
from sosie.families.omnigen2.partners import PARTNERS
from sosie.families.omnigen2.signature import PARTS

LICENCES = (("", "Apache-2.0"),)

FAMILY = Family(name="omnigen2", title="OmniGen2", parts=PARTS, partners=PARTNERS, licences=LICENCES)
