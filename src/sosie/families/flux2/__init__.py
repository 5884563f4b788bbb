"""FLUX.2 of Black Forest Labs: dev and klein."""

from __future__ import annotations

from sosie.families.contract.draws import OnDiffusers
from sosie.families.contract.family import Family
from sosie.families.flux2.adapters import ADAPTERS
from sosie.families.flux2.guides import GUIDES
from sosie.families.flux2.partners import PARTNERS
from sosie.families.flux2.signature import PARTS

LICENCES = (("klein 4B", "Apache-2.0"), ("", "FLUX non-commercial licence of Black Forest Labs"))


def _on_diffusers() -> OnDiffusers:
    from sosie.families.flux2 import on_diffusers

    return on_diffusers


FAMILY = Family(
    name="flux2",
    title="FLUX.2",
    parts=PARTS,
    partners=PARTNERS,
    guides=GUIDES,
    adapters=ADAPTERS,
    licences=LICENCES,
    on_diffusers=_on_diffusers,
    reads_packed=True,
)
