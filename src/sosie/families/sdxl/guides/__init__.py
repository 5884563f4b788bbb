"""The identity guides that were trained for SDXL: IP-Adapters of faces (tencent-ailab) and InstantID."""

from __future__ import annotations

from sosie.families.contract.guides import Guides
from sosie.families.sdxl.guides import faceid, faceid_plus, instantid, ip_adapter

GUIDES = Guides(
    kinds=(faceid.GUIDE, faceid_plus.GUIDE, instantid.GUIDE, ip_adapter.GUIDE),
    instead="use a LoRA of the character, or a hybrid: its body here, its face by InstantID on SDXL (recipe hybrid)",
    takes=("adapter", "text", "control"),
)
