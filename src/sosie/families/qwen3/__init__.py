"""Qwen3 language models (arXiv:2505.09388) as text encoders: 4B for Z-Image and FLUX.2 klein."""

from __future__ import annotations

from sosie.families.contract.family import Family
from sosie.families.qwen3.signature import PARTS

FAMILY = Family(name="qwen3", title="Qwen3", parts=PARTS)
