"""How LoRAs of FLUX are named; FLUX.1 and FLUX.2 share these names."""

from __future__ import annotations

from sosie.lora.lora import LoraSupport, Sign

FLUX = r"(double|single)_blocks?[._]\d|single_transformer_blocks[._]\d"

ADAPTERS = LoraSupport(signs=(Sign("FLUX", FLUX, "its modules are named as those of FLUX"),))
