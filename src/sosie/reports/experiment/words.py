"""The words of a report in English or French, and its numbers as each writes them."""

from __future__ import annotations

import math
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Literal

Language = Literal["en", "fr"]
LANGUAGES: tuple[Language, ...] = ("en", "fr")


@dataclass(frozen=True)
class Words:
    """Calling it gives the text of a key; `number` and its kin write numbers."""

    language: Language
    texts: Mapping[str, str]

    def __call__(self, key: str, **values: object) -> str:
        """The text of `key` with `values` in it."""
        return self.texts[key].format(**values)

    def number(self, value: float | None, digits: int = 2, signed: bool = False) -> str:
        """A number with so many digits after the point; a dash for none. French writes a comma."""
        if value is None or not math.isfinite(value):
            return "-"
        text = f"{value:+.{digits}f}" if signed else f"{value:.{digits}f}"
        text = text.replace("-", "\u2212")
        return text.replace(".", ",") if self.language == "fr" else text

    def between(self, low: float | None, high: float | None, digits: int = 2, signed: bool = False) -> str:
        """An interval; a dash where there is none."""
        if low is None or high is None:
            return "-"
        word = "à" if self.language == "fr" else "to"
        return f"{self.number(low, digits, signed)} {word} {self.number(high, digits, signed)}"

    def share(self, value: float | None) -> str:
        """A share of 1 in per cent."""
        return "-" if value is None else f"{100 * value:.0f} %"


@cache
def words_of(language: Language) -> Words:
    """The words of a language."""
    file = resources.files("sosie.reports.experiment") / f"{language}.toml"
    return Words(language, tomllib.loads(file.read_text(encoding="utf-8")))
