"""Wan of Alibaba: 2.1 and 2.2, video and single frames."""

from __future__ import annotations

from sosie.families.contract.family import Family
from sosie.families.wan.adapters import ADAPTERS
from sosie.families.wan.partners import PARTNERS
from sosie.families.wan.signature import PARTS

LICENCES = (("", "Apache-2.0"),)

FAMILY = Family(name="wan", title="Wan", parts=PARTS, partners=PARTNERS, adapters=ADAPTERS, licences=LICENCES)
