"""Autoencoders of latent diffusion, which several families share."""

from __future__ import annotations

from sosie.families.autoencoders.signature import PARTS
from sosie.families.contract.family import Family

FAMILY = Family(name="autoencoders", title="Autoencoders", parts=PARTS)
