"""How LoRAs of Qwen-Image are named."""

from __future__ import annotations

from sosie.lora.lora import LoraSupport, Sign

ATTENTION = r"transformer_blocks[._]\d+[._]attn[._]add_[qkv]_proj"

ADAPTERS = LoraSupport(signs=(Sign("Qwen-Image", ATTENTION, "its modules are named as those of Qwen-Image"),))
