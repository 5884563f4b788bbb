"""The LoRAs of FLUX.2: those of its transformer."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

from sosie.diffusion.lora_merge import LoraMerge, ModuleChange, lora_changes
from sosie.families import families
from sosie.families.flux2.diffusers.parts import Transformer
from sosie.lora import read_lora

COMPONENTS = {"denoiser": "transformer"}
"""Part of the model, as LoRA files name it -> component of the pipeline."""


class Loras(LoraMerge):
    """The LoRAs in a transformer."""

    def __init__(self, transformer: Transformer) -> None:
        def changes(path: Path) -> Sequence[ModuleChange]:
            return tuple(lora_changes(read_lora(path, families()), "flux2", COMPONENTS))

        super().__init__({"transformer": cast(Any, transformer)}, changes)
