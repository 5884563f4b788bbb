"""Choices in prompts, `{day|night}`, which the editor draws when it sends a graph: a server takes them as they are.

The editor's rules (`processDynamicPrompt` of its version 1.43): comments of C are taken out, a group is one of its
parts, groups may hold groups, and a backslash takes a brace's or a bar's meaning away. The editor draws anew each time;
here the same seed gives the same prompt.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable

from sosie.core.errors import BadModelError

COMMENT = re.compile(r"/\*|//[^\n\r\u2028\u2029]*")
STEPS = {"{": 1, "}": -1}
ESCAPED = re.compile(r"\\([{}|])")

DEEPEST = 100
"""Deepest groups within groups."""

LONGEST = 20_000
"""Longest text in characters that choices are drawn in."""


def has_choices(text: str) -> bool:
    """Whether a text gives other prompts with other seeds."""
    depth = 0
    for letter in re.sub(r"\\.", "", _without_comments(text), flags=re.DOTALL):
        depth = max(0, depth + STEPS.get(letter, 0))
        if letter == "|" and depth:
            return True
    return False


def is_dynamic(text: str) -> bool:
    """Whether the editor would send another text."""
    return "{" in text or bool(ESCAPED.search(text)) or _without_comments(text) != text


def draw_prompt(text: str, seed: str) -> str:
    """The prompt that a seed draws. Raises `BadModelError` for groups in more than `DEEPEST` groups."""
    if len(text) > LONGEST:
        raise BadModelError(f"a prompt with choices has {len(text):,} characters; at most {LONGEST:,} are read")
    draws = random.Random(seed)  # noqa: S311 - a choice of words, and the same one for the same seed
    return _drawn(text, lambda options: options[int(draws.random() * len(options))], 0)


def _drawn(text: str, choose: Callable[[list[str]], str], depth: int) -> str:
    if depth > DEEPEST:
        raise BadModelError(f"a prompt has choices in more than {DEEPEST} choices")
    text = _without_comments(text)
    found: list[str] = []
    at = 0
    while at < len(text):
        if text[at] == "\\":
            found.append(text[at : at + 2])
            at += 2
        elif text[at] == "{":
            options, at = _options(text, at + 1)
            found.append(_drawn(choose(options), choose, depth + 1))
        else:
            found.append(text[at])
            at += 1
    return ESCAPED.sub(r"\1", "".join(found))


def _options(text: str, at: int) -> tuple[list[str], int]:
    """The parts of the group that begins at a place, and where it ends; one that is not closed ends with the text."""
    options: list[str] = []
    begin, depth = at, 0
    while at < len(text) and not (text[at] == "}" and not depth):
        if text[at] == "|" and not depth:
            options.append(text[begin:at])
            begin = at + 1
        depth += STEPS.get(text[at], 0)
        at += 2 if text[at] == "\\" else 1
    return [*options, text[begin:at]], min(at, len(text)) + 1


def _without_comments(text: str) -> str:
    """The text without `/* */` and `//`; a comment that is not closed is none."""
    found: list[str] = []
    begin = at = 0
    closes = True
    while match := COMMENT.search(text, at):
        at = match.end()
        if match[0] == "/*":
            end = text.find("*/", at) if closes else -1
            closes = end >= 0
            if not closes:
                at = match.start() + 1
                continue
            at = end + 2
        found.append(text[begin : match.start()])
        begin = at
    return "".join([*found, text[begin:]])
