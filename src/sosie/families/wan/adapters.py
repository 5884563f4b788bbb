"""LoRAs of Wan: the modules that they adapt in each size, and what ComfyUI reads of them.

Source of the modules: Wan2.1 and Wan2.2 `model.py`, ComfyUI `ldm/wan/model.py`, diffusers `WanTransformer3DModel`.
ComfyUI reads the names of the first publication alone, not diffusers'.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from sosie.lora.keymap import KeyRule
from sosie.lora.loaders import OWN_LAYOUT
from sosie.lora.lora import LoraSupport
from sosie.lora.modules import Module, Table, same
from sosie.lora.spellings import KOHYA_NAMES, Spelling

SIZES = (("14B", 5120, 13824, 40, 16), ("1.3B", 1536, 8960, 30, 16), ("2.2 5B", 3072, 14336, 30, 48))
"""Title, width, width of the feed-forward layers, blocks, channels of the latent."""

CONTROLS = {40: 8, 30: 15}
"""Blocks of VACE beside so many blocks of the model."""

NAMES = (("q", "to_q"), ("k", "to_k"), ("v", "to_v"), ("o", "to_out.0"))


def modules(width: int, feed: int, depth: int, channels: int) -> Iterator[Module]:
    """Every linear layer of the transformer, and those that only image to video, VACE and Animate have."""
    yield from _blocks("blocks", width, feed, depth)
    yield from _blocks("vace_blocks", width, feed, CONTROLS[depth])
    for index in range(CONTROLS[depth]):
        yield Module("denoiser", f"vace_blocks.{index}.proj_out", f"vace_blocks.{index}.after_proj", (width, width))
    yield Module("denoiser", "vace_blocks.0.proj_in", "vace_blocks.0.before_proj", (width, width))
    for index in range(8):
        block = f"face_adapter.fuser_blocks.{index}"
        for name, rows in (("linear1_kv", 2 * width), ("linear1_q", width), ("linear2", width)):
            yield same("denoiser", f"{block}.{name}", (rows, width))
    yield from _around(width, channels)


def _blocks(kind: str, width: int, feed: int, depth: int) -> Iterator[Module]:
    for index in range(depth):
        block = f"{kind}.{index}"
        for single, name in (("self_attn", "attn1"), ("cross_attn", "attn2")):
            for short, long in NAMES:
                yield Module("denoiser", f"{block}.{name}.{long}", f"{block}.{single}.{short}", (width, width))
        for letter in "kv":
            image = f"{block}.cross_attn.{letter}_img"
            yield Module("denoiser", f"{block}.attn2.add_{letter}_proj", image, (width, width))
        yield Module("denoiser", f"{block}.ffn.net.0.proj", f"{block}.ffn.0", (feed, width))
        yield Module("denoiser", f"{block}.ffn.net.2", f"{block}.ffn.2", (width, feed))


def _around(width: int, channels: int) -> Iterator[Module]:
    around = "condition_embedder"
    for name, single, shape in (
        ("patch_embedding", "patch_embedding", (width, channels, 1, 2, 2)),
        (f"{around}.text_embedder.linear_1", "text_embedding.0", (width, 4096)),
        (f"{around}.text_embedder.linear_2", "text_embedding.2", (width, width)),
        (f"{around}.time_embedder.linear_1", "time_embedding.0", (width, 256)),
        (f"{around}.time_embedder.linear_2", "time_embedding.2", (width, width)),
        (f"{around}.time_proj", "time_projection.1", (6 * width, width)),
        (f"{around}.image_embedder.ff.net.0.proj", "img_emb.proj.1", (1280, 1280)),
        (f"{around}.image_embedder.ff.net.2", "img_emb.proj.3", (width, 1280)),
        ("proj_out", "head.head", (4 * channels, width)),
    ):
        yield Module("denoiser", name, single, shape)


TABLES = tuple(Table(partial(modules, *size), title) for title, *size in SIZES)

ADAPTERS = LoraSupport(
    table=TABLES[0],
    sizes=TABLES[1:],
    named=r"(^|[._])blocks[._]\d+[._](cross_attn|self_attn|attn1|attn2|ffn)",
    spellings={
        "kohya": KOHYA_NAMES,
        "diffusers": Spelling({"denoiser": "transformer."}, False, False, "lora_A", "folded"),
    },
    keys=(KeyRule("lora_unet__", "single", flat=True),),
    loaders=(OWN_LAYOUT,),
    software=(("networks.lora_wan", "musubi-tuner"),),
)
