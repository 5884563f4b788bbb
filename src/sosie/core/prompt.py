"""The final text of a prompt: a template filled in, and the trigger words that must be in it."""

from __future__ import annotations

import re
import string
from collections.abc import Mapping, Sequence

from sosie.core.errors import ConfigError, nearest

FIELDS = ("description", "trigger", "prompt")


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


def with_trigger(text: str, triggers: Sequence[str]) -> str:
    """The text, with each trigger word that it does not hold as a word put in front."""
    missing = [word for word in triggers if not re.search(rf"(?<!\w){re.escape(word)}(?!\w)", text, re.IGNORECASE)]
    return ", ".join((*missing, text)) if text else ", ".join(missing)


def _replace(text: str, values: Mapping[str, str]) -> str:
    """Each `{name}` replaced in one pass: braces in a value stay as they are."""
    return re.sub(r"\{(\w+)\}", lambda match: values.get(match[1], match[0]), text)
