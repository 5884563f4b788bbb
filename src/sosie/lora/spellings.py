"""How a layout of LoRA files writes names, as conversion needs it. Families say which layouts they have."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from sosie.lora.modules import Component


@dataclass(frozen=True)
class Spelling:
    """Prefixes by component, underscores (`flat`), names of single files (`single`), suffixes, and where alpha stands.

    `single` None keeps what is fused or split as it is, and calls it as ComfyUI does. Alpha is written where alpha /
    rank is not 1, always, or folded into the matrices.
    """

    prefixes: Mapping[Component, str]
    flat: bool
    single: bool | None
    style: Literal["lora_A", "lora_down"]
    alpha: Literal["where needed", "always", "folded"]


COMFY_NAMES = Spelling({"denoiser": "diffusion_model."}, False, False, "lora_A", "where needed")
"""ComfyUI's prefix before diffusers' names, as ai-toolkit writes."""

KOHYA_NAMES = Spelling(
    {
        "denoiser": "lora_unet_",
        "text-encoder": "lora_te1_",
        "text-encoder-2": "lora_te2_",
        "text-encoder-3": "lora_te3_",
    },
    flat=True,
    single=True,
    style="lora_down",
    alpha="always",
)
"""As sd-scripts writes."""

AS_READ = Spelling({}, False, None, "lora_A", "where needed")
"""Each change under a name that ComfyUI looks for; nothing is computed, so every algorithm that it reads is kept."""

SUFFIXES: Mapping[str, Mapping[str, str]] = {
    "lora_A": {"down": ".lora_A.weight", "up": ".lora_B.weight"},
    "lora_down": {"down": ".lora_down.weight", "up": ".lora_up.weight", "mid": ".lora_mid.weight"},
}
"""Style -> a LoRA's tensor's role -> its ending."""

KEPT: Mapping[str, str] = {
    "dora": ".dora_scale",
    "diff": ".diff",
    "bias": ".diff_b",
    **{role: f".hada_{role}" for role in ("w1_a", "w1_b", "w2_a", "w2_b", "t1", "t2")},
    **{f"k{role}": f".lokr_w{role}" for role in ("1", "1_a", "1_b", "2", "2_a", "2_b")},
    "kt2": ".lokr_t2",
    "up_bias": ".lora_B.bias",
    "reshape": ".reshape_weight",
    "set": ".set_weight",
    **{role: f".{role}" for role in ("w_norm", "b_norm", "oft_blocks", "rescale")},
    **{role: f".{role}.weight" for role in ("a1", "a2", "b1", "b2", "bm")},
}
"""Endings that are the same in every layout, by role."""
