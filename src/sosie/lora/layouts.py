"""How LoRA files spell a tensor's name: a prefix, a module, and a suffix that says its role.

`PREFIXES` and `SUFFIXES` are read from the longest to the shortest, so each name has one reading.
Roles are named once for all spellings: `down` and `up` (LoRA's A and B), `mid` (Tucker core),
`alpha`, `dora` (DoRA's magnitudes), `w1_a` ... `t2` (LoHa), `k1` ... `kt2` (LoKr), `diff`, `bias`.
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
Algorithm = Literal["lora", "loha", "lokr", "diff", "other"]


@dataclass(frozen=True)
class Prefix:
    """The beginning of a name: whose naming it is, and which component of the pipeline it speaks of."""

    text: str
    naming: Naming
    component: Component = "denoiser"


PREFIXES = (
    Prefix("base_model.model.", "peft"),
    Prefix("diffusion_model.", "comfy"),
    Prefix("transformer.", "diffusers"),
    Prefix("unet.", "diffusers"),
    Prefix("text_encoder_2.", "diffusers", "text-encoder-2"),
    Prefix("text_encoder.", "diffusers", "text-encoder"),
    Prefix("lora_transformer_", "kohya"),
    Prefix("lora_unet_", "kohya"),
    Prefix("lora_te1_", "kohya", "text-encoder"),
    Prefix("lora_te2_", "kohya", "text-encoder-2"),
    Prefix("lora_te_", "kohya", "text-encoder"),
    Prefix("lycoris_", "lycoris"),
    Prefix("", "bare"),
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
        ".diff": ("diff", "diff"),
        ".diff_b": ("diff", "bias"),
        **{f".{name}": ("other", name) for name in ("oft_blocks", "oft_diag", "rescale", "on_input", "b_norm")},
        **{f".{name}.weight": ("other", name) for name in ("a1", "a2", "b1", "b2")},
        ".w_norm": ("other", "w_norm"),
    }
)
"""Ending of a name -> how the file spells it, and the tensor's role."""

_ENDINGS = tuple(SUFFIXES)
_LENGTHS = sorted({len(text) for text in SUFFIXES}, reverse=True)
_NAMED = re.compile(r"(\.lora_[AB])\.[A-Za-z0-9_-]{1,64}\.weight$")
"""peft's adapter name between `lora_A` and `weight`; usually `default`."""


@dataclass(frozen=True)
class Key:
    """A tensor's name, taken apart: prefix, module (as the file spells it), suffix style, role."""

    prefix: Prefix
    module: str
    style: str
    role: str


def take_apart(name: str) -> Key | None:
    """A tensor's name as prefix, module, style and role; None if its ending is no LoRA's."""
    whole = _NAMED.sub(r"\1.default.weight", name) if ".lora_" in name else name
    if not whole.endswith(_ENDINGS):
        return None
    # Loops, not generators: this is done for every name of every file that may be a LoRA.
    length = 0
    for length in _LENGTHS:
        if whole[-length:] in SUFFIXES:
            break
    style, role = SUFFIXES[whole[-length:]]
    stem = whole[:-length]
    prefix = PREFIXES[-1]
    for prefix in PREFIXES:
        if stem.startswith(prefix.text):
            break
    module = stem[len(prefix.text) :]
    if style == "_lora.down":
        # diffusers up to 0.20: `attn1.processor.to_out_lora.up.weight` is of `attn1.to_out.0`.
        module = module.replace(".processor.to_", ".to_")
        module += ".0" if module.endswith(".to_out") else ""
    return Key(prefix, module, style, role) if module else None


ALGORITHMS: Mapping[str, Algorithm] = MappingProxyType(
    {"hada": "loha", "lokr": "lokr", "diff": "diff", "other": "other"}
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
