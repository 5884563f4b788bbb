"""The words of an audit in English and French: `en.toml` and `fr.toml` have the same keys and the same fields."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Literal

from sosie.files.toml import parse_toml

Language = Literal["en", "fr"]

LANGUAGES: tuple[Language, ...] = ("en", "fr")

_THIN = "\u202f"
_WIDE = "\u00a0"


@dataclass(frozen=True)
class Words:
    """The words of one language; calling it with a key gives a text."""

    language: Language
    texts: dict[str, str]

    def __call__(self, key: str, **fields: object) -> str:
        """The text of `key` with its fields filled; raises `KeyError` for one that is not there."""
        return self.texts[key].format(**fields)

    def number(self, value: float, digits: int = 2) -> str:
        """A number with so many digits at most after the point, as the language writes it."""
        text = f"{value:,.{digits}f}"
        text = text.rstrip("0").rstrip(".") if "." in text else text
        if self.language == "fr":
            text = text.replace(",", _THIN).replace(".", ",")
        return text

    def money(self, value: float) -> str:
        """US dollars."""
        text = f"{value:,.3f}"
        text = text[:-1] if text.endswith("0") else text
        return f"{text.replace(',', _THIN).replace('.', ',')}{_WIDE}$" if self.language == "fr" else f"${text}"

    def share(self, value: float, digits: int = 0) -> str:
        """A share, 0 to 1, in percent."""
        return f"{self.number(100 * value, digits)}{_WIDE}%"

    def day(self, text: str) -> str:
        """An ISO 8601 day or time as a day."""
        year, month, day = text[:10].split("-")
        return f"{int(day)} {self.texts[f'month_{int(month)}']} {year}"

    def size(self, count: int) -> str:
        """Bytes in GB or MB, and in GiB or MiB: programs show the one or the other."""
        power, names = (3, ("GB", "GiB", "Go", "Gio")) if count >= 10**9 else (2, ("MB", "MiB", "Mo", "Mio"))
        decimal, binary = names[2:] if self.language == "fr" else names[:2]
        return f"{self.number(count / 1000**power)}{_WIDE}{decimal} ({self.number(count / 1024**power)}{_WIDE}{binary})"


@cache
def words_of(language: Language) -> Words:
    """The words of a language."""
    text = (resources.files("sosie.reports.audit") / f"{language}.toml").read_text(encoding="utf-8")
    return Words(language, {key: str(value) for key, value in parse_toml(text, f"{language}.toml").items()})
