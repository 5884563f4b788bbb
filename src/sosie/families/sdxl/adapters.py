"""LoRAs of SDXL: the modules that they adapt, how layouts spell them, and what each loader does with them.

| to          | how                                                         |
|-------------|-------------------------------------------------------------|
| `kohya`     | `lora_unet_input_blocks_...`, alpha; read everywhere        |
| `comfy`     | as `kohya`                                                  |
| `diffusers` | `unet.`, `lora_A`, alpha folded                             |

Source of the modules: diffusers `UNet2DConditionModel` with its published configuration, and transformers' CLIP.
"""

from __future__ import annotations

from collections.abc import Iterator

from sosie.lora.architectures.encoders import clip_g, clip_l
from sosie.lora.architectures.unet import Blocks, Unet
from sosie.lora.keymap import CLIP
from sosie.lora.keymap import UNET as READ_OF_UNETS
from sosie.lora.loaders import DIFFUSERS, by_diffusers, has_alpha, styles
from sosie.lora.lora import Loader, Lora, LoraSupport, Outcome
from sosie.lora.modules import Module, Table
from sosie.lora.spellings import KOHYA_NAMES, Spelling

UNET = Unet(
    (
        Blocks("down_blocks.0", ((320, 320), (320, 320)), 0, "downsamplers", "input_blocks.1"),
        Blocks("down_blocks.1", ((320, 640), (640, 640)), 2, "downsamplers", "input_blocks.4"),
        Blocks("down_blocks.2", ((640, 1280), (1280, 1280)), 10, "", "input_blocks.7"),
        Blocks("up_blocks.0", ((2560, 1280), (2560, 1280), (1920, 1280)), 10, "upsamplers", "output_blocks.0"),
        Blocks("up_blocks.1", ((1920, 640), (1280, 640), (960, 640)), 2, "upsamplers", "output_blocks.3"),
        Blocks("up_blocks.2", ((960, 320), (640, 320), (640, 320)), 0, "", "output_blocks.6"),
    ),
    middle=10,
    text=2048,
    added=2816,
    convolves=False,
)


def modules() -> Iterator[Module]:
    """Every linear layer and convolution of the UNet, and the linear layers of both text encoders."""
    yield from UNET.modules()
    yield from clip_l()
    yield from clip_g()


SPELLINGS = {
    "comfy": KOHYA_NAMES,
    "kohya": KOHYA_NAMES,
    "diffusers": Spelling(
        {"denoiser": "unet.", "text-encoder": "text_encoder.", "text-encoder-2": "text_encoder_2."},
        flat=False,
        single=False,
        style="lora_A",
        alpha="folded",
    ),
}


def _diffusers(lora: Lora) -> Outcome:
    other = any(adapter.prefix.text == "lora_transformer_" for adapter in lora.adapters)
    return by_diffusers(lora, _refusal(lora), not other and lora.layout.naming in ("kohya", "diffusers"))


def _refusal(lora: Lora) -> str:
    if lora.layout.naming == "kohya":
        return ""
    if has_alpha(lora):
        return "it wants 'lora' in every name, and alpha's have none"
    if lora.layout.naming == "diffusers" and styles(lora) & {"lora_down", "lora_A.default"}:
        return "with this prefix it expects lora_A and lora_B"
    return ""


ADAPTERS = LoraSupport(
    table=Table(modules),
    named=r"down_blocks|up_blocks|mid_block|input_blocks|output_blocks|middle_block|encoder[._]layers[._]",
    reduced=True,
    spellings=SPELLINGS,
    keys=(*READ_OF_UNETS, *CLIP),
    loaders=(Loader(DIFFUSERS, _diffusers, "tried with every layout on a small SDXL model, diffusers 0.42"),),
)
