"""How LoRA files spell a tensor's name: a prefix, a module, and a suffix that says its role.

`PREFIXES` and `SUFFIXES` are read from the longest to the shortest, so each name has one reading.
Roles are named once for all spellings: `down` and `up` (LoRA's A and B), `mid` (Tucker core),
`alpha`, `dora` (DoRA's magnitudes), `w1_a` ... `t2` (LoHa), `k1` ... `kt2` (LoKr), `diff`, `bias`; those of the
other algorithms are called as their endings are.

Sources of the endings: LyCORIS `modules/`, peft `tuners/`, sd-scripts `networks/`, OneTrainer `LoRAModule.py`,
ComfyUI `weight_adapter/`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

from sosie.lora.modules import Component

Naming = Literal["comfy", "diffusers", "onetrainer", "peft", "kohya", "lycoris", "bare", "mixed"]
Fusion = Literal["split", "fused", "mixed", "none"]
Algorithm = Literal["lora", "loha", "lokr", "diff", "set", "norm", "glora", "oft", "boft", "ia3", "vera", "other"]

NAMES: Mapping[str, str] = MappingProxyType(
    {
        "lora": "LoRA",
        "dora": "DoRA",
        "loha": "LoHa",
        "lokr": "LoKr",
        "diff": "full differences",
        "set": "weights to be set",
        "norm": "differences of norms",
        "glora": "GLoRA",
        "oft": "OFT",
        "boft": "BOFT",
        "ia3": "(IA)^3",
        "vera": "VeRA",
        "other": "an algorithm that is not known",
    }
)
"""Algorithms, as people call them."""


@dataclass(frozen=True)
class Prefix:
    """The beginning of a name: whose naming it is, and which component of the pipeline it speaks of."""

    text: str
    naming: Naming
    component: Component = "denoiser"


PREFIXES = (
    Prefix("unet.base_model.model.", "peft"),
    Prefix("transformer.base_model.model.", "peft"),
    Prefix("base_model.model.transformer.", "peft"),
    Prefix("base_model.model.", "peft"),
    Prefix("model.diffusion_model.", "comfy"),
    Prefix("diffusion_model._orig_mod.", "comfy"),
    Prefix("diffusion_model.", "comfy"),
    Prefix("transformer._orig_mod.", "diffusers"),
    Prefix("transformer.", "diffusers"),
    Prefix("unet.", "diffusers"),
    Prefix("text_encoder_3.", "diffusers", "text-encoder-3"),
    Prefix("text_encoder_2.", "diffusers", "text-encoder-2"),
    Prefix("text_encoder.", "diffusers", "text-encoder"),
    Prefix("lora_transformer_", "kohya"),
    Prefix("lora_unet__", "kohya"),
    Prefix("lora_unet_", "kohya"),
    Prefix("lora_te1_", "kohya", "text-encoder"),
    Prefix("lora_te2_", "kohya", "text-encoder-2"),
    Prefix("lora_te3_", "kohya", "text-encoder-3"),
    Prefix("lora_te_", "kohya", "text-encoder"),
    Prefix("oft_unet_", "kohya"),
    Prefix("oft_te1_", "kohya", "text-encoder"),
    Prefix("oft_te2_", "kohya", "text-encoder-2"),
    Prefix("oft_te_", "kohya", "text-encoder"),
    Prefix("lycoris_", "lycoris"),
    *(Prefix(text, "bare") for text in ("pipe.dit.", "dit.", "net.", "module.", "_orig_mod.", "model.", "")),
)

SUFFIXES: Mapping[str, tuple[str, str]] = MappingProxyType(
    {
        ".lora_A.weight": ("lora_A", "down"),
        ".lora_B.weight": ("lora_A", "up"),
        ".lora_A.default.weight": ("lora_A.default", "down"),
        ".lora_B.default.weight": ("lora_A.default", "up"),
        ".lora_down.weight": ("lora_down", "down"),
        ".lora_up.weight": ("lora_down", "up"),
        ".lora_mid.weight": ("lora_down", "mid"),
        ".lora.down.weight": ("lora.down", "down"),
        ".lora.up.weight": ("lora.down", "up"),
        "_lora.down.weight": ("_lora.down", "down"),
        "_lora.up.weight": ("_lora.down", "up"),
        ".lora_linear_layer.down.weight": ("lora_linear_layer", "down"),
        ".lora_linear_layer.up.weight": ("lora_linear_layer", "up"),
        ".alpha": ("", "alpha"),
        ".dora_scale": ("dora_scale", "dora"),
        ".magnitude": ("magnitude", "dora"),
        ".lora_magnitude_vector": ("lora_magnitude_vector", "dora"),
        ".lora_magnitude_vector.weight": ("lora_magnitude_vector", "dora"),
        **{f".hada_{name}": ("hada", name) for name in ("w1_a", "w1_b", "w2_a", "w2_b", "t1", "t2")},
        **{
            f".lokr_{name}": ("lokr", name.replace("w", "k").replace("t2", "kt2"))
            for name in ("w1", "w1_a", "w1_b", "w2", "w2_a", "w2_b", "t2")
        },
        ".norm.key_norm.scale": ("set", "key_norm"),
        ".norm.query_norm.scale": ("set", "query_norm"),
        ".lora_B.bias": ("", "up_bias"),
        ".reshape_weight": ("", "reshape"),
        ".scalar": ("", "scalar"),
        ".diff": ("diff", "diff"),
        ".diff_b": ("diff", "bias"),
        ".set_weight": ("set", "set"),
        **{f".{name}": ("norm", name) for name in ("w_norm", "b_norm")},
        **{f".{name}.weight": ("glora", name) for name in ("a1", "a2", "b1", "b2", "bm")},
        **{f".{name}": ("oft", name) for name in ("oft_blocks", "oft_diag", "rescale")},
        **{f".{name}": ("oft_R", "rotation") for name in ("oft_R.weight", "oft_R", "oft_r")},
        **{f".{name}": ("boft_R", name) for name in ("boft_R", "boft_s")},
        ".on_input": ("ia3", "on_input"),
        ".ia3_l": ("ia3_l", "scale"),
        **{f".vera_lambda_{name}": ("vera", f"lambda_{name}") for name in "bd"},
        **{
            f".{name}": ("other", name)
            for name in ("hra_u", "fourierft_spectrum", "ln_tuning_layers", "randlora_lambda")
        },
    }
)
"""Ending of a name -> how the file spells it, and the tensor's role."""

