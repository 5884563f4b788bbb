"""The licences of all parts of a recipe in one line, and whether images made with it may be sold."""

from __future__ import annotations

from collections.abc import Iterator

from sosie.core import Finding, Recipe, RecipeFile
from sosie.core.finding import Rule
from sosie.core.recipe import Commercial
from sosie.workspace.bill import Bill, Resolved

R040 = Rule("SOS-R040", "info", "Whether images of a recipe may be sold")
R041 = Rule("SOS-R041", "error", "A recipe for sale has a part that forbids it")

FREE = ("CC0-1.0", "Apache-2.0", "MIT", "BSD-3-Clause", "CC-BY-4.0")
"""Licences of packages that leave what is made with them to their users."""

OWN = "characters/"
"""A character's own LoRAs are their user's."""

ANSWERS: dict[Commercial, str] = {
    "yes": "images may be sold",
    "ask": "whether images may be sold is not clear",
    "no": "images may not be sold",
}


def check_licences(recipe: Recipe, bill: Bill) -> list[Finding]:
    """SOS-R040, one line: the answer of the strictest part, then every licence with the parts that have it.

    SOS-R041 for each part of a recipe that is marked for sale whose terms forbid it.

    The recipe's own word counts, then what was noted when a file was fetched, then the licence of the package.
    """
    terms = [_terms(recipe, entry) for entry in bill if not entry.name.startswith(OWN)]
    if not terms:
        return []
    said = {entry.commercial for entry in terms}
    answer: Commercial = "no" if "no" in said else "ask" if "ask" in said else "yes"
    parts = [
        f"{entry.licence} ({', '.join(other.name for other in terms if other.licence == entry.licence)})"
        for entry in {entry.licence: entry for entry in terms}.values()
    ]
    blocking = ", ".join(entry.name for entry in terms if entry.commercial == answer)
    why = "" if answer == "yes" else f" because of {blocking}"
    hint = "" if answer == "yes" else "these are the publishers' words as noted in the recipe; read their licences"
    message = f"{ANSWERS[answer]}{why}; licences: {'; '.join(parts)}"
    return [R040.at(recipe.name, message, hint), *_forbidden(recipe, terms)]


def _forbidden(recipe: Recipe, terms: list[RecipeFile]) -> Iterator[Finding]:
    for entry in terms:
        if recipe.for_sale and entry.commercial == "no":
            message = f"recipe '{recipe.name}' is marked for_sale, and '{entry.name}' is under {entry.licence}"
            yield R041.at(recipe.name, message, "take another file in its place, or for_sale = true out of the recipe")


def _terms(recipe: Recipe, entry: Resolved) -> RecipeFile:
    """The part with the terms under which it is used."""
    for given in (recipe.source_of(entry.name), entry.origin):
        if given is not None and given.licence:
            return RecipeFile(entry.name, licence=given.licence, commercial=given.commercial)
    licence = entry.installed.licence if entry.installed else ""
    return RecipeFile(entry.name, licence=licence or "not stated", commercial="yes" if licence in FREE else "ask")
