"""A line of a prompt file, as it was written."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from sosie.core.errors import ConfigError


@dataclass(frozen=True)
class PromptLine:
    """One line of a prompt file, or a prompt alone. `name` names its images; `size` is WIDTHxHEIGHT.

    What is None or empty is the command's or the recipe's. `sampler` and `schedule` are as any program spells
    them. `where` says in messages where the line stands.
    """

    prompt: str
    name: str = ""
    seed: int | None = None
    size: str = ""
    negative_prompt: str | None = None
    steps: int | None = None
    cfg: float | None = None
    sampler: str = ""
    schedule: str = ""
    where: str = field(default="the prompt", compare=False)

    @property
    def width_height(self) -> tuple[int | None, int | None]:
        """The size in pixels, or (None, None): the recipe's."""
        return parse_size(self.size) if self.size else (None, None)


def parse_size(text: str) -> tuple[int, int]:
    """`1024x1536` as (1024, 1536)."""
    match = re.fullmatch(r"(\d{2,5})\s*[xX*\u00d7]\s*(\d{2,5})", text.strip())
    if not match:
        raise ConfigError(f"size '{text}' is not WIDTHxHEIGHT, for example 1024x1536")
    return int(match[1]), int(match[2])


def whole_number(value: object) -> int | None:
    """The whole number that JSON or a spreadsheet means: 7, 7.0, "7", "7.0"; None for nothing. Raises `ValueError`."""
    if value is None or value == "":
        return None
    if isinstance(value, str):
        match = re.fullmatch(r"\s*([+-]?\d{1,19})(?:[.,]0*)?\s*", value)
        if match is None:
            raise ValueError
        return int(match[1])
    if isinstance(value, bool) or not isinstance(value, int | float) or value != int(value):
        raise ValueError
    return int(value)


def number(value: object) -> float | None:
    """The number that JSON or a spreadsheet means, a comma for a point too; None for nothing. Raises `ValueError`."""
    if value is None or value == "":
        return None
    if isinstance(value, str) and re.fullmatch(r"\s*[+-]?\d{1,9}(?:[.,]\d*)?\s*", value):
        return float(value.replace(",", "."))
    if isinstance(value, bool) or not isinstance(value, int | float) or value - value != 0:
        raise ValueError
    return float(value)
