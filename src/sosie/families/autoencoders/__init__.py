"""Autoencoders of latent diffusion, which several families share."""

from __future__ import annotations

from sosie.families import Family
from sosie.families.autoencoders.signature import PARTS

FAMILY = Family(name="autoencoders", title="Autoencoders", package=__name__, parts=PARTS)
