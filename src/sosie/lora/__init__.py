"""LoRA files: what they are, what they fit, and exact conversion between their layouts. No torch, no family."""

from sosie.lora.coverage import Coverage, coverage
from sosie.lora.loaders import outcomes
from sosie.lora.lora import Alpha, Loader, Lora, LoraFamily, LoraSupport, Outcome, Sign, Variants
from sosie.lora.read import read_lora

__all__ = [
    "Alpha",
    "Coverage",
    "Loader",
    "Lora",
    "LoraFamily",
    "LoraSupport",
    "Outcome",
    "Sign",
    "Variants",
    "coverage",
    "outcomes",
    "read_lora",
]
