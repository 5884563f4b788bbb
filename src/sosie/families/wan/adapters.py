"""How LoRAs of Wan are named."""

from __future__ import annotations

from sosie.lora.lora import LoraSupport, Sign

ATTENTION = r"(^|[._])blocks[._]\d+[._](cross|self)_attn"

ADAPTERS = LoraSupport(signs=(Sign("Wan", ATTENTION, "its modules are named as those of Wan"),))
