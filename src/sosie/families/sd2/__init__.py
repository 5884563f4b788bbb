"""Stable Diffusion 2.x and its fine-tunes: OpenCLIP-H instead of CLIP-L, noise or velocity predicted."""

from __future__ import annotations

from sosie.families.contract.family import Family
from sosie.families.sd2.adapters import ADAPTERS
from sosie.families.sd2.partners import PARTNERS
from sosie.families.sd2.signature import PARTS

LICENCES = (("", "CreativeML Open RAIL++-M of Stable Diffusion 2; a fine-tune may say more"),)

FAMILY = Family(name="sd2", title="SD 2", parts=PARTS, partners=PARTNERS, adapters=ADAPTERS, licences=LICENCES)
