"""What the library says in English, in French beside it: found by its template or its code when it is shown.

The store, the command line and programs keep the English words; old jobs and verdicts are in French, too.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from importlib import resources
from typing import Any, cast

from starlette.responses import JSONResponse

SAID = ("what", "message", "hint", "error", "reason", "why", "struck", "basis", "note", "text")
"""The names under which an answer has a text of the library; a list of them under `LISTED`."""

LISTED = ("reasons", "deviations", "problems")

LONGEST = 2000
"""Letters of a text that is looked for; longer ones are left in English."""

MOST_VALUES = 8

_HOLE = re.compile(r"\{(\d+)(:t)?\}")
_NUMBER = r"\d(?:[\d.,]*\d)?"
_UNIT = r"(?: ?(?:GB|GiB|MB|kB|%|px|s|h)\b)?"
_VALUE = re.compile(rf"'([^'\n]{{1,120}})'|(?<![\w.,/-])({_NUMBER}(?: of {_NUMBER})?{_UNIT})(?![\w/-])")
_COMMANDS = ("sosie ", "pip install ")


@dataclass(frozen=True)
class Template:
    """A text with values in it: the pieces around them, and the same in French, where `{0}` is the first value."""

    pieces: tuple[str, ...]
    french: str

    def values(self, text: str) -> list[str] | None:
        """What stands in the places of a text that is of this template, each as short as it can be; else None."""
        if len(self.pieces) == 1:
            return [] if text == self.pieces[0] else None
        first, *between, last = self.pieces
        if not text.startswith(first) or not text.endswith(last) or len(text) < len(first) + len(last):
            return None
        found: list[str] = []
        start, end = len(first), len(text) - len(last)
        for piece in between:
            place = text.find(piece, start, end) if piece else start
            if place < 0:
                return None
            found.append(text[start:place])
            start = place + len(piece)
        return [*found, text[start:end]]


def beside(table: Any) -> Any:
    """An answer with `fr` beside every text of the library that has one in French, at any depth."""
    if isinstance(table, Mapping):
        known = cast("Mapping[str, Any]", table)
        french = _of_error(known) if "error" in known else _of_texts(known)
        french = _of_finding(known) if "code" in known and "severity" in known else french
        shown = {key: beside(value) for key, value in known.items()}
        return {**shown, "fr": french} if french else shown
    if isinstance(table, list | tuple):
        return [beside(value) for value in cast("Sequence[Any]", table)]
    return table


class Spoken(JSONResponse):
    """An answer as JSON, with the French words beside the English ones."""

    def render(self, content: Any) -> bytes:
        """The bytes that are sent."""
        return super().render(beside(content))


@lru_cache(4096)
def in_french(text: str) -> str:
    """A text of the library in French; empty where it has none. Parts between semicolons and colons have their own."""
    if not text or len(text) > LONGEST:
        return ""
    for template in _templates():
        values = template.values(text)
        if values is not None and (template.pieces[0] or ": " not in values[0]):
            return _filled(template.french, values)
    for mark, french in (("; ", " ; "), (": ", " : ")):
        if mark in text:
            parts = text.split(mark) if mark == "; " else text.split(mark, 1)
            told = [in_french(part) for part in parts]
            if told[-1] and (mark == ": " or all(told)):
                return french.join(one or part for one, part in zip(told, parts, strict=True))
    return ""


def _filled(french: str, values: Sequence[str]) -> str:
    def value(hole: re.Match[str]) -> str:
        text = values[int(hole[1])]
        return (in_french(text) or text) if hole[2] else text

    return _HOLE.sub(value, french)


def _of_texts(table: Mapping[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key in SAID:
        if isinstance(text := table.get(key), str) and (french := in_french(text)):
            found[key] = french
    for key in LISTED:
        if isinstance(texts := table.get(key), list | tuple) and texts:
            found[key] = [in_french(one) or one for one in cast("Sequence[str]", texts)]
    if isinstance(absent := table.get("absent"), Mapping):
        found["absent"] = {name: in_french(why) or why for name, why in cast("Mapping[str, str]", absent).items()}
    return found


def _of_error(error: Mapping[str, Any]) -> dict[str, Any]:
    """By its own words where they are known; else by its code, if it has one."""
    found = _of_texts(error)
    if "error" not in found and (coded := _of_finding({**error, "message": error["error"]})):
        return {**found, "error": coded["message"], "hint": coded["hint"]}
    return found


def _of_finding(finding: Mapping[str, Any]) -> dict[str, str]:
    """By its own words where they are known; else what happened and the way out by the code, with the values."""
    known = _findings().get(str(finding.get("code", "")).removeprefix("SOS-"))
    if known is None:
        return {}
    what, way_out = known
    message, hint = str(finding.get("message", "")), str(finding.get("hint", ""))
    named = [f"« {name} »" if name else number.replace(" of ", " sur ") for name, number in _VALUE.findall(message)]
    values = ", ".join(list(dict.fromkeys(named))[:MOST_VALUES])
    parts = [part for part in re.split(r"; |, (?:or |and |then )?", hint) if part.startswith(_COMMANDS)]
    return {
        "message": in_french(message) or (f"{what} : {values}." if values else f"{what}."),
        "hint": in_french(hint) or " ".join([way_out, *([f"({'; '.join(parts)})"] if parts else [])]),
    }


@cache
def _findings() -> Mapping[str, tuple[str, str]]:
    return {code: (what, way_out) for code, (what, way_out) in _read("findings").items()}


@cache
def _templates() -> tuple[Template, ...]:
    """Every template; of those that fit a text the one with the most letters of its own comes first."""
    found = [
        Template(tuple(text.split("{}")), french)
        for section in _read("texts").values()
        for text, french in section.items()
    ]
    return tuple(sorted(found, key=lambda one: -sum(map(len, one.pieces))))


def _read(name: str) -> dict[str, Any]:
    return tomllib.loads((resources.files("sosie.studio") / "french" / f"{name}.toml").read_text(encoding="utf-8"))
