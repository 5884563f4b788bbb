"""The modules of Z-Image and SDXL that a LoRA can adapt: their names in either layout and their shapes.

A module is written as diffusers names it, one a projection (*split* q, k, v). `single` is its name
in a single file (ComfyUI, kohya); there Z-Image holds q, k and v in one *fused* weight, stacked
along the rows in that order. Sources: diffusers `ZImageTransformer2DModel` and
`UNet2DConditionModel` with their published configurations, whose names and shapes these are.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from types import MappingProxyType
from typing import Literal

Part = Literal["denoiser", "text-encoder", "text-encoder-2"]


@dataclass(frozen=True)
class Module:
    """One weight: the part of the model, its two names, its shape (out, in[, height, width]).

    `third` is 0, 1, 2 for the q, k, v that make up the fused weight `single`, otherwise None.
    """

    part: Part
    name: str
    single: str
    shape: tuple[int, ...]
    third: int | None = None


@dataclass(frozen=True)
class Table:
    """A family's modules. `by_name` finds them under every spelling, dotted or with underscores.

    A name of a fused weight gives its three modules in order, any other name gives one.
    """

    family: str
    title: str
    modules: tuple[Module, ...]
    by_name: Mapping[tuple[Part, str], tuple[Module, ...]]

    def find(self, part: Part, name: str) -> tuple[Module, ...]:
        """The modules that `name` means, or none."""
        return self.by_name.get((part, name), ())

    @property
    def fuses(self) -> bool:
        """True if the family's single files fuse q, k and v."""
        return any(module.third is not None for module in self.modules)


def underscored(name: str) -> str:
    """A module's name as kohya writes it."""
    return name.replace(".", "_")


@cache
def tables() -> tuple[Table, ...]:
    """Z-Image and SDXL."""
    return (_table("zimage", "Z-Image", _zimage()), _table("sdxl", "SDXL", _sdxl()))


def table_of(family: str) -> Table | None:
    """The table of a family by its name, or None."""
    return next((table for table in tables() if table.family == family), None)


def _table(family: str, title: str, modules: Iterator[Module]) -> Table:
    found = tuple(modules)
    by_name: dict[tuple[Part, str], tuple[Module, ...]] = {}
    for module in found:
        for name in {module.name, underscored(module.name)}:
            by_name[module.part, name] = (module,)
    for module in found:
        for name in {module.single, underscored(module.single)}:
            if module.third is not None:
                by_name[module.part, name] = (*by_name.get((module.part, name), ()), module)
            else:
                by_name[module.part, name] = (module,)
    return Table(family, title, found, MappingProxyType(by_name))


DIM, FEED, TIME = 3840, 10240, 256
"""Z-Image: width of its tokens, of its feed-forward layers, of its time embedding."""


def _zimage() -> Iterator[Module]:
    for group, count in (("layers", 30), ("noise_refiner", 2), ("context_refiner", 2)):
        for index in range(count):
            block = f"{group}.{index}"
            for third, letter in enumerate("qkv"):
                name, single = f"{block}.attention.to_{letter}", f"{block}.attention.qkv"
                yield Module("denoiser", name, single, (DIM, DIM), third)
            yield Module("denoiser", f"{block}.attention.to_out.0", f"{block}.attention.out", (DIM, DIM))
            for name, shape in (("w1", (FEED, DIM)), ("w2", (DIM, FEED)), ("w3", (FEED, DIM))):
                yield _same("denoiser", f"{block}.feed_forward.{name}", shape)
            if group != "context_refiner":
                yield _same("denoiser", f"{block}.adaLN_modulation.0", (4 * DIM, TIME))
    yield Module("denoiser", "all_x_embedder.2-1", "x_embedder", (DIM, 64))
    final = "all_final_layer.2-1."
    yield Module("denoiser", f"{final}linear", "final_layer.linear", (64, DIM))
    yield Module("denoiser", f"{final}adaLN_modulation.1", "final_layer.adaLN_modulation.1", (DIM, TIME))
    yield _same("denoiser", "cap_embedder.1", (DIM, 2560))
    yield _same("denoiser", "t_embedder.mlp.0", (1024, TIME))
    yield _same("denoiser", "t_embedder.mlp.2", (TIME, 1024))


def _same(part: Part, name: str, shape: tuple[int, ...]) -> Module:
    return Module(part, name, name, shape)


EMBED, CONTEXT, ADM = 1280, 2048, 2816
"""SDXL: width of its time embedding, of its text states, of its added embedding's input."""

