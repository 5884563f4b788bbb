"""Language models as text encoders, shared by families of image models: Gemma, Llama, Mistral, Qwen2.5."""

from __future__ import annotations

from sosie.families.contract.family import Family
from sosie.families.language.signature import PARTS

FAMILY = Family(name="language", title="language model", parts=PARTS)
