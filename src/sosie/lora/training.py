"""What a LoRA's metadata says of its training: software, base, trigger words, rank and alpha.

Metadata is what somebody wrote; it is often absent. Keys: kohya `ss_*` and `modelspec.*`,
ai-toolkit `software` and `training_info`, OneTrainer `ot_*`, diffusers `lora_adapter_metadata`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from sosie.files.foreign import as_object, object_or_none, parse_object
from sosie.lora.modules import Component

MAX_JSON = 1_000_000
"""Longest JSON text in characters that is read from one metadata entry."""

UNKNOWN = "unknown"
PEFT_KEY = "lora_adapter_metadata"
_PEFT_PREFIXES: tuple[tuple[str, Component], ...] = (
    ("transformer", "denoiser"),
    ("unet", "denoiser"),
    ("text_encoder", "text-encoder"),
    ("text_encoder_2", "text-encoder-2"),
)


@dataclass(frozen=True)
class PeftAlpha:
    """Alpha as diffusers stores it for one component: a default, exceptions by module, and rsLoRA.

    With rsLoRA the scale is alpha / sqrt(rank) instead of alpha / rank.
    """

    default: float
    pattern: Mapping[str, float]
    rslora: bool

    def of(self, module: str) -> float:
        """Alpha of a module (diffusers' name): the exception that names it or its end, else the default."""
        for name, alpha in self.pattern.items():
            if module == name or module.endswith("." + name):
                return alpha
        return self.default


@dataclass(frozen=True)
class TrainingMetadata:
    """What metadata says; empty texts and None where it says nothing.

    `rank` and `alpha` are as stated (`ss_network_dim`, `ss_network_alpha`), not as stored.
    `peft` is alpha by component, as diffusers stores it.
    """

    software: str
    base: str
    triggers: tuple[str, ...]
    steps: int | None
    images: int | None
    rank: float | None
    alpha: float | None
    peft: Mapping[Component, PeftAlpha]


def read_training(
    metadata: Mapping[str, str],
    said: str = "",
    bare: Sequence[str] = (),
    software: Sequence[tuple[str, str]] = (),
) -> TrainingMetadata:
    """Reads metadata; `said` is the base that the user names, and it wins. Never raises.

    `bare` and `software` are the family's (see `LoraSupport`): names of a base that tell nothing, and who writes
    which `ss_network_module`.
    """
    info = _json(metadata.get("training_info", ""))
    return TrainingMetadata(
        software=_software(metadata, software),
        base=said or _base(metadata, bare) or UNKNOWN,
        triggers=_triggers(metadata),
        steps=_whole(metadata.get("ss_steps", info.get("step"))),
        images=_whole(metadata.get("ss_num_train_images")),
        rank=_number(metadata.get("ss_network_dim")),
        alpha=_number(metadata.get("ss_network_alpha")),
        peft=MappingProxyType(_peft(_json(metadata.get(PEFT_KEY, "")))),
    )


def plain(text: str, longest: int = 80) -> str:
    """Text from a file, fit to be shown: no control characters, at most `longest` characters."""
    if len(text) <= longest and text.isprintable() and " " not in text:
        return text
    shown = "".join(character if character.isprintable() else " " for character in text[: 4 * longest])
    return " ".join(shown.split())[:longest]


_BASE_KEYS = ("ss_sd_model_name", "base_model_name", "ss_base_model_version", "modelspec.architecture")


def base_words(metadata: Mapping[str, str]) -> str:
    """All that the metadata say of the base, in one text."""
    return " ".join(plain(metadata.get(key, "")) for key in (*_BASE_KEYS, "ss_network_module"))


def _base(metadata: Mapping[str, str], bare: Sequence[str]) -> str:
    """The base's name; a bare family name (ai-toolkit writes it for every variant) tells nothing."""
    for key in _BASE_KEYS:
        name = plain(metadata.get(key, ""))
        if name and name.lower() not in ("none", *bare):
            return name
    return ""


def _software(metadata: Mapping[str, str], writers: Sequence[tuple[str, str]]) -> str:
    software = _json(metadata.get("software", "")).get("name")
    if isinstance(software, str) and software:
        return plain(software)
    if any(key.startswith("ot_") for key in metadata):
        return "OneTrainer"
    if PEFT_KEY in metadata:
        return "diffusers"
    module = metadata.get("ss_network_module", "")
    known = (("lycoris", "LyCORIS"), *writers, ("networks.", "sd-scripts"))
    return next((name for start, name in known if start in module), plain(module))


def _triggers(metadata: Mapping[str, str]) -> tuple[str, ...]:
    """Trigger words: as written, or the captions' tags that (almost) every training image has."""
    for key in ("modelspec.trigger_phrase", "trigger_word", "ss_trigger_words"):
        if words := plain(metadata.get(key, "")):
            return tuple(filter(None, (word.strip() for word in words.split(","))))
    found: dict[str, None] = {}
    for tags in _json(metadata.get("ss_tag_frequency", "")).values():
        counts = {
            tag: count
            for tag, count in as_object(tags).items()
            if isinstance(count, int) and not isinstance(count, bool) and count > 0
        }
        most = max(counts.values(), default=0)
        common = [plain(tag) for tag, count in counts.items() if most > 1 and count * 10 >= most * 9]
        found.update(dict.fromkeys(filter(None, common[:3])))
    return tuple(found)[:6]


def _peft(table: dict[str, Any]) -> dict[Component, PeftAlpha]:
    found: dict[Component, PeftAlpha] = {}
    for prefix, component in _PEFT_PREFIXES:
        default = _number(table.get(f"{prefix}.lora_alpha"))
        pattern = object_or_none(table.get(f"{prefix}.alpha_pattern") or {})
        if default is None or pattern is None:
            continue
        exceptions = {
            name.removeprefix("^"): alpha for name, value in pattern.items() if (alpha := _number(value)) is not None
        }
        found[component] = PeftAlpha(default, MappingProxyType(exceptions), table.get(f"{prefix}.use_rslora") is True)
    return found


def _json(text: str) -> dict[str, Any]:
    """A JSON object from metadata, or an empty one if it is something else, too long or too deep."""
    return parse_object(text, MAX_JSON) or {}


def _number(value: Any) -> float | None:
    """A finite number from JSON or text (at most 40 characters), or None."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        number = float(value[:40] if isinstance(value, str) else value)
    except (ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None


def _whole(value: Any) -> int | None:
    number = _number(value)
    return int(number) if number is not None and 0 <= number < 1e12 else None
