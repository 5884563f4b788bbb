"""LoRAs of Stable Diffusion 2: the modules that they adapt, and what ComfyUI reads of them.

Source of the modules: diffusers `UNet2DConditionModel` with the published configuration, and transformers' CLIP: the
text encoder is OpenCLIP-H without its last layer. Where a LoRA changes neither its attention to text nor its text
encoder, it looks as one of Stable Diffusion 1.
"""

from __future__ import annotations

from collections.abc import Iterator

from sosie.families.sd2.signature import TEXT
from sosie.lora.architectures.encoders import clip
from sosie.lora.architectures.unet import OLD_BLOCKS, Unet
from sosie.lora.keymap import CLIP, UNET
from sosie.lora.lora import LoraSupport
from sosie.lora.modules import Module, Table
from sosie.lora.spellings import KOHYA_NAMES, Spelling


def modules() -> Iterator[Module]:
    """Every linear layer and convolution of the UNet, and the linear layers of the text encoder."""
    yield from Unet(OLD_BLOCKS, middle=1, text=TEXT, added=0, convolves=False).modules()
    yield from clip("text-encoder", 23, TEXT)


ADAPTERS = LoraSupport(
    table=Table(modules),
    named=r"down_blocks|up_blocks|mid_block|input_blocks|output_blocks|middle_block|encoder[._]layers[._]",
    like="sd1",
    spellings={
        "kohya": KOHYA_NAMES,
        "diffusers": Spelling({"denoiser": "unet.", "text-encoder": "text_encoder."}, False, False, "lora_A", "folded"),
    },
    keys=(*UNET, *CLIP),
)
