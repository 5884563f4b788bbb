"""How LoRAs of Lumina-Image 2.0 are known: by Z-Image's names, in another width."""

from __future__ import annotations

from sosie.families.lumina2.signature import WIDTH
from sosie.lora.lora import LoraSupport, Sign

FUSED = r"^(layers|noise_refiner|context_refiner)[._]\d+[._]attention[._]qkv$"
BECAUSE = f"its names are Z-Image's, but its width is {WIDTH}, not 3840"

ADAPTERS = LoraSupport(signs=(Sign("Lumina 2", FUSED, BECAUSE, columns=(WIDTH,)),))
