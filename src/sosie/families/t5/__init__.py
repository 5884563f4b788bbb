"""T5 encoders (Raffel et al. 2020): XXL for SD3 and FLUX.1."""

from __future__ import annotations

from sosie.families.contract.family import Family
from sosie.families.t5.signature import PARTS

FAMILY = Family(name="t5", title="T5", parts=PARTS)
