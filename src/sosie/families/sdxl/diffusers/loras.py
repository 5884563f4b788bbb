"""The LoRAs of SDXL, FaceID's own among them."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from sosie.core import Guide
from sosie.core.errors import BadModelError
from sosie.core.recipe import LoraUse
from sosie.diffusion.lora_merge import LoraMerge, ModuleChange, lora_changes
from sosie.families import families
from sosie.families.sdxl.diffusers.guidance import with_adapters
from sosie.families.sdxl.diffusers.parts import SdxlPipeline, UNet
from sosie.files.safetensors import read_header
from sosie.lora import read_lora

COMPONENTS = {"denoiser": "unet", "text-encoder": "text_encoder", "text-encoder-2": "text_encoder_2"}
"""Part of the model, as LoRA files name it -> component of the pipeline."""


class Loras(LoraMerge):
    """The LoRAs in the UNet and the text encoders of a pipeline; the pipelines of a model share them."""

    def __init__(self, pipeline: SdxlPipeline) -> None:
        def changes(path: Path) -> Sequence[ModuleChange]:
            embedded = embedded_lora(path, pipeline.unet)
            return embedded or tuple(lora_changes(read_lora(path, families()), "sdxl", COMPONENTS))

        super().__init__({name: getattr(pipeline, name, None) for name in COMPONENTS.values()}, changes)


def faceid_loras(guides: Sequence[Guide], paths: Mapping[str, Path]) -> tuple[LoraUse, ...]:
    """FaceID's own LoRA of each guide that has one, as uses for `Loras.set`.

    It is in a file of its own (`guide.lora`) or in the adapter's; published adapters come with
    both, which are the same, so the file that is named wins.
    """
    found: list[LoraUse] = []
    for guide, _ in with_adapters(guides):
        if guide.lora:
            found.append(LoraUse(guide.lora, guide.lora_weight))
        elif any(_EMBEDDED.fullmatch(name) for name in read_header(paths[guide.weights]).tensors):
            found.append(LoraUse(guide.weights, guide.lora_weight))
    return tuple(found)


_EMBEDDED = re.compile(r"ip_adapter\.(\d+)\.to_(q|k|v|out)_lora\.(down|up)\.weight")


def embedded_lora(path: Path, unet: UNet) -> tuple[ModuleChange, ...]:
    """FaceID's LoRA inside an IP-Adapter, whose keys count the UNet's attention layers; empty if there is none."""
    found = [match for name in read_header(path).tensors if (match := _EMBEDDED.fullmatch(name))]
    layers = [name.removesuffix(".processor") for name in unet.attn_processors]
    keys: dict[str, dict[str, str]] = {}
    for match in found:
        place, letter, role = int(match[1]), match[2], match[3]
        if place >= len(layers):
            message = f"{path} holds a LoRA for {place + 1} attention layers; this model has {len(layers)}"
            raise BadModelError(message, "use the adapter that was made for this model")
        name = f"{layers[place]}.to_{letter}" + (".0" if letter == "out" else "")
        keys.setdefault(name, {})[role] = match[0]
    return tuple(ModuleChange(("unet", name), "lora", roles, 1.0) for name, roles in keys.items())
