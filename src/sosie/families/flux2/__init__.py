"""FLUX.2 of Black Forest Labs: dev and klein."""

from __future__ import annotations

from sosie.families.contract.draws import OnDiffusers
from sosie.families.contract.family import Family
from sosie.families.contract.graphs import OnComfy
from sosie.families.contract.trains import Trains
from sosie.families.flux2.adapters import ADAPTERS
from sosie.families.flux2.figures import FIGURES
from sosie.families.flux2.guides import GUIDES
from sosie.families.flux2.partners import PARTNERS, variant_of
from sosie.families.flux2.signature import PARTS

LICENCES = (("klein 4B", "Apache-2.0"), ("", "FLUX non-commercial licence of Black Forest Labs"))


def _on_diffusers() -> OnDiffusers:
    from sosie.families.flux2 import on_diffusers

    return on_diffusers


def _on_comfy() -> OnComfy:
    from sosie.families.flux2 import on_comfy

    return on_comfy


def _trains() -> Trains:
    from sosie.families.flux2 import training

    return training


def _told_by_name(name: str) -> str:
    """What a file's name says that its header does not."""
    if variant_of(name) != "kv":
        return ""
    return "by its name klein KV, which keeps what it saw of references; here it sees them anew in every step"


FAMILY = Family(
    name="flux2",
    title="FLUX.2",
    parts=PARTS,
    partners=PARTNERS,
    figures=FIGURES,
    guides=GUIDES,
    adapters=ADAPTERS,
    licences=LICENCES,
    on_diffusers=_on_diffusers,
    on_comfy=_on_comfy,
    trains=_trains,
    reads_packed=True,
    undrawn=("dev",),
    told_by_name=_told_by_name,
)
