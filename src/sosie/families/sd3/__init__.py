"""Stable Diffusion 3 and 3.5 (Esser et al. 2024, arXiv:2403.03206)."""

from __future__ import annotations

from sosie.families.contract.family import Family
from sosie.families.sd3.adapters import ADAPTERS
from sosie.families.sd3.partners import PARTNERS
from sosie.families.sd3.signature import PARTS

LICENCES = (("", "Stability AI Community License: paid above 1 million USD of revenue a year"),)

FAMILY = Family(
    name="sd3", title="Stable Diffusion 3", parts=PARTS, partners=PARTNERS, adapters=ADAPTERS, licences=LICENCES
)
