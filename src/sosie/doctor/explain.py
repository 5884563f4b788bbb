"""What `docs/findings` says of a finding's code; the titles there are those of the rules."""

from __future__ import annotations

import re
from pathlib import Path

import sosie
from sosie.core.errors import NotFoundError, nearest

PARAGRAPHS = ("cause", "proof", "cure")
"""The three parts of a section, in this order; each begins with its name: `**Cause.**`."""


_SECTION = re.compile(r"^## SOS-[A-Z]\d{3}: .*?(?=^## |\Z)", re.MULTILINE | re.DOTALL)


def sections_folder() -> Path:
    """The Markdown files, one a letter: inside the package, or beside `src/` in a checkout."""
    package = Path(sosie.__file__).parent
    inside = package / "findings"
    return inside if inside.is_dir() else package.parents[1] / "docs" / "findings"


def sections() -> dict[str, str]:
    """Code to its Markdown section, from the heading on, in the order of the codes."""
    files = sorted(sections_folder().glob("?.md"))
    found = [section for file in files for section in _SECTION.findall(file.read_text(encoding="utf-8"))]
    return {section[3:11]: section.strip() + "\n" for section in found}


def explanation(code: str) -> str:
    """The Markdown section of `code`; `NotFoundError` names the nearest code."""
    known = sections()
    if not known:
        raise NotFoundError(f"{sections_folder()} has no sections; expected one for every code", "install Sosie again")
    if code not in known:
        raise NotFoundError(f"'{code}' is no finding's code{nearest(code, known)}", "docs/findings lists them all")
    return known[code]


def title(section: str) -> str:
    """The title of a section (`explanation`)."""
    return section.partition("\n")[0].partition(": ")[2]


def paragraphs(section: str) -> dict[str, str]:
    """Cause, proof and cure of a section (`explanation`), each as one line without its name; those that are there."""
    parts = [" ".join(part.split()) for part in section.split("\n\n")]
    marks = {name: f"**{name.capitalize()}.** " for name in PARAGRAPHS}
    return {name: part.removeprefix(mark) for name, mark in marks.items() for part in parts if part.startswith(mark)}
