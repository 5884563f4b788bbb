"""Hunyuan-DiT (Li et al. 2024, arXiv:2405.08748)."""

from __future__ import annotations

from sosie.families.contract.family import Family
from sosie.families.hunyuan_dit.adapters import ADAPTERS
from sosie.families.hunyuan_dit.signature import PARTS

LICENCES = (("", "Tencent Hunyuan Community License: not for the European Union"),)

FAMILY = Family(name="hunyuan_dit", title="Hunyuan-DiT", parts=PARTS, adapters=ADAPTERS, licences=LICENCES)
