"""SDXL (Podell et al. 2023, arXiv:2307.01952) and what descends from it without a change of layout."""

from __future__ import annotations

from sosie.families.contract.draws import OnDiffusers
from sosie.families.contract.family import Family
from sosie.families.contract.graphs import OnComfy
from sosie.families.contract.trains import Trains
from sosie.families.sdxl.adapters import ADAPTERS
from sosie.families.sdxl.figures import FIGURES
from sosie.families.sdxl.guides import GUIDES
from sosie.families.sdxl.partners import PARTNERS
from sosie.families.sdxl.signature import PARTS


def _on_diffusers() -> OnDiffusers:
    from sosie.families.sdxl import on_diffusers

    return on_diffusers


def _on_comfy() -> OnComfy:
    from sosie.families.sdxl import on_comfy

    return on_comfy


def _trains() -> Trains:
    from sosie.families.sdxl import training

    return training


LICENCES = (
    ("edm", "Playground v2.5 Community License"),
    ("", "CreativeML Open RAIL++-M of SDXL; a fine-tune may say more"),
)

FAMILY = Family(
    "sdxl",
    "SDXL",
    PARTS,
    PARTNERS,
    FIGURES,
    GUIDES,
    ADAPTERS,
    on_diffusers=_on_diffusers,
    on_comfy=_on_comfy,
    trains=_trains,
    licences=LICENCES,
    weighs=True,
)
