"""The modules of text encoders that LoRAs are trained for.

Sources: transformers `modeling_clip.py`, `modeling_t5.py`.
"""

from __future__ import annotations

from collections.abc import Iterator

from sosie.lora.modules import Component, Module, same


def clip(component: Component, layers: int, width: int) -> Iterator[Module]:
    """The linear layers of a CLIP text model."""
    for index in range(layers):
        block = f"text_model.encoder.layers.{index}"
        for letter in ("q_proj", "k_proj", "v_proj", "out_proj"):
            yield same(component, f"{block}.self_attn.{letter}", (width, width))
        yield same(component, f"{block}.mlp.fc1", (4 * width, width))
        yield same(component, f"{block}.mlp.fc2", (width, 4 * width))


def clip_l(component: Component = "text-encoder") -> Iterator[Module]:
    """CLIP-L: 72 modules."""
    yield from clip(component, 12, 768)


def clip_g(component: Component = "text-encoder-2") -> Iterator[Module]:
    """OpenCLIP bigG: 192 modules, and the projection of its pooled text."""
    yield from clip(component, 32, 1280)


def t5_xxl(component: Component) -> Iterator[Module]:
    """T5 v1.1 XXL: 24 layers, 4096 wide."""
    for index in range(24):
        block = f"encoder.block.{index}.layer"
        for letter in "qkvo":
            yield same(component, f"{block}.0.SelfAttention.{letter}", (4096, 4096))
        for name, shape in (("wi_0", (10240, 4096)), ("wi_1", (10240, 4096)), ("wo", (4096, 10240))):
            yield same(component, f"{block}.1.DenseReluDense.{name}", shape)
