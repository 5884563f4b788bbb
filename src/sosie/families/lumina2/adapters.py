"""LoRAs of Lumina-Image 2.0: the modules that they adapt, and what ComfyUI reads of them.

Source of the modules: diffusers `Lumina2Transformer2DModel`, ComfyUI `ldm/lumina/model.py`. Keys and values have a
third of the heads. ComfyUI makes the same further names of its modules as of Z-Image's, which are not diffusers' names
of this model: of a LoRA in those it reads none.
"""

from __future__ import annotations

from collections.abc import Iterator

from sosie.families.lumina2.signature import WIDTH
from sosie.lora.loaders import OWN_LAYOUT
from sosie.lora.lora import LoraSupport
from sosie.lora.modules import Module, Table, fused
from sosie.lora.spellings import KOHYA_NAMES, Spelling

KEYS, FEED, TIME = WIDTH // 3, 4 * WIDTH, 1024


def modules() -> Iterator[Module]:
    """Every linear layer of the transformer."""
    for group, count in (("layers", 26), ("noise_refiner", 2), ("context_refiner", 2)):
        for index in range(count):
            block = f"{group}.{index}"
            rows = zip("qkv", (WIDTH, KEYS, KEYS), strict=True)
            parts = [(f"{block}.attn.to_{letter}", (count, WIDTH)) for letter, count in rows]
            yield from fused("denoiser", f"{block}.attention.qkv", *parts)
            yield Module("denoiser", f"{block}.attn.to_out.0", f"{block}.attention.out", (WIDTH, WIDTH))
            for number, shape in ((1, (FEED, WIDTH)), (2, (WIDTH, FEED)), (3, (FEED, WIDTH))):
                name = f"{block}.feed_forward"
                yield Module("denoiser", f"{name}.linear_{number}", f"{name}.w{number}", shape)
            if group != "context_refiner":
                name = f"{block}.adaLN_modulation.1"
                yield Module("denoiser", f"{block}.norm1.linear", name, (4 * WIDTH, TIME))
    for name, single, shape in (
        ("x_embedder", "x_embedder", (WIDTH, 64)),
        ("time_caption_embed.timestep_embedder.linear_1", "t_embedder.mlp.0", (TIME, 256)),
        ("time_caption_embed.timestep_embedder.linear_2", "t_embedder.mlp.2", (TIME, TIME)),
        ("time_caption_embed.caption_embedder.1", "cap_embedder.1", (WIDTH, WIDTH)),
        ("norm_out.linear_1", "final_layer.adaLN_modulation.1", (WIDTH, TIME)),
        ("norm_out.linear_2", "final_layer.linear", (64, WIDTH)),
    ):
        yield Module("denoiser", name, single, shape)


ADAPTERS = LoraSupport(
    table=Table(modules),
    named=r"(layers|noise_refiner|context_refiner)[._]\d+[._]|cap_embedder",
    spellings={
        "kohya": KOHYA_NAMES,
        "diffusers": Spelling({"denoiser": "transformer."}, False, False, "lora_A", "folded"),
    },
    loaders=(OWN_LAYOUT,),
    software=(("networks.lora_lumina", "sd-scripts"),),
)
