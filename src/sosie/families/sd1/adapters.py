"""How LoRAs of Stable Diffusion 1 and 2 are named; they share their names."""

from __future__ import annotations

from sosie.lora.lora import LoraSupport, Sign

FIRST = r"down_blocks[._]0[._]attentions|input_blocks[._]1[._]1[._]"
"""Attention in the first block, which SDXL does not have."""

TITLE = "SD 1.5 or SD 2"

ADAPTERS = LoraSupport(
    signs=(
        Sign(TITLE, FIRST, f"its modules are named as those of {TITLE}"),
        Sign(
            TITLE,
            r"attn2[._]to_[kv]$",
            "its cross-attention is 768 or 1024 wide; SDXL's is 2048",
            rows=(640, 1280),
            columns=(768, 1024),
        ),
    )
)
