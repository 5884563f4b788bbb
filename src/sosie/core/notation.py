r"""The notation of a final prompt: weights and breaks, and how text that is no notation is written in it.

Syntax, as users know it from A1111 and ComfyUI:

- `(words:1.2)` weighs words 1.2, `(words)` 1.1, `[words]` 1 / 1.1; brackets nest and multiply.
- `\(`, `\)`, `\[`, `\]`, `\:`, `\\` and `\BREAK` are the characters themselves, as is a bracket without its partner.
- `BREAK`, a word of its own, starts a new chunk.

What comes from data (triggers, descriptions, captions) enters a prompt by `literal`, and by nothing else. A family
whose encoders weigh words takes `parse`, any other one `plain`. Why no library does it: docs/decisions/0006-prompts.md.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

BRACKET = 1.1
LARGEST = 4.0

_TOKEN = re.compile(
    r"\\(?P<escaped>[()\[\]:\\]|BREAK\b)|(?P<open>[(\[])|:\s*(?P<weight>[+-]?(?:\d+\.?\d*|\.\d+))\s*\)|(?P<close>[)\]])"
    r"|(?P<cut>\bBREAK\b)|(?P<text>(?:(?!\bBREAK\b)[^\\()\[\]:])+|.)",
    re.DOTALL,
)

_MARKS = re.compile(r"(?P<kept>\\(?:[()\[\]:\\]|BREAK\b))|[()\[\]\\]|\bBREAK\b")


@dataclass(frozen=True)
class Span:
    """Words of one weight."""

    text: str
    weight: float = 1.0


@dataclass
class _Piece:
    """A stretch of the prompt while its brackets are matched. A matched bracket leaves a piece without text.

    `mark` is a matched bracket without a number, which is text where nothing is weighed; `number`: this closes
    one that has a number.
    """

    text: str
    weight: float = 1.0
    cuts: bool = False
    mark: str = ""
    number: bool = False


def literal(text: str) -> str:
    r"""Text as it is written in the notation: its brackets and breaks are characters. What is escaped already stays."""
    return _MARKS.sub(lambda match: match[0] if match["kept"] else f"\\{match[0]}", text)


def with_literals(text: str, data: Iterable[str]) -> str:
    """The text with each occurrence of `data`, as a word, written as `literal` writes it."""
    for word in sorted({one for one in data if literal(one) != one}, key=len, reverse=True):
        loose = "".join(rf"\\?{re.escape(letter)}" if letter in "()[]\\" else re.escape(letter) for letter in word)
        text = re.sub(rf"(?<!\w)(?<!\\){loose}(?!\w)", lambda match: literal(match[0]), text, flags=re.IGNORECASE)
    return text


def parse(prompt: str) -> tuple[tuple[Span, ...], ...]:
    """The prompt's sections between `BREAK`s, each as spans in their order; one section at least."""
    return _sections(_pieces(prompt))


def plain(prompt: str) -> str:
    """The prompt's words for a family that weighs none: numbers and escapes are gone, bare brackets stay."""
    return "".join("" if piece.cuts else piece.mark or piece.text for piece in _pieces(prompt))


def has_weights(prompt: str) -> bool:
    """Whether a bracket has a number."""
    return any(piece.number for piece in _pieces(prompt))


def complaint(prompt: str) -> str:
    """What is wrong with the prompt's weights, as one sentence; empty if nothing is."""
    for span in (span for section in parse(prompt) for span in section):
        if not 0 <= span.weight <= LARGEST:
            return (
                f"the prompt weighs '{span.text.strip()}' {span.weight:g}; expected 0 to {LARGEST:g} "
                "(a bracket or colon that is no weight is written \\( or \\:)"
            )
    return ""


def _pieces(prompt: str) -> list[_Piece]:
    pieces: list[_Piece] = []
    opened: dict[str, list[int]] = {"(": [], "[": []}
    for match in _TOKEN.finditer(prompt):
        kind, text = str(match.lastgroup), match[0]
        kin = {")": "(", "]": "["}.get(text[-1], "") if kind in ("weight", "close") else ""
        if kind == "open":
            opened[text].append(len(pieces))
            pieces.append(_Piece(text))
        elif kin and opened[kin]:
            start = opened[kin].pop()
            factor = float(match["weight"]) if kind == "weight" else BRACKET if kin == "(" else 1 / BRACKET
            for piece in pieces[start:]:
                piece.weight *= factor
            bare = kind == "close"
            pieces[start].text, pieces[start].mark = "", kin if bare else ""
            pieces.append(_Piece("", mark=text if bare else "", number=not bare))
        else:
            pieces.append(_Piece(match["escaped"] or text, cuts=kind == "cut"))
    return pieces


def _sections(pieces: list[_Piece]) -> tuple[tuple[Span, ...], ...]:
    """Joins what stands together with one weight, so that words are tokenized as they were written."""
    sections: list[list[Span]] = [[]]
    joins = False
    for piece in pieces:
        if piece.cuts:
            sections.append([])
        elif joins and piece.text and sections[-1] and sections[-1][-1].weight == piece.weight:
            sections[-1][-1] = Span(sections[-1][-1].text + piece.text, piece.weight)
        elif piece.text:
            sections[-1].append(Span(piece.text, piece.weight))
        joins = bool(piece.text) and not piece.cuts
    return tuple(tuple(section) for section in sections)
