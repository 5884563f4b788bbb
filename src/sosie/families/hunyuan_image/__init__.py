"""HunyuanImage 2.1 of Tencent."""

from __future__ import annotations

from sosie.families.contract.family import Family
from sosie.families.hunyuan_image.adapters import ADAPTERS
from sosie.families.hunyuan_image.partners import PARTNERS
from sosie.families.hunyuan_image.signature import PARTS

LICENCES = (("", "Tencent Hunyuan Community License: not for the European Union, the United Kingdom and South Korea"),)

FAMILY = Family(
    name="hunyuan_image", title="HunyuanImage 2.1", parts=PARTS, partners=PARTNERS, adapters=ADAPTERS, licences=LICENCES
)
