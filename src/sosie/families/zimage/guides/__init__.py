"""What guides Z-Image: a ControlNet, and reference images, which Omni alone takes. For a face there is no guide."""

from __future__ import annotations

from sosie.families.contract.guides import Guides, References
from sosie.families.zimage.guides import control, reference

GUIDES = Guides(
    kinds=(control.GUIDE, reference.GUIDE),
    none="nobody is known to have trained a face adapter for Z-Image (November 2026)",
    instead="use a LoRA of the character, or a hybrid: its body here, its face by InstantID on SDXL (recipe hybrid)",
    takes=("control",),
    references=References("siglip_", "Omni", reference.NODE, reference.GUIDE.name),
)
