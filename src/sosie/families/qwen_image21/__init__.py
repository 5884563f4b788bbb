"""Qwen-Image 2.1 of Alibaba: images of text and of up to ten references."""

from __future__ import annotations

from sosie.families.contract.family import Family
from sosie.families.qwen_image21.adapters import ADAPTERS
from sosie.families.qwen_image21.partners import PARTNERS
from sosie.families.qwen_image21.signature import PARTS

LICENCES = (("", "Qwen Research License: non-commercial"),)

FAMILY = Family(
    name="qwen_image21", title="Qwen-Image 2.1", parts=PARTS, partners=PARTNERS, adapters=ADAPTERS, licences=LICENCES
)
