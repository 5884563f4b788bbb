"""The final text of a prompt: a template filled in, and the trigger words that must be in it."""

from __future__ import annotations

import re
import string
from collections.abc import Mapping, Sequence

from sosie.core.character import Character
from sosie.core.errors import ConfigError, nearest
from sosie.core.notation import literal, with_literals

FIELDS = ("description", "face", "trigger", "prompt")


def fill(template: str, values: Mapping[str, str]) -> str:
    """The template's text; a comma-separated part whose fields are all empty is dropped.

    `values` has a text for each of `FIELDS`. Raises `ConfigError` for another field.
    """
    parts: list[str] = []
    for part in template.split(","):
        try:
            names = [name for _, name, _, _ in string.Formatter().parse(part) if name is not None]
        except ValueError as error:
            raise ConfigError(f"prompt template {template!r}: {error}") from None
        for name in names:
            if name not in values:
                raise ConfigError(f"prompt template {template!r}: unknown field '{name}'{nearest(name, values)}")
        if names and not any(values[name] for name in names):
            continue
        parts.append(_replace(part, values).strip())
    return ", ".join(part for part in parts if part)


def final(template: str, character: Character, prompt: str, triggers: Sequence[str]) -> str:
    """The final prompt: the template filled, in `core.notation`, with the triggers in front that it does not hold.

    `{face}` is the description without its hair. Triggers and description are data, so their brackets are characters;
    `prompt` is in the notation already.
    """
    words = [literal(trigger) for trigger in triggers]
    values = {
        "description": literal(character.prompt_description),
        "face": literal(without_hair(character.prompt_description)),
        "trigger": ", ".join(words),
        "prompt": with_literals(prompt.strip(), [*triggers, character.trigger]),
    }
    return with_trigger(fill(template, values), words)


def without_hair(description: str) -> str:
    """The parts of a description, by its commas, that do not speak of hair: what a face pass has to draw."""
    parts = (part.strip() for part in description.split(","))
    return ", ".join(part for part in parts if part and not re.search(r"\bhair(ed|style)?\b", part, re.IGNORECASE))


def with_trigger(text: str, triggers: Sequence[str]) -> str:
    """The text, with each trigger word that it does not hold as a word put in front."""
    missing = [word for word in triggers if not re.search(rf"(?<!\w){re.escape(word)}(?!\w)", text, re.IGNORECASE)]
    return ", ".join((*missing, text)) if text else ", ".join(missing)


def _replace(text: str, values: Mapping[str, str]) -> str:
    """Each `{name}` replaced in one pass: braces in a value stay as they are."""
    return re.sub(r"\{(\w+)\}", lambda match: values.get(match[1], match[0]), text)
