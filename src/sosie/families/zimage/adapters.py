"""LoRAs of Z-Image: the modules that they adapt, how layouts spell them, and what each loader does with them.

| to          | how                                                  |
|-------------|------------------------------------------------------|
| `comfy`     | `diffusion_model.`, split, `lora_A`; read everywhere |
| `split`     | as `comfy`                                           |
| `fused`     | `diffusion_model.`, fused, `lora_A`                  |
| `kohya`     | `lora_unet_`, fused, `lora_down`, alpha              |
| `diffusers` | `transformer.`, split, `lora_A`, alpha folded        |

Source of the modules: diffusers `ZImageTransformer2DModel` with its published configuration, whose names and shapes
these are; single files fuse q, k and v.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator

from sosie.lora.keymap import KeyRule
from sosie.lora.loaders import DIFFUSERS, by_diffusers, has_alpha, styles
from sosie.lora.lora import Loader, Lora, LoraSupport, Outcome, Variants
from sosie.lora.modules import Module, Table, fused, same
from sosie.lora.spellings import COMFY_NAMES, KOHYA_NAMES, Spelling

WIDTH, FEED, TIME, TEXT = 3840, 10240, 256, 2560
"""Widths of its tokens, of its feed-forward layers, of its time embedding, of its captions."""


def modules() -> Iterator[Module]:
    """Every linear layer of the transformer."""
    for group, count in (("layers", 30), ("noise_refiner", 2), ("context_refiner", 2)):
        for index in range(count):
            block = f"{group}.{index}"
            parts = [(f"{block}.attention.to_{letter}", (WIDTH, WIDTH)) for letter in "qkv"]
            yield from fused("denoiser", f"{block}.attention.qkv", *parts)
            yield Module("denoiser", f"{block}.attention.to_out.0", f"{block}.attention.out", (WIDTH, WIDTH))
            for name, shape in (("w1", (FEED, WIDTH)), ("w2", (WIDTH, FEED)), ("w3", (FEED, WIDTH))):
                yield same("denoiser", f"{block}.feed_forward.{name}", shape)
            if group != "context_refiner":
                yield same("denoiser", f"{block}.adaLN_modulation.0", (4 * WIDTH, TIME))
    yield Module("denoiser", "all_x_embedder.2-1", "x_embedder", (WIDTH, 64))
    final = "all_final_layer.2-1."
    yield Module("denoiser", f"{final}linear", "final_layer.linear", (64, WIDTH))
    yield Module("denoiser", f"{final}adaLN_modulation.1", "final_layer.adaLN_modulation.1", (WIDTH, TIME))
    yield same("denoiser", "cap_embedder.1", (WIDTH, TEXT))
    yield same("denoiser", "t_embedder.mlp.0", (1024, TIME))
    yield same("denoiser", "t_embedder.mlp.2", (TIME, 1024))


SPELLINGS = {
    "comfy": COMFY_NAMES,
    "split": COMFY_NAMES,
    "fused": dataclasses.replace(COMFY_NAMES, single=True),
    "kohya": KOHYA_NAMES,
    "diffusers": Spelling({"denoiser": "transformer."}, flat=False, single=False, style="lora_A", alpha="folded"),
}


def _diffusers(lora: Lora) -> Outcome:
    if {adapter.algorithm for adapter in lora.adapters} == {"lokr"}:
        return Outcome(DIFFUSERS, "unknown", (), "it has a reader for LoKr, which was not tried")
    naming = lora.layout.naming
    converted = naming == "bare" and (has_alpha(lora) or "lora_A.default" in styles(lora))
    return by_diffusers(lora, _refusal(lora), not _other_kohya(lora) and (converted or naming in _LISTENED))


_LISTENED = ("kohya", "diffusers", "comfy")


def _refusal(lora: Lora) -> str:
    naming, seen, alpha = lora.layout.naming, styles(lora), has_alpha(lora)
    if naming in ("diffusers", "onetrainer", "peft", "lycoris") or _other_kohya(lora):
        if alpha:
            return "it takes the prefix for a part of the names as soon as alpha tensors are there"
        if "lora_A.default" in seen:
            return "it takes the prefix for a part of the names when an adapter name (default) is there"
    if naming == "diffusers" and "lora_down" in seen:
        return "with this prefix it expects lora_A and lora_B"
    if lora.layout.fusion in ("fused", "mixed") and seen & {"lora_A", "lora_A.default"} and alpha:
        return "alpha of the fused q, k, v is left over"
    return ""


def _other_kohya(lora: Lora) -> bool:
    return any(adapter.prefix.text == "lora_transformer_" for adapter in lora.adapters)


KEYS = (
    *(KeyRule(prefix, since="2025-11-28") for prefix in ("diffusion_model.", "transformer.")),
    KeyRule("lycoris_", flat=True, since="2025-11-28"),
    KeyRule("", since="2026-01-11"),
)
"""ComfyUI #10978 and #11805. kohya names with split q, k, v are still not in its map (#11487)."""

LOADERS = (Loader(DIFFUSERS, _diffusers, "tried with every layout on a small Z-Image model, diffusers 0.42"),)


def variant_of(name: str) -> str:
    """Which Z-Image a model's name, path or a user's word means: `base`, `turbo`, `de-turbo`, or empty."""
    text = re.sub(r"[\s_.-]+", "", name.lower())
    if "deturbo" in text or "dedistill" in text:
        return "de-turbo"
    if "turbo" in text:
        return "turbo" if "zimage" in text or text == "turbo" else ""
    last = text.rstrip("/").rsplit("/", 1)[-1]
    return "base" if last in ("base", "zimage") or re.search(r"zimage(base|bf16|full)", last) else ""


VARIANTS = Variants(
    titles={"base": "Base", "turbo": "Turbo", "de-turbo": "De-Turbo"},
    named=variant_of,
    kin=(("turbo", "de-turbo"),),
    bare=("zimage", "z-image", "z_image"),
)
"""De-Turbo descends from Turbo. ai-toolkit writes `zimage` as the base of Turbo's LoRAs, too."""

ADAPTERS = LoraSupport(
    table=Table(modules),
    named=r"(layers|noise_refiner|context_refiner)[._]\d+[._]|all_x_embedder|cap_embedder",
    reduced=True,
    spellings=SPELLINGS,
    keys=KEYS,
    loaders=LOADERS,
    variants=VARIANTS,
    software=(("networks.lora_zimage", "musubi-tuner"),),
)
