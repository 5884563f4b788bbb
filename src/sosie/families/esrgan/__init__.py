"""Upscalers of the ESRGAN class (Wang et al. 2018, arXiv:1809.00219; Real-ESRGAN, arXiv:2107.10833)."""

from __future__ import annotations

from sosie.families.contract.draws import OnDiffusers
from sosie.families.contract.family import Family
from sosie.families.contract.graphs import OnComfy
from sosie.families.esrgan.signature import PARTS


def _on_diffusers() -> OnDiffusers:
    from sosie.families.esrgan import on_diffusers

    return on_diffusers


def _on_comfy() -> OnComfy:
    from sosie.families.esrgan import on_comfy

    return on_comfy


FAMILY = Family("esrgan", "ESRGAN", PARTS, on_diffusers=_on_diffusers, on_comfy=_on_comfy)
