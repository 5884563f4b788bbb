"""LoRAs of Anima: the modules that they adapt, and what ComfyUI reads of them.

Source of the modules: sd-scripts `library/anima_models.py`, ComfyUI `ldm/cosmos/predict2.py`: blocks of Cosmos Predict
2 and an adapter of text.
"""

from __future__ import annotations

from collections.abc import Iterator

from sosie.lora.lora import LoraSupport
from sosie.lora.modules import Module, Table, same
from sosie.lora.spellings import KOHYA_NAMES

WIDTH, TEXT, LOW = 2048, 1024, 256
"""Widths of its tokens, of the text's states, of the narrow layer in the modulation."""


def modules() -> Iterator[Module]:
    """Every linear layer of the blocks, and of the adapter of text."""
    for index in range(28):
        block = f"blocks.{index}"
        for name, source in (("self_attn", WIDTH), ("cross_attn", TEXT)):
            yield from _attention(f"{block}.{name}", WIDTH, source, "output_proj")
        yield same("denoiser", f"{block}.mlp.layer1", (4 * WIDTH, WIDTH))
        yield same("denoiser", f"{block}.mlp.layer2", (WIDTH, 4 * WIDTH))
        for name in ("self_attn", "cross_attn", "mlp"):
            yield same("denoiser", f"{block}.adaln_modulation_{name}.1", (LOW, WIDTH))
            yield same("denoiser", f"{block}.adaln_modulation_{name}.2", (3 * WIDTH, LOW))
    for index in range(6):
        block = f"llm_adapter.blocks.{index}"
        for name in ("self_attn", "cross_attn"):
            yield from _attention(f"{block}.{name}", TEXT, TEXT, "o_proj")
        yield same("denoiser", f"{block}.mlp.0", (4 * TEXT, TEXT))
        yield same("denoiser", f"{block}.mlp.2", (TEXT, 4 * TEXT))
    for name, shape in (
        ("x_embedder.proj.1", (WIDTH, 68)),
        ("t_embedder.1.linear_1", (WIDTH, WIDTH)),
        ("t_embedder.1.linear_2", (3 * WIDTH, WIDTH)),
        ("final_layer.linear", (64, WIDTH)),
    ):
        yield same("denoiser", name, shape)


def _attention(name: str, width: int, source: int, output: str) -> Iterator[Module]:
    yield same("denoiser", f"{name}.q_proj", (width, width))
    yield same("denoiser", f"{name}.k_proj", (width, source))
    yield same("denoiser", f"{name}.v_proj", (width, source))
    yield same("denoiser", f"{name}.{output}", (width, width))


ADAPTERS = LoraSupport(
    table=Table(modules),
    named=r"(^|[._])blocks[._]\d+[._](self_attn|cross_attn|mlp|adaln_modulation)",
    spellings={"kohya": KOHYA_NAMES},
    software=(("networks.lora_anima", "sd-scripts"),),
)
