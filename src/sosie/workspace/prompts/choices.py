r"""Alternatives and wildcards of a prompt, and what a seed chooses of them.

Syntax, as in Dynamic Prompts:

- `{a|b}` is one of the two; alternatives nest, and an empty one is one too; `{3::a|b}` takes `a` three times as often.
- `{2$$a|b|c}` are two that differ, `{1-2$$ and $$a|b|c}` one or two with ` and ` between them.
- `__hair__` is a line of `wildcards/hair.txt`, `__hair/short__` of a file in a folder, `__hair*__` of several.
- `\{`, `\|`, `\}` and `\_` are the characters themselves.

Braces without a bar are text. What is chosen depends on the seed and on the words before it alone.
"""

from __future__ import annotations

import fnmatch
import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from sosie.core.errors import SosieError, nearest
from sosie.core.finding import Rule, RuleError
from sosie.core.request import Choice
from sosie.files.encodings import decode
from sosie.files.regular import read_bytes

A003 = Rule("SOS-A003", "error", "A wildcard has no list")
A004 = Rule("SOS-A004", "error", "Alternatives cannot be read")

DEEPEST = 20
"""Wildcards and alternatives within each other; more is a circle."""

LONGEST = 20_000
"""Letters that a prompt may grow to."""

SHIELDS = {"\\{": "\ufdd0", "\\}": "\ufdd1", "\\|": "\ufdd2", "\\_": "\ufdd3"}
"""An escaped character to the noncharacter that stands for it until all is chosen."""

_WILDCARD = re.compile(r"__(?P<name>[~@]?(?:[^\W_]|\*)(?:[\w\-./* ]*?(?:[^\W_]|\*))?)__(?!_)")
_COUNT = re.compile(r"(?P<low>\d{1,2})?(?P<to>-)?(?P<high>\d{1,2})?\$\$(?:(?P<between>[^|{}$]*)\$\$)?")
_WEIGHT = re.compile(r"\s*(\d{1,6}(?:\.\d{1,6})?)::")


@dataclass(frozen=True)
class Wildcards:
    """The lists of a folder: `wildcards/NAME.txt`, one choice a line, `#` before a comment."""

    folder: Path
    lists: dict[str, tuple[str, ...]] = field(default_factory=dict[str, tuple[str, ...]])

    def of(self, name: str) -> tuple[str, ...]:
        """The lines of a list, or of those that a name with `*` fits. Raises `RuleError` if there are none."""
        if name not in self.lists:
            self.lists[name] = tuple(line for path in self._paths(name) for line in _lines(path))
        if not self.lists[name]:
            raise RuleError(
                A003, f"the list of wildcard '__{name}__' is empty", f"write a choice a line into {name}.txt"
            )
        return self.lists[name]

    def _paths(self, name: str) -> list[Path]:
        there = {path.relative_to(self.folder).with_suffix("").as_posix(): path for path in self.folder.rglob("*.txt")}
        found = [there[one] for one in sorted(there) if fnmatch.fnmatchcase(one.lower(), name.lower())]
        if found:
            return found
        others = [path.name for path in self.folder.rglob(f"{name.rsplit('/', 1)[-1]}.*") if path.suffix != ".txt"]
        why = f" (of {', '.join(others)} only a .txt is read)" if others else nearest(name, there)
        raise RuleError(
            A003,
            f"wildcard '__{name}__' has no list: {self.folder / name}.txt does not exist{why}",
            f"write a choice a line into {self.folder / name}.txt, or \\_\\_ for two underscores that are text",
        )


