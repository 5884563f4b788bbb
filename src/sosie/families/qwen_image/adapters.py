"""LoRAs of Qwen-Image: the modules that they adapt, and what ComfyUI reads of them.

Source of the modules: diffusers `QwenImageTransformer2DModel`; single files keep its names.
"""

from __future__ import annotations

from collections.abc import Iterator

from sosie.families.qwen_image.signature import TEXT, WIDTH
from sosie.lora.keymap import KeyRule
from sosie.lora.loaders import OWN_LAYOUT
from sosie.lora.lora import LoraSupport
from sosie.lora.modules import Module, Table, same
from sosie.lora.spellings import KOHYA_NAMES, Spelling

ATTENTION = ("to_q", "to_k", "to_v", "to_out.0", "add_q_proj", "add_k_proj", "add_v_proj", "to_add_out")


def modules() -> Iterator[Module]:
    """Every linear layer of the transformer."""
    for index in range(60):
        block = f"transformer_blocks.{index}"
        for name in ATTENTION:
            yield same("denoiser", f"{block}.attn.{name}", (WIDTH, WIDTH))
        for stream in ("img", "txt"):
            yield same("denoiser", f"{block}.{stream}_mod.1", (6 * WIDTH, WIDTH))
            yield same("denoiser", f"{block}.{stream}_mlp.net.0.proj", (4 * WIDTH, WIDTH))
            yield same("denoiser", f"{block}.{stream}_mlp.net.2", (WIDTH, 4 * WIDTH))
    for name, shape in (
        ("img_in", (WIDTH, 64)),
        ("txt_in", (WIDTH, TEXT)),
        ("time_text_embed.timestep_embedder.linear_1", (WIDTH, 256)),
        ("time_text_embed.timestep_embedder.linear_2", (WIDTH, WIDTH)),
        ("norm_out.linear", (2 * WIDTH, WIDTH)),
        ("proj_out", (64, WIDTH)),
    ):
        yield same("denoiser", name, shape)


ADAPTERS = LoraSupport(
    table=Table(modules),
    named=r"transformer_blocks[._]\d",
    spellings={
        "kohya": KOHYA_NAMES,
        "diffusers": Spelling({"denoiser": "transformer."}, False, False, "lora_A", "folded"),
    },
    keys=(KeyRule(""), KeyRule("transformer."), KeyRule("lycoris_", flat=True)),
    loaders=(OWN_LAYOUT,),
    software=(("networks.lora_qwen_image", "musubi-tuner"),),
)
