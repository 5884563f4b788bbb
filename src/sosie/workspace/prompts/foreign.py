r"""Syntax of other programs that no engine of Sosie draws: named, where it would be drawn as text.

What is escaped (`\(`, `\{`, ...) is text and never counts.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from sosie.core.finding import Rule

A001 = Rule("SOS-A001", "error", "A prompt has syntax that Sosie does not draw")

_NAME = r"[A-Za-z][\w-]*"


@dataclass(frozen=True)
class Syntax:
    """A syntax of another program: how it looks, what it is called there, and what to do instead."""

    pattern: re.Pattern[str]
    what: str
    hint: str


SYNTAXES = (
    Syntax(
        re.compile(
            r"<\s*(?:hypernet|hypernetwork|embed|embedding|ti|segment|object|region|clear|wildcard|random|"
            r"alternate|fromto|repeat|preset|param|setvar|var|break|trigger|video|base|refiner)\b[^<>]*>",
            re.IGNORECASE,
        ),
        "a tag of another program",
        "take it out",
    ),
    Syntax(
        re.compile(r"<\s*(?:lora|lyco|locon|loha|lokr)\s*:[^<>]*>", re.IGNORECASE),
        "a LoRA where none is read",
        "write it into the prompt itself, or into the recipe as [[stages.loras]]",
    ),
    Syntax(
        re.compile(r"(?<![\w-])embedding\s*:\s*[\w./\\-]+", re.IGNORECASE),
        "a textual inversion of ComfyUI",
        "take it out: Sosie loads no embeddings; say in words what it stands for",
    ),
    Syntax(
        re.compile(r"\bwithLora\s*\([^)]*\)?"),
        "a LoRA as InvokeAI writes it",
        "write <lora:NAME:WEIGHT>",
    ),
    Syntax(
        re.compile(r"\)\s*\.\s*(?:and|blend|swap)\s*\([^)]*\)?"),
        "a conjunction, blend or swap of InvokeAI",
        "write one prompt, or a line for each",
    ),
    Syntax(
        re.compile(r"\([^()]*\)(?:\d+(?:\.\d+)?|\.\d+|\++|-+)(?![\w)])|(?<![\w+])[A-Za-z]{2,}(?:\+{2,}|-{2,})(?!\w)"),
        "a weight as compel writes it",
        "write (words:1.2)",
    ),
    Syntax(
        re.compile(r"(?<!:)::\s*-?\d*\.?\d+|\w::\s"),
        "a weight of Midjourney's parts",
        "write (words:1.2)",
    ),
    Syntax(
        re.compile(r"(?<![\w-])[^\W\d][\w-]+\s*:\s*\d\.\d+(?!\d*\s*\))(?=\s*(?:[,;]|$))"),
        "a weight without brackets",
        "write (words:1.2)",
    ),
    Syntax(
        re.compile(r"\b(?:ADDCOL|ADDROW|ADDCOMM|ADDBASE|ADDREG)\b|\b(?:COUPLE|MASK|AREA|FILL|STYLE|SHIFT|NOISE)\s*\("),
        "a region, or a function of another program",
        "write one prompt for the whole picture",
    ),
    Syntax(
        re.compile(rf"\$\{{\s*{_NAME}[^}}]*\}}|\$\({_NAME}\)|<%|%\}}|\{{%|\{{\{{\s*{_NAME}\s*\}}\}}(?=\s*\|)"),
        "a variable or a template",
        "write out what it stands for",
    ),
    Syntax(
        re.compile(r"\{+[^{}|\"]*[^\s{}|\"][^{}|\"]*\}+"),
        "a weight in braces, or a field that nobody fills",
        "write (words:1.05), {one|other} for alternatives, or \\{ and \\} for braces that are text",
    ),
)
"""In order: the more particular first."""

_SCHEDULED = re.compile(r"\[([^\[\]]*)\]")
_STEP = re.compile(r"(?:^|:)\s*(?:\d+(?:\.\d*)?|\.\d+)\s*$")
_AND = re.compile(r"(?P<before>\S*)\s+AND(?:_[A-Z]+)?\s+(?P<after>\S*)")
_QUOTED = re.compile('"[^"]*"|\u201c[^\u201d]*\u201d')
_BREAK = re.compile(r"(?<!\w)BREAK(?!\w)")


@dataclass(frozen=True)
class Foreign:
    """A place of a prompt that would be drawn as text: the words, what they are, and what to do."""

    text: str
    what: str
    hint: str


def find_foreign(prompt: str) -> Iterator[Foreign]:
    """Each syntax of another program in a prompt of which nothing is to be chosen any more, once."""
    bare = re.sub(r"\\.", "\ufdd5", prompt)
    found = list(_scheduled(bare))
    for each in found:
        bare = bare.replace(each, " ")
    hint = "write the words that are meant, or \\[ and \\] for brackets that are text"
    for each in dict.fromkeys(found):
        kind = "words that alternate from step to step" if "|" in each else "a change of the prompt at a step"
        yield Foreign(_short(each), kind, hint)
    for syntax in SYNTAXES:
        for each in dict.fromkeys(match[0] for match in syntax.pattern.finditer(bare)):
            yield Foreign(_short(each), syntax.what, syntax.hint)
            bare = bare.replace(each, " ")
    yield from _conjunctions(bare)


def has_break(prompt: str) -> bool:
    """Whether the word BREAK parts the prompt."""
    return _BREAK.search(re.sub(r"\\BREAK", "", prompt)) is not None


def _scheduled(bare: str) -> Iterator[str]:
    """`[from:to:when]`, `[to:when]`, `[a::when]` and `[a|b]`, from the innermost out."""
    last = ""
    while last != bare:
        last = bare
        for match in _SCHEDULED.finditer(bare):
            if (":" in match[1] and _STEP.search(match[1])) or "|" in match[1]:
                yield match[0]
        bare = _SCHEDULED.sub(lambda match: match[1].replace(":", " ").replace("|", " "), bare)


def _conjunctions(bare: str) -> Iterator[Foreign]:
    """`a AND b`, but for a text in capitals or in quotes, as on a sign."""
    for match in _AND.finditer(_QUOTED.sub(" ", bare)):
        around = (match["before"].strip(",.;:!?'"), match["after"].strip(",.;:!?'"))
        if not all(word.isupper() and len(word) > 1 for word in around):
            yield Foreign("AND", "a sum of prompts", "write 'and', or put a text in quotes: \"SALT AND PEPPER\"")
            return


def _short(text: str) -> str:
    text = " ".join(text.split()).replace("\ufdd5", "\\?")
    return text if len(text) <= 80 else f"{text[:79]}\u2026"
