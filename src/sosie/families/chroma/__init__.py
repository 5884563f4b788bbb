"""Chroma (lodestones): FLUX.1 schnell with a guidance layer in place of its modulation."""

from __future__ import annotations

from sosie.families.chroma.adapters import ADAPTERS
from sosie.families.chroma.partners import PARTNERS
from sosie.families.chroma.signature import PARTS
from sosie.families.contract.family import Family

LICENCES = (("", "Apache-2.0"),)

FAMILY = Family(name="chroma", title="Chroma", parts=PARTS, partners=PARTNERS, adapters=ADAPTERS, licences=LICENCES)