_ENDINGS = tuple(SUFFIXES)
_LENGTHS = sorted({len(text) for text in SUFFIXES}, reverse=True)
_NAMED = re.compile(r"(\.lora_[AB])\.[A-Za-z0-9_-]{1,64}\.weight$")
"""peft's adapter name between `lora_A` and `weight`; usually `default`."""

_PARTS = re.compile(r"\.oft_blocks\.(\d{1,2})$")
"""kohya's OFT keeps the blocks of each part of a fused weight by themselves."""


@dataclass(frozen=True)
class Key:
    """A tensor's name, taken apart: prefix, module (as the file spells it), suffix style, role.

    `stem` is the name without its ending, where `module` is its meaning.
    """

    prefix: Prefix
    module: str
    style: str
    role: str
    stem: str


def take_apart(name: str) -> Key | None:
    """A tensor's name as prefix, module, style and role; None if its ending is no LoRA's."""
    whole = _NAMED.sub(r"\1.default.weight", name) if ".lora_" in name else name
    if whole.endswith(_ENDINGS):
        # Loops, not generators: this is done for every name of every file that may be a LoRA.
        length = 0
        for length in _LENGTHS:
            if whole[-length:] in SUFFIXES:
                break
        style, role = SUFFIXES[whole[-length:]]
        return as_key(whole[:-length], style, role)
    if part := _PARTS.search(name):
        return as_key(name[: part.start()], "oft_blocks.N", f"oft_blocks.{int(part[1])}")
    if name.endswith(".default"):
        return take_apart(name.removesuffix(".default"))
    return None


def as_key(stem: str, style: str, role: str) -> Key | None:
    """A tensor's name from its parts; None if it names no module."""
    prefix = PREFIXES[-1]
    for prefix in PREFIXES:
        if stem.startswith(prefix.text):
            break
    module = stem[len(prefix.text) :]
    if ".processor." in module:
        # diffusers up to 0.20: `attn1.processor.to_out_lora.up.weight` is of `attn1.to_out.0`.
        module = module.replace(".processor.to_", ".to_")
        module += ".0" if module.endswith(".to_out") else ""
    return Key(prefix, module, style, role, stem) if module else None


ALGORITHMS: Mapping[str, Algorithm] = MappingProxyType(
    {
        "hada": "loha",
        "lokr": "lokr",
        "oft_blocks.N": "oft",
        "oft_R": "oft",
        "boft_R": "boft",
        "ia3_l": "ia3",
        **{name: name for name in ("diff", "set", "norm", "glora", "oft", "ia3", "vera", "other")},
    }
)
"""Style of a suffix -> algorithm; every style that is not here is plain LoRA."""


@dataclass(frozen=True)
class Layout:
    """How a file as a whole is written: whose names, which suffix style, and split or fused q, k, v.

    `fusion` is none where q, k and v are not adapted or the family has no fused weight.
    """

    naming: Naming
    style: str
    fusion: Fusion

    @property
    def name(self) -> str:
        """The layout in one word for programs: `comfy-split`, `kohya-fused`, or `kohya` where nothing is fused."""
        return self.naming if self.fusion == "none" else f"{self.naming}-{self.fusion}"

    @property
    def title(self) -> str:
        """The layout for people: who writes it, and how q, k, v are kept."""
        name = TITLES[self.naming]
        if self.naming == "kohya" and self.fusion == "split":
            name = "kohya names with split q, k, v (musubi, OneTrainer)"
        elif self.fusion != "none":
            name += ", split and fused q, k, v" if self.fusion == "mixed" else f", {self.fusion} q, k, v"
        return name


TITLES: Mapping[Naming, str] = MappingProxyType(
    {
        "comfy": "ComfyUI (diffusion_model., as ai-toolkit writes)",
        "diffusers": "diffusers",
        "onetrainer": "OneTrainer legacy (diffusers prefix with alpha keys)",
        "peft": "peft (base_model.model.)",
        "kohya": "kohya",
        "lycoris": "LyCORIS (lycoris_)",
        "bare": "bare (no prefix)",
        "mixed": "mixed prefixes",
    }
)
