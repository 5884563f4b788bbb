"""Z-Image has no identity guide; reference images are taken by Omni alone."""

from __future__ import annotations

from sosie.families.contract.guides import Guides, References
from sosie.graph.guides import GuideNode

IMAGES = (("image1", None), ("image2", None), ("image3", None))

GUIDES = Guides(
    none="nobody is known to have trained a face adapter for Z-Image (November 2026)",
    instead="use a LoRA of the character, or a hybrid: its body here, its face by InstantID on SDXL (recipe hybrid)",
    references=References("siglip_", "Omni", GuideNode("TextEncodeZImageOmni", IMAGES)),
)
