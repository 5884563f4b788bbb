"""Lumina-Image 2.0 (Qin et al. 2025, arXiv:2503.21758) and its fine-tunes."""

from __future__ import annotations

from sosie.families.contract.family import Family
from sosie.families.lumina2.adapters import ADAPTERS
from sosie.families.lumina2.partners import PARTNERS
from sosie.families.lumina2.signature import PARTS

LICENCES = (("base", "Apache-2.0"),)

FAMILY = Family(
    name="lumina2", title="Lumina-Image 2.0", parts=PARTS, partners=PARTNERS, adapters=ADAPTERS, licences=LICENCES
)
