"""LoRAs that a prompt names: `<lora:NAME:WEIGHT>`, as A1111, Forge, SD.Next, SwarmUI and ComfyUI's packs write it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from sosie.core import AskedLora, Character, Recipe
from sosie.core.errors import NotFoundError, SosieError, nearest
from sosie.core.finding import Rule, RuleError
from sosie.core.recipe import CHARACTER_LORA
from sosie.families import families
from sosie.lora import read_lora
from sosie.workspace.library import Library

A002 = Rule("SOS-A002", "error", "A prompt's LoRA cannot be used")

STRONGEST = 4.0

_TAG = re.compile(r"<\s*(?:lora|lyco|locon|loha|lokr)\s*:([^<>]*)>", re.IGNORECASE)
_OPEN = re.compile(r"<\s*(?:lora|lyco|locon|loha|lokr)\s*:[^<>]{0,60}", re.IGNORECASE)
_NUMBER = re.compile(r"[+-]?(?:\d{1,4}(?:\.\d{0,6})?|\.\d{1,6})")
_ENDING = re.compile(r"\.(?:safetensors|sft|ckpt|pt|pth|bin)$", re.IGNORECASE)


@dataclass(frozen=True)
class Loras:
    """Where the LoRAs of prompts are looked for: the character's, the recipe's, and the library's.

    With `remote` the engine's servers have files of their own: a LoRA that is not here may be there.
    """

    character: Character
    recipe: Recipe
    library: Library
    remote: bool = False
    known: dict[str, AskedLora] = field(default_factory=dict[str, AskedLora])

    def take(self, prompt: str) -> tuple[str, tuple[AskedLora, ...]]:
        """The prompt without its tags, and what they ask for. Raises `RuleError` (SOS-A002)."""
        found = tuple(self._asked(match) for match in _TAG.finditer(prompt))
        files = [lora.file for lora in found]
        if twice := next((file for file in files if files.count(file) > 1), ""):
            raise RuleError(A002, f"LoRA '{_stem(twice)}' is asked for twice", "name it once, with one weight")
        rest = _TAG.sub(" ", prompt) if found else prompt
        if left := _OPEN.search(rest):
            raise RuleError(A002, f"'{left[0]}' has no end; expected <lora:NAME:WEIGHT>", "close it by >")
        return (_tidy(rest) if found else rest), tuple(lora for lora in found if lora.weight)

    def _asked(self, match: re.Match[str]) -> AskedLora:
        name, *weights = (part.strip() for part in match[1].split(":"))
        if not name:
            raise RuleError(A002, f"'{match[0]}' names no LoRA; expected <lora:NAME:WEIGHT>", "sosie model list")
        lora = self.known.get(name) or self._find(name, match[0])
        self.known[name] = lora
        return AskedLora(lora.file, lora.family, _weight(weights, match[0]), lora.trigger)

    def _find(self, name: str, tag: str) -> AskedLora:
        stem = _stem(name)
        for own in (*self._of_character(), *self._of_recipe()):
            if _stem(own.file) == stem:
                return own
        try:
            path, _ = self.library.asset(re.split(r"[/\\]", name)[-1])
            lora = read_lora(path, families())
        except NotFoundError:
            if self.remote:
                return AskedLora(name if _ENDING.search(name) else f"{name}.safetensors", self._drawn[0])
            known = {_stem(one.file) for one in (*self._of_character(), *self._of_recipe())}
            near = nearest(name, known | set(self.library.installed()))
            raise RuleError(
                A002,
                f"LoRA '{name}' of {tag} was not found{near if 'did you mean' in near else ''}",
                "put its file into models/ (or a folder of model_folders in sosie.toml), or take the tag out",
            ) from None
        except SosieError as error:
            raise RuleError(A002, f"'{name}' of {tag} cannot be used: {error.message}", error.hint) from None
        family = lora.family or self._drawn[0]
        if family not in self._drawn:
            drawn = " and ".join(self._drawn)
            message = f"LoRA '{name}' of {tag} is for {family}; recipe '{self.recipe.name}' draws with {drawn}"
            raise RuleError(A002, message, "take the tag out, or choose a recipe of its family: sosie recipe list")
        return AskedLora(re.split(r"[/\\]", name)[-1], family)

    @property
    def _drawn(self) -> tuple[str, ...]:
        """The families that draw."""
        kinds = (stage.family for stage in self.recipe.stages if stage.kind != "upscale")
        return tuple(dict.fromkeys(kinds)) or ("",)

    def _of_character(self) -> Iterator[AskedLora]:
        for own in self.character.loras:
            trigger = own.trigger or self.character.trigger
            yield AskedLora(self.character.lora_name(own), own.family, own.weight, trigger)

    def _of_recipe(self) -> Iterator[AskedLora]:
        for stage in (*self.recipe.stages, *self.recipe.repair):
            for use in stage.loras:
                if use.file != CHARACTER_LORA:
                    yield AskedLora(use.file, stage.family, use.weight, use.trigger)


def _weight(given: list[str], tag: str) -> float:
    """One number, or several that are the same. Raises `RuleError`."""
    numbers = [part.split("=", 1)[-1].strip() for part in given if part]
    names = [part.split("=", 1)[0].strip().lower() for part in given if "=" in part]
    plain = all(_NUMBER.fullmatch(number) for number in numbers) and set(names) <= {"te", "unet"}
    if not plain or len(set(numbers)) > 1 or len(numbers) > 2:
        message = f"'{tag}' gives blocks or parts weights of their own; expected one weight for all of it"
        raise RuleError(A002, message, "write <lora:NAME:WEIGHT>")
    weight = float(numbers[0]) if numbers else 1.0
    if not -STRONGEST <= weight <= STRONGEST:
        raise RuleError(A002, f"'{tag}' has the weight {weight:g}; expected -{STRONGEST:g} to {STRONGEST:g}")
    return weight


def _stem(name: str) -> str:
    return _ENDING.sub("", re.split(r"[/\\:]", name)[-1]).lower()


def _tidy(text: str) -> str:
    """The text without the commas and spaces that a tag leaves."""
    text = re.sub(r"[ \t]{2,}", " ", text)
    return re.sub(r"(?:\s*,){2,}", ",", text).strip(" ,\t")
