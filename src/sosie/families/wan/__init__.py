"""Wan of Alibaba: known by its LoRAs only, so that they are not taken for another family's."""

from __future__ import annotations

from sosie.families.contract.family import Family
from sosie.families.wan.adapters import ADAPTERS

FAMILY = Family(name="wan", title="Wan", parts=(), adapters=ADAPTERS)
