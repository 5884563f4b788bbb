"""What a LoRA of the toy can change."""

from __future__ import annotations

from collections.abc import Iterator

from sosie.lora import Loader, Lora, LoraSupport, Outcome, Variants
from sosie.lora.keymap import KeyRule
from sosie.lora.modules import Module, Table
from sosie.lora.spellings import COMFY_NAMES, KOHYA_NAMES


def _modules() -> Iterator[Module]:
    for index in range(2):
        for part, letter in enumerate("qkv"):
            yield Module("denoiser", f"stem.{index}.to_{letter}", f"stem.{index}.qkv", (8, 8), part)


def _toy_ui(lora: Lora) -> Outcome:
    return Outcome("ToyUI", "loads")


ADAPTERS = LoraSupport(
    table=Table(_modules),
    spellings={"comfy": COMFY_NAMES, "split": COMFY_NAMES, "kohya": KOHYA_NAMES},
    keys=(KeyRule("diffusion_model."),),
    loaders=(Loader("ToyUI", _toy_ui, "tried with a toy"),),
    variants=Variants({"base": "Toy"}, lambda name: "base"),
)
