"""Z-Image of Tongyi-MAI (arXiv:2511.22699): Base, Turbo, Omni, and what descends from them."""

from __future__ import annotations

from sosie.families.contract.draws import OnDiffusers
from sosie.families.contract.family import Family
from sosie.families.contract.graphs import OnComfy
from sosie.families.contract.trains import Trains
from sosie.families.zimage.adapters import ADAPTERS
from sosie.families.zimage.figures import FIGURES
from sosie.families.zimage.guides import GUIDES
from sosie.families.zimage.partners import PARTNERS
from sosie.families.zimage.signature import PARTS


def _on_diffusers() -> OnDiffusers:
    from sosie.families.zimage import on_diffusers

    return on_diffusers


def _on_comfy() -> OnComfy:
    from sosie.families.zimage import on_comfy

    return on_comfy


def _trains() -> Trains:
    from sosie.families.zimage import training

    return training


LICENCES = (("", "Apache-2.0"),)

FAMILY = Family(
    "zimage",
    "Z-Image",
    PARTS,
    PARTNERS,
    FIGURES,
    GUIDES,
    ADAPTERS,
    licences=LICENCES,
    on_diffusers=_on_diffusers,
    on_comfy=_on_comfy,
    trains=_trains,
    reads_packed=True,
)
