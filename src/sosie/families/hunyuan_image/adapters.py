"""LoRAs of HunyuanImage 2.1: the modules that they adapt, and what ComfyUI reads of them.

Source of the modules: diffusers `HunyuanImageTransformer2DModel`; ComfyUI reads its own names alone.
"""

from __future__ import annotations

from collections.abc import Iterator

from sosie.lora.architectures.streams import blocks
from sosie.lora.loaders import OWN_LAYOUT
from sosie.lora.lora import LoraSupport
from sosie.lora.modules import Module, Table
from sosie.lora.spellings import KOHYA_NAMES, Spelling

WIDTH = 3584


def modules() -> Iterator[Module]:
    """Every linear layer of the blocks, and of the layers around them."""
    yield from blocks(WIDTH, doubles=20, singles=40)
    yield Module("denoiser", "x_embedder.proj", "img_in.proj", (WIDTH, 64, 1, 1))
    yield Module("denoiser", "proj_out", "final_layer.linear", (64, WIDTH))


ADAPTERS = LoraSupport(
    table=Table(modules),
    named=r"(double|single)_blocks[._]\d|transformer_blocks[._]\d",
    spellings={
        "kohya": KOHYA_NAMES,
        "diffusers": Spelling({"denoiser": "transformer."}, False, False, "lora_A", "folded"),
    },
    loaders=(OWN_LAYOUT,),
    software=(("networks.lora_hunyuan_image", "sd-scripts"),),
)
