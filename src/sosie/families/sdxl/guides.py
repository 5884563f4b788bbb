"""The identity guides that were trained for SDXL: IP-Adapters of faces (tencent-ailab) and InstantID."""

from __future__ import annotations

from sosie.families.contract.guides import GuideKind, Guides

GUIDES = Guides(
    kinds=(
        GuideKind("faceid", encoder="w600k_r50", pack="buffalo_l"),
        GuideKind("faceid-plus-v2", encoder="w600k_r50", pack="buffalo_l"),
        GuideKind("instantid", "instantid", "glintr100", "antelopev2", raw=True),
        GuideKind("ip-adapter", in_recipes=False),
    ),
    instead="use a LoRA of the character, or a hybrid: its body here, its face by InstantID on SDXL (recipe hybrid)",
)