@dataclass
class Chooser:
    """Chooses by a seed, and keeps what it chose. `words` make two prompts of one seed choose differently."""

    wildcards: Wildcards
    seed: int
    words: str
    made: list[Choice] = field(default_factory=list[Choice])
    _drawn: int = 0

    def choose(self, text: str, depth: int = 0) -> str:
        """The text without alternatives and wildcards. Raises `RuleError` for those that cannot be read."""
        if depth > DEEPEST:
            raise RuleError(A004, f"alternatives and wildcards lead in a circle, or are {DEEPEST} deep: {text[:60]}")
        done: list[str] = []
        place = 0
        while place < len(text):
            wildcard = _WILDCARD.match(text, place)
            if wildcard is not None:
                done.append(self._wildcard(wildcard, depth))
                place = wildcard.end()
            elif text[place] == "{" and (end := _partner(text, place)) is not None:
                done.append(self._group(text[place : end + 1], depth))
                place = end + 1
            else:
                done.append(text[place])
                place += 1
        whole = "".join(done)
        if len(whole) > LONGEST or self._drawn > LONGEST:
            raise RuleError(A004, f"the prompt grows to more than {LONGEST:,} letters or choices")
        return whole

    def _wildcard(self, match: re.Match[str], depth: int) -> str:
        name = match["name"].removeprefix("~")
        if name.startswith("@"):
            raise RuleError(
                A004, f"'{match[0]}' asks for one after another; expected a choice by the seed: __{name[1:]}__"
            )
        options = [_weighted(line) for line in self.wildcards.of(name)]
        text = self.choose(self._pick(options, 1)[0], depth + 1)
        self.made.append(Choice(match[0], text))
        return text

    def _group(self, whole: str, depth: int) -> str:
        inside = whole[1:-1]
        count = _COUNT.match(inside)
        options = _split(inside[count.end() :] if count else inside)
        lone = _WILDCARD.fullmatch(options[0].strip()) if len(options) == 1 else None
        if count is None and "$$" in options[0]:
            raise RuleError(A004, f"'{whole[:60]}' has a count that cannot be read; expected {{2$$a|b|c}}")
        if count is None and len(options) == 1:
            return "{" + self.choose(inside, depth + 1) + "}"
        if inside[:1] in ("@", "!") and count is None:
            message = f"'{whole[:60]}' asks for one after another, or for all; expected a choice by the seed"
            raise RuleError(A004, message, f"take the '{inside[0]}' away")
        if inside.startswith("~"):
            options[0] = options[0][1:]
        weighted = [_weighted(one) for one in (self.wildcards.of(lone["name"]) if lone else options)]
        low, high, between = _bounds(count, len(weighted), whole)
        wanted = low + (int(self._share() * (high - low + 1)) if high > low else 0)
        text = between.join(self.choose(one, depth + 1) for one in self._pick(weighted, wanted))
        self.made.append(Choice(whole, text))
        return text

    def _pick(self, options: Sequence[tuple[float, str]], count: int) -> list[str]:
        """So many that differ, each as probable as its weight; what weighs nothing is taken last."""
        left, taken = list(options), list[str]()
        for _ in range(count):
            total = sum(weight for weight, _ in left)
            mark, place = self._share() * total, 0
            while total and place < len(left) - 1 and mark >= left[place][0]:
                mark -= left[place][0]
                place += 1
            taken.append(left.pop(place)[1])
        return taken

    def _share(self) -> float:
        """The next number from 0 to below 1."""
        text = f"{self.seed}:{self._drawn}:{self.words}".encode("utf-8", "surrogatepass")
        self._drawn += 1
        return int.from_bytes(hashlib.sha256(text).digest()[:6], "big") / 2**48


def has_choices(text: str) -> bool:
    """Whether something is to be chosen."""
    groups = ((place, _partner(text, place)) for place, letter in enumerate(text) if letter == "{")
    barred = any(end is not None and re.search(r"\||\$\$", text[place:end]) for place, end in groups)
    return barred or _WILDCARD.search(text) is not None


def shield(text: str) -> str:
    """The text with what is escaped, so that nothing is chosen of it."""
    for written, stand_in in SHIELDS.items():
        text = text.replace(written, stand_in)
    return text


def unshield(text: str) -> str:
    """The text with the characters that were escaped."""
    for written, stand_in in SHIELDS.items():
        text = text.replace(stand_in, written[1:])
    return text


def unfinished(text: str) -> str:
    """An alternative that is opened and never closed; empty if there is none."""
    for place, letter in enumerate(text):
        if letter == "{" and "|" in text[place:] and _partner(text, place) is None:
            return text[place : place + 60]
    return ""


def _partner(text: str, start: int) -> int | None:
    depth = 0
    for place in range(start, len(text)):
        depth += {"{": 1, "}": -1}.get(text[place], 0)
        if depth == 0:
            return place
    return None


def _split(text: str) -> list[str]:
    """The options of a group: parted by the bars that are in no group within it."""
    parts, depth = [""], 0
    for letter in text:
        depth += {"{": 1, "}": -1}.get(letter, 0)
        if letter == "|" and depth == 0:
            parts.append("")
        else:
            parts[-1] += letter
    return parts


def _weighted(option: str) -> tuple[float, str]:
    match = _WEIGHT.match(option)
    return (float(match[1]), option[match.end() :]) if match else (1.0, option)


def _bounds(count: re.Match[str] | None, most: int, whole: str) -> tuple[int, int, str]:
    """How many are taken, at least and at most, and what stands between them."""
    if count is None:
        return 1, 1, ""
    between = ", " if count["between"] is None else count["between"]
    low = int(count["low"]) if count["low"] else 0 if count["to"] else 1
    high = int(count["high"]) if count["high"] else most if count["to"] else low
    if not 0 <= low <= high <= most:
        raise RuleError(A004, f"'{whole[:60]}' asks for {low} to {high} of {most} that differ; expected 0 to {most}")
    return low, high, between


def _lines(path: Path) -> list[str]:
    try:
        text = decode(read_bytes(path, what="the list")).text
    except ValueError as error:
        raise RuleError(A003, f"{path}: {error}") from None
    except SosieError as error:
        raise RuleError(A003, error.message, error.hint) from None
    lines = (line.strip() for line in re.split(r"\r\n|\n|\r", text))
    return [shield(line) for line in lines if line and not line.startswith("#")]
