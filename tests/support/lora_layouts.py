"""LoRA files as trainers and publishers write them: real names and sizes, by hand, and no byte of weights.

Sources: ai-toolkit, sd-scripts `networks/`, musubi-tuner `networks/`, OneTrainer `modelSaver/`, SimpleTuner, LyCORIS,
DiffSynth-Studio, diffusers `examples/` and the models' own LoRAs.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

Shape = tuple[int, ...]
Modules = Mapping[str, tuple[int, int]]
"""A module's name and its (rows, columns)."""


def square(width: int, *names: str) -> dict[str, tuple[int, int]]:
    """Modules as wide as they are high."""
    return dict.fromkeys(names, (width, width))


def feed(width: int, inner: int, up: str, down: str) -> dict[str, tuple[int, int]]:
    """A feed-forward layer's two modules."""
    return {up: (inner, width), down: (width, inner)}


@dataclass(frozen=True)
class Layout:
    """A layout of a family's LoRAs: who writes it, its blocks as (template, how many, modules), how tensors end.

    `style` is `A` (lora_A), `down` (lora_down), `default`, `dots`, `processor`, `named`, `lokr`, `loha` or `dora`;
    `alpha` adds alpha tensors.
    """

    family: str
    writer: str
    blocks: tuple[tuple[str, int, Modules], ...]
    style: str = "A"
    alpha: float | None = None
    metadata: dict[str, str] = field(default_factory=dict[str, str])

    @property
    def id(self) -> str:
        """For pytest."""
        return f"{self.family}-{self.writer}".replace(" ", "-")

    def modules(self) -> Iterator[tuple[str, int, int]]:
        """Name with its prefix, rows, columns."""
        for template, count, modules in self.blocks:
            for index in range(count):
                for name, (rows, columns) in modules.items():
                    yield template.format(index) + name, rows, columns

    def tensors(self, rank: int = 4) -> dict[str, Shape]:
        """Names and shapes of the file's tensors."""
        found: dict[str, Shape] = {}
        for stem, rows, columns in self.modules():
            found |= _ends(self.style, stem, rows, columns, rank)
            if self.alpha is not None:
                found[f"{stem}.alpha"] = ()
        return found

    def save(self, path: Path, rank: int = 4) -> Path:
        """The file: a real header, alphas, and a hole of zeros for the rest."""
        return sparse(path, self.tensors(rank), self.metadata, self.alpha)


