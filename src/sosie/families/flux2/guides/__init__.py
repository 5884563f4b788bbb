"""What guides FLUX.2: the character's references, as images that the model itself sees."""

from __future__ import annotations

from sosie.families.contract.guides import Guides
from sosie.families.flux2.guides import references

GUIDES = Guides(
    kinds=(references.GUIDE,),
    instead="give the guide references, or use a LoRA of the character",
    takes=("images",),
)
