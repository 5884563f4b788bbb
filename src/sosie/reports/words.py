"""The words of a page in English or French, and numbers as each writes them: `en.toml` and `fr.toml` of its folder."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache, cached_property
from importlib import resources
from typing import Literal

from sosie.files.toml import parse_toml

Language = Literal["en", "fr"]
LANGUAGES: tuple[Language, ...] = ("en", "fr")

SAID = "said_"
"""How keys begin whose English text is a sentence that was written down in English, with its values."""

_NUMBER = re.compile(r"(?<=\d)\.(?=\d)")


@dataclass(frozen=True)
class Words:
    """Calling it gives the text of a key; `number` and its kin write numbers.

    `recorded` are the patterns of sentences that are kept in English, by key.
    """

    language: Language
    texts: Mapping[str, str]
    english: Mapping[str, str]

    def __call__(self, key: str, **values: object) -> str:
        """The text of `key` with `values` in it."""
        return self.texts[key].format(**values)

    def said(self, sentence: str) -> str:
        """A sentence that was kept in English, in this language; one that is not known stays as it is."""
        if self.language == "en":
            return sentence
        for key, pattern in self._recorded:
            if found := pattern.fullmatch(sentence):
                values = {name: _NUMBER.sub(",", value) for name, value in found.groupdict().items()}
                return self(key, **values)
        return sentence

    @cached_property
    def _recorded(self) -> tuple[tuple[str, re.Pattern[str]], ...]:
        """The patterns of what is kept in English; a name that comes twice in one is the same both times."""
        return tuple((key, _pattern(text)) for key, text in self.english.items() if key.startswith(SAID))

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
def words_of(room: str, language: Language) -> Words:
    """The words of a language for the pages of `reports/ROOM`."""
    return Words(language, _texts(room, language), _texts(room, "en"))


@cache
def _texts(room: str, language: Language) -> dict[str, str]:
    file = resources.files(f"sosie.reports.{room}") / f"{language}.toml"
    table = parse_toml(file.read_text(encoding="utf-8"), f"{room}/{language}.toml")
    return {key: str(value) for key, value in table.items()}


def _pattern(text: str) -> re.Pattern[str]:
    seen: set[str] = set()

    def group(match: re.Match[str]) -> str:
        name = match[1]
        pattern = f"(?P={name})" if name in seen else f"(?P<{name}>.+?)"
        seen.add(name)
        return pattern

    return re.compile(re.sub(r"\\\{(\w+)\\\}", group, re.escape(text)), re.DOTALL)
