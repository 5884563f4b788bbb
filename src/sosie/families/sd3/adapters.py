"""How LoRAs of Stable Diffusion 3 are named."""

from __future__ import annotations

from sosie.lora.lora import LoraSupport, Sign

JOINT = r"joint_blocks[._]\d|transformer_blocks[._]\d+[._]attn2?[._]add_"

ADAPTERS = LoraSupport(signs=(Sign("SD3", JOINT, "its modules are named as those of SD3"),))
