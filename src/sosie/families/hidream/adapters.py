"""LoRAs of HiDream-I1: the modules that they adapt, and what ComfyUI reads of them.

Source of the modules: diffusers `HiDreamImageTransformer2DModel`; single files keep its names.
"""

from __future__ import annotations

from collections.abc import Iterator

from sosie.lora.keymap import KeyRule
from sosie.lora.loaders import OWN_LAYOUT
from sosie.lora.lora import LoraSupport
from sosie.lora.modules import Module, Table, same
from sosie.lora.spellings import KOHYA_NAMES, Spelling

WIDTH, EXPERT, SHARED, TEXT, POOLED = 2560, 6912, 3584, 4096, 2048
"""Widths of its tokens, of an expert, of the expert that all share, of the text's states, of the pooled text."""


def modules() -> Iterator[Module]:
    """Every linear layer of the transformer."""
    for index in range(16):
        yield from _block(f"double_stream_blocks.{index}.block", True)
    for index in range(32):
        yield from _block(f"single_stream_blocks.{index}.block", False)
    for name, shape in (
        ("t_embedder.timestep_embedder.linear_1", (WIDTH, 256)),
        ("t_embedder.timestep_embedder.linear_2", (WIDTH, WIDTH)),
        ("p_embedder.pooled_embedder.linear_1", (WIDTH, POOLED)),
        ("p_embedder.pooled_embedder.linear_2", (WIDTH, WIDTH)),
        ("x_embedder.proj", (WIDTH, 64)),
        ("final_layer.linear", (64, WIDTH)),
        ("final_layer.adaLN_modulation.1", (2 * WIDTH, WIDTH)),
        *((f"caption_projection.{index}.linear", (WIDTH, TEXT)) for index in range(49)),
    ):
        yield same("denoiser", name, shape)


def _block(block: str, double: bool) -> Iterator[Module]:
    for name in ("to_q", "to_k", "to_v", "to_out"):
        for stream in ("", "_t") if double else ("",):
            yield same("denoiser", f"{block}.attn1.{name}{stream}", (WIDTH, WIDTH))
    yield same("denoiser", f"{block}.adaLN_modulation.1", ((12 if double else 6) * WIDTH, WIDTH))
    yield from _feed(f"{block}.ff_i.shared_experts", SHARED)
    for expert in range(4):
        yield from _feed(f"{block}.ff_i.experts.{expert}", EXPERT)
    yield same("denoiser", f"{block}.ff_i.gate", (4, WIDTH))
    if double:
        yield from _feed(f"{block}.ff_t", EXPERT)


def _feed(name: str, width: int) -> Iterator[Module]:
    for number, shape in ((1, (width, WIDTH)), (2, (WIDTH, width)), (3, (width, WIDTH))):
        yield same("denoiser", f"{name}.w{number}", shape)


ADAPTERS = LoraSupport(
    table=Table(modules),
    named=r"(double|single)_stream_blocks[._]\d",
    spellings={
        "kohya": KOHYA_NAMES,
        "diffusers": Spelling({"denoiser": "transformer."}, False, False, "lora_A", "folded"),
    },
    keys=(KeyRule("transformer."), KeyRule("lycoris_", flat=True)),
    loaders=(OWN_LAYOUT,),
)
