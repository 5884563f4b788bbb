"""Stable Diffusion 1.x (Rombach et al. 2022, arXiv:2112.10752) and its fine-tunes."""

from __future__ import annotations

from sosie.families.contract.family import Family
from sosie.families.sd1.adapters import ADAPTERS
from sosie.families.sd1.partners import PARTNERS
from sosie.families.sd1.signature import PARTS

LICENCES = (("", "CreativeML Open RAIL-M of Stable Diffusion 1; a fine-tune may say more"),)

FAMILY = Family(name="sd1", title="SD 1.5", parts=PARTS, partners=PARTNERS, adapters=ADAPTERS, licences=LICENCES)
