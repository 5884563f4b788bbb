"""Qwen-Image (Wu et al. 2025, arXiv:2508.02324), its editing models, and its text encoder Qwen2.5-VL."""

from __future__ import annotations

from sosie.families.contract.family import Family
from sosie.families.qwen_image.adapters import ADAPTERS
from sosie.families.qwen_image.partners import PARTNERS
from sosie.families.qwen_image.signature import PARTS

LICENCES = (("", "Apache-2.0"),)

FAMILY = Family(
    name="qwen_image", title="Qwen-Image", parts=PARTS, partners=PARTNERS, adapters=ADAPTERS, licences=LICENCES
)
