"""HunyuanVideo of Tencent: 1.0 and 1.5."""

from __future__ import annotations

from sosie.families.contract.family import Family
from sosie.families.hunyuan_video.adapters import ADAPTERS
from sosie.families.hunyuan_video.partners import PARTNERS
from sosie.families.hunyuan_video.signature import PARTS

LICENCES = (("", "Tencent Hunyuan Community License: not for the European Union, the United Kingdom and South Korea"),)

FAMILY = Family(
    name="hunyuan_video", title="HunyuanVideo", parts=PARTS, partners=PARTNERS, adapters=ADAPTERS, licences=LICENCES
)
