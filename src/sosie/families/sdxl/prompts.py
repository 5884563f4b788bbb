r"""The syntax of prompts for SDXL: weights and breaks.

Syntax, as users know it from A1111 and ComfyUI:

- `(words:1.2)` weighs words 1.2, `(words)` 1.1, `[words]` 1 / 1.1; brackets nest and multiply.
- `\(`, `\)`, `\[`, `\]`, `\:` are the characters themselves, as is a bracket without its partner.
- `BREAK`, a word of its own, starts a new chunk.

`diffusers.text` encodes them. Why no library does it: docs/decisions/0006-prompts.md.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

BRACKET = 1.1
LARGEST = 4.0

_TOKEN = re.compile(
    r"\\(?P<escaped>[()\[\]:\\])|(?P<open>[(\[])|:\s*(?P<weight>[+-]?(?:\d+\.?\d*|\.\d+))\s*\)|(?P<close>[)\]])"
    r"|(?P<cut>\bBREAK\b)|(?P<text>(?:(?!\bBREAK\b)[^\\()\[\]:])+|.)",
    re.DOTALL,
)


@dataclass(frozen=True)
class Span:
    """Words of one weight."""

    text: str
    weight: float = 1.0


@dataclass
class _Piece:
    """A stretch of the prompt while its brackets are matched. A matched bracket leaves an empty piece."""

    text: str
    weight: float = 1.0
    cuts: bool = False


def parse(prompt: str) -> tuple[tuple[Span, ...], ...]:
    """The prompt's sections between `BREAK`s, each as spans in their order; one section at least."""
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
            pieces[start].text = ""
            pieces.append(_Piece(""))
        else:
            pieces.append(_Piece(match["escaped"] or text, cuts=kind == "cut"))
    return _sections(pieces)


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


def complaint(prompt: str) -> str:
    """What is wrong with the prompt's weights, as one sentence; empty if nothing is."""
    for span in (span for section in parse(prompt) for span in section):
        if not 0 <= span.weight <= LARGEST:
            return (
                f"the prompt weighs '{span.text.strip()}' {span.weight:g}; expected 0 to {LARGEST:g} "
                "(a bracket or colon that is no weight is written \\( or \\:)"
            )
    return ""
