"""LoRA files: what they are, what they fit, and exact conversion between their layouts. No torch."""

from sosie.lora.coverage import Coverage, coverage
from sosie.lora.loaders import Outcome, outcomes
from sosie.lora.lora import Alpha, Lora, read_lora

__all__ = ["Alpha", "Coverage", "Lora", "Outcome", "coverage", "outcomes", "read_lora"]
