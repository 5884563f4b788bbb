"""Anima of CircleStone: Cosmos Predict 2 2B with a small Qwen3 in place of T5."""

from __future__ import annotations

from sosie.families.anima.adapters import ADAPTERS
from sosie.families.anima.partners import PARTNERS
from sosie.families.anima.signature import PARTS
from sosie.families.contract.family import Family

LICENCES = (("", "CircleStone Labs Non-Commercial License, on the NVIDIA Open Model License"),)

FAMILY = Family(name="anima", title="Anima", parts=PARTS, partners=PARTNERS, adapters=ADAPTERS, licences=LICENCES)