SDXL_BLOCKS = (
    # block, resnets as (in, out), depth of its transformers, samplers, first number in a single file
    ("down_blocks.0", ((320, 320), (320, 320)), 0, "downsamplers", "input_blocks.1"),
    ("down_blocks.1", ((320, 640), (640, 640)), 2, "downsamplers", "input_blocks.4"),
    ("down_blocks.2", ((640, 1280), (1280, 1280)), 10, "", "input_blocks.7"),
    ("up_blocks.0", ((2560, 1280), (2560, 1280), (1920, 1280)), 10, "upsamplers", "output_blocks.0"),
    ("up_blocks.1", ((1920, 640), (1280, 640), (960, 640)), 2, "upsamplers", "output_blocks.3"),
    ("up_blocks.2", ((960, 320), (640, 320), (640, 320)), 0, "", "output_blocks.6"),
)


def _sdxl() -> Iterator[Module]:
    for block, resnets, depth, sampler, first in SDXL_BLOCKS:
        side, number = first.split(".")
        for index, (inside, outside) in enumerate(resnets):
            here = f"{side}.{int(number) + index}"
            yield from _resnet(f"{block}.resnets.{index}", f"{here}.0", inside, outside)
            if depth:
                yield from _transformer(f"{block}.attentions.{index}", f"{here}.1", outside, depth)
        width, last = resnets[-1][1], int(number) + len(resnets)
        if sampler == "downsamplers":
            single = f"{side}.{last}.0.op"
            yield Module("denoiser", f"{block}.downsamplers.0.conv", single, (width, width, 3, 3))
        elif sampler:
            single = f"{side}.{last - 1}.2.conv"
            yield Module("denoiser", f"{block}.upsamplers.0.conv", single, (width, width, 3, 3))
    for index in (0, 1):
        yield from _resnet(f"mid_block.resnets.{index}", f"middle_block.{2 * index}", 1280, 1280)
    yield from _transformer("mid_block.attentions.0", "middle_block.1", 1280, 10)
    for name, single, shape in (
        ("conv_in", "input_blocks.0.0", (320, 4, 3, 3)),
        ("conv_out", "out.2", (4, 320, 3, 3)),
        ("time_embedding.linear_1", "time_embed.0", (EMBED, 320)),
        ("time_embedding.linear_2", "time_embed.2", (EMBED, EMBED)),
        ("add_embedding.linear_1", "label_emb.0.0", (EMBED, ADM)),
        ("add_embedding.linear_2", "label_emb.0.2", (EMBED, EMBED)),
    ):
        yield Module("denoiser", name, single, shape)
    yield from _clip("text-encoder", 12, 768)
    yield from _clip("text-encoder-2", 32, 1280)


def _resnet(name: str, single: str, inside: int, outside: int) -> Iterator[Module]:
    yield Module("denoiser", f"{name}.conv1", f"{single}.in_layers.2", (outside, inside, 3, 3))
    yield Module("denoiser", f"{name}.conv2", f"{single}.out_layers.3", (outside, outside, 3, 3))
    yield Module("denoiser", f"{name}.time_emb_proj", f"{single}.emb_layers.1", (outside, EMBED))
    if inside != outside:
        yield Module("denoiser", f"{name}.conv_shortcut", f"{single}.skip_connection", (outside, inside, 1, 1))


def _transformer(name: str, single: str, width: int, depth: int) -> Iterator[Module]:
    shapes: list[tuple[str, tuple[int, int]]] = [("proj_in", (width, width)), ("proj_out", (width, width))]
    for index in range(depth):
        block = f"transformer_blocks.{index}"
        for attention, source in (("attn1", width), ("attn2", CONTEXT)):
            shapes += [(f"{block}.{attention}.to_q", (width, width)), (f"{block}.{attention}.to_out.0", (width, width))]
            shapes += [(f"{block}.{attention}.to_{letter}", (width, source)) for letter in "kv"]
        shapes += [(f"{block}.ff.net.0.proj", (8 * width, width)), (f"{block}.ff.net.2", (width, 4 * width))]
    for tail, shape in shapes:
        yield Module("denoiser", f"{name}.{tail}", f"{single}.{tail}", shape)


def _clip(part: Part, layers: int, width: int) -> Iterator[Module]:
    for index in range(layers):
        block = f"text_model.encoder.layers.{index}"
        for letter in ("q_proj", "k_proj", "v_proj", "out_proj"):
            yield _same(part, f"{block}.self_attn.{letter}", (width, width))
        yield _same(part, f"{block}.mlp.fc1", (4 * width, width))
        yield _same(part, f"{block}.mlp.fc2", (width, 4 * width))
