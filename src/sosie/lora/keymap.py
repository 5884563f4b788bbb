"""ComfyUI's map of LoRA keys, made anew: which names in a LoRA file it looks for, given a model's modules.

ComfyUI goes over the names of a loaded model's weights and writes down, for each, what a LoRA may call it; of a LoRA
file it then takes what is called so, with the endings of its `weight_adapter/`, and logs the rest as "lora key not
loaded". What is read of every model is `ANY`; a family says what is read of its models beside that, and since when.

Source: ComfyUI `comfy/lora.py`, `comfy/utils.py`, `comfy/weight_adapter/`, `comfy/lora_convert.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from types import MappingProxyType
from typing import Literal

from sosie.lora.adapters import Adapter
from sosie.lora.layouts import take_apart
from sosie.lora.modules import Component, Module, Table, underscored


@dataclass(frozen=True)
class KeyRule:
    """One spelling that ComfyUI looks for: `prefix` and then a module's name.

    The name is the single file's (`single`), diffusers' (`split`), that of diffusers up to 0.20 with its attention
    processors (`processor`), or what a function makes of the single file's; `flat` writes it with underscores.
    `since` is the day from which ComfyUI has it (empty: older than every rule that has one). `only` are ends of the
    names that it holds for (empty: all). `beside` is a tensor by which ComfyUI knows files that it renames before it
    reads them (`lora_convert.py`), and the rule holds for those alone; it then reads biases of `lora_B` too.
    """

    prefix: str
    names: Literal["single", "split", "processor"] | Callable[[str], str] = "split"
    flat: bool = False
    since: str = ""
    component: Component = "denoiser"
    only: tuple[str, ...] = ()
    beside: str = ""

    def spell(self, modules: Sequence[Module]) -> str:
        """What it calls a weight that holds these modules; empty if it has no name for it."""
        one = modules[0]
        if callable(self.names):
            name = self.names(one.single) if len(modules) > 1 or one.part is None else ""
        elif self.names == "single":
            name = one.single if len(modules) > 1 or one.part is None else ""
        else:
            name = one.name if len(modules) == 1 else ""
            name = _processor(name) if self.names == "processor" else name
        if self.only and not name.endswith(self.only):
            return ""
        return self.prefix + (underscored(name) if self.flat else name) if name else ""


def _processor(name: str) -> str:
    return name.replace(".to_", ".processor.to_").removesuffix(".0") if ".to_" in name else name


ANY = (KeyRule("lora_unet_", "single", flat=True), KeyRule("diffusion_model.", "single"))
"""What is read of the denoiser of every model."""

UNET = (
    KeyRule("lora_unet_", flat=True),
    KeyRule("lycoris_", flat=True),
    KeyRule("", "processor"),
    KeyRule("unet.", "processor"),
)
"""What is read of a UNet beside that."""

CLIP = (
    *(KeyRule(prefix, flat=True, component="text-encoder") for prefix in ("lora_te_", "lora_te1_")),
    KeyRule("text_encoder.", component="text-encoder"),
    KeyRule("lora_te2_", flat=True, component="text-encoder-2"),
    KeyRule("text_encoder_2.", component="text-encoder-2"),
)
"""What is read of CLIP-L, and of CLIP-G beside it."""

T5 = (KeyRule("lora_te3_", flat=True, component="text-encoder-3"),)
"""What is read of a T5 beside CLIP."""

ENDINGS = frozenset(
    {
        *(f".lora_{way}.weight" for way in ("up", "down", "mid")),
        *(f".lora_{letter}{tail}" for letter in "AB" for tail in (".weight", "", ".default.weight")),
        *(f"{stem}.{way}.weight" for stem in ("_lora", ".lora", ".lora_linear_layer") for way in ("up", "down")),
        *(f".hada_{name}" for name in ("w1_a", "w1_b", "w2_a", "w2_b", "t1", "t2")),
        *(f".lokr_{name}" for name in ("w1", "w1_a", "w1_b", "w2", "w2_a", "w2_b", "t2")),
        *(f".{name}.weight" for name in ("a1", "a2", "b1", "b2")),
        *(".alpha", ".dora_scale", ".reshape_weight", ".diff", ".diff_b", ".set_weight", ".w_norm", ".b_norm"),
        *(".oft_blocks", ".rescale"),
    }
)
"""Endings of the tensors that are read, behind a name of the map."""


@lru_cache(64)
def key_map(table: Table, rules: tuple[KeyRule, ...], before: str = "") -> Mapping[str, tuple[Module, ...]]:
    """Every name that is looked for, and the modules that it changes; by ComfyUI as it was on the day `before`."""
    wholes = table.wholes.values()
    parts = [(module,) for module in table.modules if module.part is not None]
    found: dict[str, tuple[Module, ...]] = {}
    for rule in rules:
        if before and rule.since >= before:
            continue
        for modules in (*wholes, *parts):
            if modules[0].component == rule.component and (name := rule.spell(modules)):
                found[name] = modules
    return MappingProxyType(found)


def dropped(adapters: Iterable[Adapter], keys: Mapping[str, tuple[Module, ...]]) -> Iterator[str]:
    """The names of the tensors that have no effect."""
    for adapter in adapters:
        if adapter.stem not in keys or adapter.odd or adapter.algorithm in ("ia3", "vera", "other"):
            yield from adapter.keys.values()
            continue
        lost = [name for name in adapter.keys.values() if name[len(adapter.stem) :] not in ENDINGS]
        # What stands beside a product that is not read has no effect either.
        yield from adapter.keys.values() if any(_matters(name) for name in lost) else lost


def _matters(name: str) -> bool:
    """True for a tensor without which nothing is done: not for magnitudes and factors beside it."""
    key = take_apart(name)
    return key is not None and key.role not in ("dora", "alpha", "up_bias", "scalar", "b_norm")
