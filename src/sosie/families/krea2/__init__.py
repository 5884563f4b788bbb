"""Krea 2: base and Turbo."""

from __future__ import annotations

from sosie.families.contract.family import Family
from sosie.families.krea2.adapters import ADAPTERS
from sosie.families.krea2.partners import PARTNERS
from sosie.families.krea2.signature import PARTS

LICENCES = (("", "Krea 2 Community License: conditions on revenue and filtering"),)

FAMILY = Family(name="krea2", title="Krea 2", parts=PARTS, partners=PARTNERS, adapters=ADAPTERS, licences=LICENCES)