def _ends(style: str, stem: str, rows: int, columns: int, rank: int) -> dict[str, Shape]:
    if style == "lokr":
        factor = next(n for n in (16, 8, 4, 2, 1) if not rows % n and not columns % n)
        return {f"{stem}.lokr_w1": (factor, factor), f"{stem}.lokr_w2": (rows // factor, columns // factor)}
    if style == "loha":
        pairs = {f"{stem}.hada_w{n}_a": (rows, rank) for n in (1, 2)}
        return pairs | {f"{stem}.hada_w{n}_b": (rank, columns) for n in (1, 2)}
    down, up = {
        "A": (".lora_A.weight", ".lora_B.weight"),
        "default": (".lora_A.default.weight", ".lora_B.default.weight"),
        "down": (".lora_down.weight", ".lora_up.weight"),
        "dora": (".lora_down.weight", ".lora_up.weight"),
        "named": (".lora_A.mira.weight", ".lora_B.mira.weight"),
        "dots": (".lora.down.weight", ".lora.up.weight"),
        "processor": ("_lora.down.weight", "_lora.up.weight"),
    }[style]
    found: dict[str, Shape] = {stem + down: (rank, columns), stem + up: (rows, rank)}
    if style == "dora":
        found[f"{stem}.dora_scale"] = (rows, 1)
    return found


def sparse(
    path: Path, tensors: Mapping[str, Shape], metadata: Mapping[str, str] | None = None, alpha: float | None = None
) -> Path:
    """A safetensors file of BF16 tensors whose bytes are a hole; its `.alpha` tensors hold `alpha`."""
    table: dict[str, object] = {"__metadata__": dict(metadata)} if metadata else {}
    end = 0
    for name, shape in sorted(tensors.items(), key=lambda entry: not entry[0].endswith(".alpha")):
        size = 2
        for count in shape:
            size *= count
        table[name] = {"dtype": "BF16", "shape": list(shape), "data_offsets": [end, end + size]}
        end += size
    alphas = sum(name.endswith(".alpha") for name in tensors)
    head = json.dumps(table).encode()
    with path.open("wb") as stream:
        stream.write(struct.pack("<Q", len(head)) + head)
        stream.write(struct.pack("<f", alpha or 0.0)[2:] * alphas)
        stream.truncate(8 + len(head) + end)
    return path


W = 3072
QKVO = ("to_q", "to_k", "to_v", "to_out.0")
ADDED = ("add_q_proj", "add_k_proj", "add_v_proj", "to_add_out")


def streams(width: int, inner: int, outer: int, dot: str) -> dict[str, tuple[int, int]]:
    """A block of two streams in the names of single files, joined by `dot`."""
    found: dict[str, tuple[int, int]] = {}
    for side in ("img", "txt"):
        found[f"{side}_attn{dot}qkv"] = (3 * width, width)
        found[f"{side}_attn{dot}proj"] = (width, width)
        found[f"{side}_mlp{dot}0"] = (inner, width)
        found[f"{side}_mlp{dot}2"] = (width, outer)
    return found


def flat(modules: Modules) -> dict[str, tuple[int, int]]:
    """With underscores."""
    return {name.replace(".", "_"): shape for name, shape in modules.items()}


FLUX_DOUBLE = {
    **square(W, *(f"attn.{name}" for name in (*QKVO, *ADDED))),
    **feed(W, 4 * W, "ff.net.0.proj", "ff.net.2"),
    **feed(W, 4 * W, "ff_context.net.0.proj", "ff_context.net.2"),
}
FLUX_SINGLE = {**square(W, "attn.to_q", "attn.to_k", "attn.to_v"), "proj_mlp": (4 * W, W), "proj_out": (W, 5 * W)}
KOHYA_SINGLE = {"linear1": (7 * W, W), "linear2": (W, 5 * W)}


def flux1(prefix: str, change: bool = False) -> tuple[tuple[str, int, Modules], ...]:
    """All blocks in diffusers' names; with underscores if `change`."""
    if change:
        return (
            (f"{prefix}transformer_blocks_{{}}_", 19, flat(FLUX_DOUBLE)),
            (f"{prefix}single_transformer_blocks_{{}}_", 38, flat(FLUX_SINGLE)),
        )
    return (
        (f"{prefix}transformer_blocks.{{}}.", 19, FLUX_DOUBLE),
        (f"{prefix}single_transformer_blocks.{{}}.", 38, FLUX_SINGLE),
    )


def flux2(width: int, doubles: int, singles: int) -> tuple[tuple[str, int, Modules], ...]:
    """In the names of single files, as ai-toolkit writes."""
    return (
        ("diffusion_model.double_blocks.{}.", doubles, streams(width, 6 * width, 3 * width, ".")),
        (
            "diffusion_model.single_blocks.{}.",
            singles,
            {"linear1": (9 * width, width), "linear2": (width, 4 * width)},
        ),
    )


def flux2_split(prefix: str, width: int, doubles: int, singles: int) -> tuple[tuple[str, int, Modules], ...]:
    """In diffusers' names, as SimpleTuner writes."""
    double = {
        **square(width, *(f"attn.{name}" for name in (*QKVO, *ADDED))),
        **{f"{name}.linear_in": (6 * width, width) for name in ("ff", "ff_context")},
        **{f"{name}.linear_out": (width, 3 * width) for name in ("ff", "ff_context")},
    }
    single = {"attn.to_qkv_mlp_proj": (9 * width, width), "attn.to_out": (width, 4 * width)}
    if prefix.endswith("_"):
        return (
            (f"{prefix}transformer_blocks_{{}}_", doubles, flat(double)),
            (f"{prefix}single_transformer_blocks_{{}}_", singles, flat(single)),
        )
    return (
        (f"{prefix}transformer_blocks.{{}}.", doubles, double),
        (f"{prefix}single_transformer_blocks.{{}}.", singles, single),
    )


QWEN = {
    **square(W, *(f"attn.{name}" for name in (*QKVO, *ADDED))),
    **{f"{side}_mod.1": (6 * W, W) for side in ("img", "txt")},
    **feed(W, 4 * W, "img_mlp.net.0.proj", "img_mlp.net.2"),
    **feed(W, 4 * W, "txt_mlp.net.0.proj", "txt_mlp.net.2"),
}
SD3 = square(1536, *(f"attn.{name}" for name in (*QKVO[:3], *ADDED[:3])))
WAN = {
    **square(5120, *(f"{a}_attn.{b}" for a in ("self", "cross") for b in "qkvo")),
    **feed(5120, 13824, "ffn.0", "ffn.2"),
}
HIDREAM = square(2560, "attn1.to_q", "attn1.to_k", "attn1.to_v", "attn1.to_out")
LTX = {
    **square(2048, *(f"attn{n}.{name}" for n in "12" for name in QKVO)),
    **feed(2048, 8192, "ff.net.0.proj", "ff.net.2"),
}
PIXART = {
    **square(1152, *(f"attn{n}.{name}" for n in "12" for name in QKVO)),
    **feed(1152, 4608, "ff.net.0.proj", "ff.net.2"),
}
HUNYUAN = {
    **{f"{side}_attn_qkv": (3 * W, W) for side in ("img", "txt")},
    **square(W, "img_attn_proj", "txt_attn_proj"),
    **feed(W, 4 * W, "img_mlp.fc1", "img_mlp.fc2"),
}
DIT = {
    "attn1.Wqkv": (4224, 1408),
    **square(1408, "attn1.out_proj", "attn2.q_proj", "attn2.out_proj"),
    "attn2.kv_proj": (2816, 1024),
}
LUMINA = {"attention.qkv": (3840, 2304), "attention.out": (2304, 2304), "feed_forward.w1": (9216, 2304)}
ZIMAGE = {
    **square(3840, *(f"attention.{name}" for name in QKVO)),
    **{f"feed_forward.{name}": shape for name, shape in (("w1", (10240, 3840)), ("w2", (3840, 10240)))},
}
CLIP = {
    **square(768, *(f"self_attn_{name}_proj" for name in ("q", "k", "v", "out"))),
    **feed(768, 3072, "mlp_fc1", "mlp_fc2"),
}


def unet(width: int, text: int, join: str = "_") -> dict[str, tuple[int, int]]:
    """The transformer block of a UNet."""
    names = {
        **square(width, *(f"attn{n}.to_{name}" for n in "12" for name in ("q", "out.0"))),
        **square(width, "attn1.to_k", "attn1.to_v"),
        **{f"attn2.to_{name}": (width, text) for name in "kv"},
        "ff.net.0.proj": (8 * width, width),
        "ff.net.2": (width, 4 * width),
    }
    return {name.replace(".", join): shape for name, shape in names.items()}


TE = ("lora_te_text_model_encoder_layers_{}_", 12, CLIP)
TE1 = ("lora_te1_text_model_encoder_layers_{}_", 12, CLIP)

KREA = {
    **square(6144, "attn.to_q", "attn.to_gate", "attn.to_out.0"),
    **{f"attn.to_{name}": (1536, 6144) for name in "kv"},
    "ff.down": (6144, 16384),
}
ANIMA = {
    **square(2048, *(f"{a}_attn_{b}" for a in ("self", "cross") for b in ("q_proj", "output_proj"))),
    "cross_attn_k_proj": (2048, 1024),
    **feed(2048, 8192, "mlp_layer1", "mlp_layer2"),
}

HEALTHY = (
    Layout(
        "sdxl", "kohya", (("lora_unet_input_blocks_7_1_transformer_blocks_{}_", 10, unet(1280, 2048)), TE1), "down", 8.0
    ),
    Layout(
        "sdxl",
        "kohya with diffusers blocks",
        (("lora_unet_down_blocks_1_attentions_0_transformer_blocks_{}_", 2, unet(640, 2048)),),
        "down",
        1.0,
    ),
    Layout(
        "sdxl",
        "LyCORIS LoHa",
        (("lora_unet_input_blocks_4_1_transformer_blocks_{}_", 2, unet(640, 2048)),),
        "loha",
        2.0,
    ),
    Layout(
        "sdxl",
        "OneTrainer DoRA",
        (("lora_unet_middle_block_1_transformer_blocks_{}_", 10, unet(1280, 2048)),),
        "dora",
        4.0,
    ),
    Layout(
        "sd1",
        "kohya",
        (("lora_unet_down_blocks_0_attentions_{}_transformer_blocks_0_", 2, unet(320, 768)), TE),
        "down",
        16.0,
    ),
    Layout(
        "sd1",
        "diffusers of 2023",
        (
            (
                "unet.down_blocks.0.attentions.{}.transformer_blocks.0.attn1.processor.",
                2,
                square(320, "to_q", "to_k", "to_v", "to_out"),
            ),
        ),
        "processor",
    ),
    Layout(
        "sd2", "kohya", (("lora_unet_mid_block_attentions_{}_transformer_blocks_0_", 1, unet(1280, 1024)),), "down", 4.0
    ),
    Layout("zimage", "ai-toolkit", (("diffusion_model.layers.{}.", 30, ZIMAGE),)),
    Layout("zimage", "DiffSynth", (("layers.{}.", 30, ZIMAGE),), "default"),
    Layout("zimage", "LyCORIS LoKr", (("lycoris_layers_{}_", 30, flat(ZIMAGE)),), "lokr", 1.0),
    Layout("flux1", "ai-toolkit", flux1("transformer."), metadata={"ss_base_model_version": "flux1"}),
    Layout(
        "flux1",
        "kohya",
        (
            ("lora_unet_double_blocks_{}_", 19, streams(W, 4 * W, 4 * W, "_")),
            ("lora_unet_single_blocks_{}_", 38, KOHYA_SINGLE),
        ),
        "down",
        16.0,
    ),
    Layout("flux1", "OneTrainer", flux1("lora_transformer_", True), "down", 1.0),
    Layout("flux1", "SimpleTuner LyCORIS", flux1("lycoris_", True), "lokr", 1.0),
    Layout(
        "flux1",
        "BFL names",
        (
            ("diffusion_model.double_blocks.{}.", 19, streams(W, 4 * W, 4 * W, ".")),
            ("diffusion_model.single_blocks.{}.", 38, KOHYA_SINGLE),
        ),
    ),
    Layout("flux2", "ai-toolkit klein 9B", flux2(4096, 8, 24)),
    Layout("flux2", "ai-toolkit klein 4B", flux2(3072, 5, 20)),
    Layout("flux2", "ai-toolkit dev", flux2(6144, 8, 48)),
    Layout("flux2", "SimpleTuner klein 9B", flux2_split("transformer.", 4096, 8, 24)),
    Layout("flux2", "LyCORIS klein 4B", flux2_split("lycoris_", 3072, 5, 20), "lokr", 1.0),
    Layout(
        "chroma",
        "ai-toolkit",
        (
            ("diffusion_model.double_blocks.{}.", 19, streams(W, 4 * W, 4 * W, ".")),
            ("diffusion_model.single_blocks.{}.", 38, KOHYA_SINGLE),
        ),
        metadata={"ss_base_model_version": "chroma"},
    ),
    Layout("qwen_image", "lightning", (("transformer_blocks.{}.", 60, QWEN),), "down", 2.0),
    Layout("qwen_image", "diffusers", (("transformer.transformer_blocks.{}.", 60, QWEN),)),
    Layout("qwen_image", "musubi", (("lora_unet_transformer_blocks_{}_", 60, flat(QWEN)),), "down", 4.0),
    Layout("sd3", "diffusers", (("transformer.transformer_blocks.{}.", 24, SD3),)),
    Layout(
        "sd3",
        "OneTrainer 3.5 large",
        (("lora_transformer_transformer_blocks_{}_", 38, flat(square(2432, "attn.to_q", "attn.to_v"))),),
        "down",
        1.0,
    ),
    Layout("wan", "musubi", (("lora_unet_blocks_{}_", 40, flat(WAN)),), "down", 16.0),
    Layout("wan", "ai-toolkit", (("diffusion_model.blocks.{}.", 40, WAN),)),
    Layout(
        "hidream",
        "ai-toolkit",
        (
            ("diffusion_model.double_stream_blocks.{}.block.", 16, HIDREAM),
            ("diffusion_model.single_stream_blocks.{}.block.", 32, HIDREAM),
        ),
    ),
    Layout("hidream", "SimpleTuner", (("transformer.double_stream_blocks.{}.block.", 16, HIDREAM),)),
    Layout("ltx", "official", (("diffusion_model.transformer_blocks.{}.", 28, LTX),)),
    Layout("ltx", "DiffSynth", (("transformer_blocks.{}.", 28, LTX),), "default"),
    Layout("pixart", "diffusers", (("transformer.transformer_blocks.{}.", 28, PIXART),)),
    Layout("pixart", "peft", (("base_model.model.transformer_blocks.{}.", 28, PIXART),)),
    Layout("hunyuan_video", "diffusion-pipe", (("transformer.double_blocks.{}.", 20, HUNYUAN),)),
    Layout(
        "hunyuan_video",
        "musubi",
        (
            ("lora_unet_double_blocks_{}_", 20, flat(square(W, "img_attn_proj"))),
            ("lora_unet_single_blocks_{}_", 40, KOHYA_SINGLE),
        ),
        "down",
        1.0,
    ),
    Layout("hunyuan_dit", "official", (("base_model.model.blocks.{}.", 40, DIT),)),
    Layout("lumina2", "kohya", (("lora_unet_layers_{}_", 26, flat(LUMINA)),), "down", 4.0),
    Layout("lumina2", "ComfyUI names", (("diffusion_model.layers.{}.", 26, LUMINA),)),
    Layout("krea2", "ai-toolkit", (("diffusion_model.transformer_blocks.{}.", 28, KREA),)),
    Layout("krea2", "own names", (("diffusion_model.blocks.{}.", 28, square(6144, "attn.wq", "attn.wo")),)),
    Layout("krea2", "without .0", (("transformer.transformer_blocks.{}.", 28, square(6144, "attn.to_out")),)),
    Layout(
        "qwen_image21",
        "halves of gate_up",
        (("transformer_blocks.{}.", 32, {"img_mlp.proj": (12288, 4096), "attn.to_q": (4096, 4096)}),),
    ),
    Layout(
        "hunyuan_image", "kohya", (("lora_unet_double_blocks_{}_", 20, streams(3584, 14336, 14336, "_")),), "down", 4.0
    ),
    Layout("anima", "kohya", (("lora_unet_blocks_{}_", 28, ANIMA),), "down", 4.0),
)
"""Layouts that ComfyUI of today reads whole."""

DROPPED = (
    Layout(
        "flux2",
        "img_attn_qkv with an underscore",
        (
            (
                "diffusion_model.double_blocks.{}.",
                8,
                {name.replace("attn.", "attn_"): shape for name, shape in streams(4096, 24576, 12288, ".").items()},
            ),
            ("diffusion_model.single_blocks.{}.", 24, {"linear1": (36864, 4096), "linear2": (4096, 16384)}),
        ),
    ),
    Layout(
        "flux2", "bare single-file names", (("double_blocks.{}.", 8, streams(4096, 24576, 12288, ".")),), "lokr", 1.0
    ),
    Layout(
        "flux2",
        "kohya flat of diffusers names",
        (("lora_unet_transformer_blocks_{}_", 5, flat(square(3072, "attn.to_q", "attn.add_q_proj"))),),
        "down",
        2.0,
    ),
    Layout("flux1", "kohya flat of diffusers names", flux1("lora_unet_", True), "down", 4.0),
    Layout("flux1", "peft", flux1("base_model.model.")),
    Layout("flux1", "peft under transformer", flux1("transformer.base_model.model."), "dots"),
    Layout("flux1", "another adapter's name", flux1("transformer."), "named"),
    Layout(
        "sdxl",
        "diffusers with lora_A",
        (("unet.down_blocks.1.attentions.0.transformer_blocks.{}.", 2, unet(640, 2048, ".")),),
    ),
    Layout(
        "sdxl",
        "diffusers with dots",
        (("unet.up_blocks.0.attentions.1.transformer_blocks.{}.", 10, unet(1280, 2048, ".")),),
        "dots",
    ),
    Layout(
        "sdxl",
        "unet before single-file names",
        (("unet.input_blocks.4.1.transformer_blocks.{}.", 2, unet(640, 2048, ".")),),
        "dora",
        8.0,
    ),
    Layout(
        "sdxl",
        "peft LoKr",
        (("base_model.model.mid_block.attentions.0.transformer_blocks.{}.", 10, unet(1280, 2048, ".")),),
        "lokr",
        1.0,
    ),
    Layout(
        "sd1",
        "peft LoKr",
        (("base_model.model.down_blocks.0.attentions.{}.transformer_blocks.0.", 2, unet(320, 768, ".")),),
        "lokr",
        1.0,
    ),
    Layout(
        "sd1",
        "diffusers with lora_A",
        (("unet.up_blocks.3.attentions.{}.transformer_blocks.0.", 3, unet(320, 768, ".")),),
    ),
    Layout("zimage", "musubi", (("lora_unet_layers_{}_", 30, flat(ZIMAGE)),), "down", 4.0),
    Layout("zimage", "peft", (("base_model.model.layers.{}.", 30, ZIMAGE),)),
    Layout(
        "wan",
        "diffusers",
        (
            (
                "transformer.blocks.{}.",
                40,
                {
                    **square(5120, *(f"attn{n}.{name}" for n in "12" for name in QKVO)),
                    **feed(5120, 13824, "ffn.net.0.proj", "ffn.net.2"),
                },
            ),
        ),
    ),
    Layout("wan", "DiffSynth", (("blocks.{}.", 40, WAN),), "default"),
    Layout("ltx", "finetrainers", (("transformer.transformer_blocks.{}.", 28, LTX),)),
    Layout(
        "hunyuan_video",
        "diffusers",
        (("transformer.transformer_blocks.{}.", 20, square(W, *(f"attn.{name}" for name in (*QKVO, *ADDED)))),),
    ),
    Layout(
        "hunyuan_dit",
        "diffusers",
        (("transformer.blocks.{}.", 40, square(1408, "attn1.to_q", "attn1.to_k", "attn1.to_v")),),
    ),
    Layout("sd3", "kohya flat of diffusers names", (("lora_unet_transformer_blocks_{}_", 24, flat(SD3)),), "down", 4.0),
    Layout(
        "lumina2",
        "diffusers",
        (
            (
                "transformer.layers.{}.",
                26,
                {**square(2304, "attn.to_q", "attn.to_out.0"), "attn.to_k": (768, 2304), "attn.to_v": (768, 2304)},
            ),
        ),
    ),
    Layout("hidream", "bare", (("double_stream_blocks.{}.block.", 16, HIDREAM),)),
    Layout("qwen_image", "peft", (("base_model.model.transformer_blocks.{}.", 60, QWEN),)),
    Layout(
        "chroma",
        "kohya flat of diffusers names",
        flux1("lora_unet_", True),
        "down",
        4.0,
        {"ss_base_model_version": "chroma"},
    ),
)
"""Layouts of which ComfyUI of today passes over a part, or all."""
