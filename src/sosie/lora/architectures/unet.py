"""The modules of a UNet with attention to text, from its blocks.

Source: diffusers `UNet2DConditionModel`; names of single files: ComfyUI `comfy/utils.py`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from sosie.lora.modules import Module

EMBED = 1280
"""Width of the time embedding of every UNet that is 320 wide."""


@dataclass(frozen=True)
class Blocks:
    """A block: its name, its resnets as (in, out), the depth of its transformers, what stands at its end, and where.

    `sampler` is `downsamplers`, `upsamplers` or empty, `first` its first number in a single file.
    """

    name: str
    resnets: Sequence[tuple[int, int]]
    depth: int
    sampler: str
    first: str


@dataclass(frozen=True)
class Unet:
    """A UNet: its blocks, the depth of the transformer in its middle, the width of its text, of what is added (or 0).

    `convolves`: the layers around a transformer are 1x1 convolutions, not linear.
    """

    blocks: Sequence[Blocks]
    middle: int
    text: int
    added: int
    convolves: bool

    def modules(self) -> Iterator[Module]:
        """Every linear layer and convolution."""
        for block in self.blocks:
            yield from self._block(block)
        for index in (0, 1):
            yield from _resnet(f"mid_block.resnets.{index}", f"middle_block.{2 * index}", 1280, 1280)
        yield from self._transformer("mid_block.attentions.0", "middle_block.1", 1280, self.middle)
        for name, single, shape in (
            ("conv_in", "input_blocks.0.0", (320, 4, 3, 3)),
            ("conv_out", "out.2", (4, 320, 3, 3)),
            ("time_embedding.linear_1", "time_embed.0", (EMBED, 320)),
            ("time_embedding.linear_2", "time_embed.2", (EMBED, EMBED)),
        ):
            yield Module("denoiser", name, single, shape)
        if self.added:
            yield Module("denoiser", "add_embedding.linear_1", "label_emb.0.0", (EMBED, self.added))
            yield Module("denoiser", "add_embedding.linear_2", "label_emb.0.2", (EMBED, EMBED))

    def _block(self, block: Blocks) -> Iterator[Module]:
        side, number = block.first.split(".")
        for index, (inside, outside) in enumerate(block.resnets):
            here = f"{side}.{int(number) + index}"
            yield from _resnet(f"{block.name}.resnets.{index}", f"{here}.0", inside, outside)
            if block.depth:
                yield from self._transformer(f"{block.name}.attentions.{index}", f"{here}.1", outside, block.depth)
        width, last = block.resnets[-1][1], int(number) + len(block.resnets)
        shape = (width, width, 3, 3)
        if block.sampler == "downsamplers":
            yield Module("denoiser", f"{block.name}.downsamplers.0.conv", f"{side}.{last}.0.op", shape)
        elif block.sampler:
            place = 2 if block.depth else 1
            yield Module("denoiser", f"{block.name}.upsamplers.0.conv", f"{side}.{last - 1}.{place}.conv", shape)

    def _transformer(self, name: str, single: str, width: int, depth: int) -> Iterator[Module]:
        around = (width, width, 1, 1) if self.convolves else (width, width)
        shapes: list[tuple[str, tuple[int, ...]]] = [("proj_in", around), ("proj_out", around)]
        for index in range(depth):
            block = f"transformer_blocks.{index}"
            for attention, source in (("attn1", width), ("attn2", self.text)):
                shapes += [(f"{block}.{attention}.{tail}", (width, width)) for tail in ("to_q", "to_out.0")]
                shapes += [(f"{block}.{attention}.to_{letter}", (width, source)) for letter in "kv"]
            shapes += [(f"{block}.ff.net.0.proj", (8 * width, width)), (f"{block}.ff.net.2", (width, 4 * width))]
        for tail, shape in shapes:
            yield Module("denoiser", f"{name}.{tail}", f"{single}.{tail}", shape)


def _resnet(name: str, single: str, inside: int, outside: int) -> Iterator[Module]:
    yield Module("denoiser", f"{name}.conv1", f"{single}.in_layers.2", (outside, inside, 3, 3))
    yield Module("denoiser", f"{name}.conv2", f"{single}.out_layers.3", (outside, outside, 3, 3))
    yield Module("denoiser", f"{name}.time_emb_proj", f"{single}.emb_layers.1", (outside, EMBED))
    if inside != outside:
        yield Module("denoiser", f"{name}.conv_shortcut", f"{single}.skip_connection", (outside, inside, 1, 1))


OLD_BLOCKS = (
    Blocks("down_blocks.0", ((320, 320), (320, 320)), 1, "downsamplers", "input_blocks.1"),
    Blocks("down_blocks.1", ((320, 640), (640, 640)), 1, "downsamplers", "input_blocks.4"),
    Blocks("down_blocks.2", ((640, 1280), (1280, 1280)), 1, "downsamplers", "input_blocks.7"),
    Blocks("down_blocks.3", ((1280, 1280), (1280, 1280)), 0, "", "input_blocks.10"),
    Blocks("up_blocks.0", ((2560, 1280), (2560, 1280), (2560, 1280)), 0, "upsamplers", "output_blocks.0"),
    Blocks("up_blocks.1", ((2560, 1280), (2560, 1280), (1920, 1280)), 1, "upsamplers", "output_blocks.3"),
    Blocks("up_blocks.2", ((1920, 640), (1280, 640), (960, 640)), 1, "upsamplers", "output_blocks.6"),
    Blocks("up_blocks.3", ((960, 320), (640, 320), (640, 320)), 1, "", "output_blocks.9"),
)
"""The blocks of the first UNets: four levels, attention in three of them."""
