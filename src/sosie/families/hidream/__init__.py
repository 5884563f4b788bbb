"""HiDream-I1 (HiDream.ai): a mixture of experts with four text encoders."""

from __future__ import annotations

from sosie.families.contract.family import Family
from sosie.families.hidream.adapters import ADAPTERS
from sosie.families.hidream.partners import PARTNERS
from sosie.families.hidream.signature import PARTS

LICENCES = (("", "MIT"),)

FAMILY = Family(
    name="hidream", title="HiDream-I1", parts=PARTS, partners=PARTNERS, adapters=ADAPTERS, licences=LICENCES
)
