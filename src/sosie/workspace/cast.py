"""Several characters in one picture, asked for as `mira+otto`."""

from __future__ import annotations

from dataclasses import replace

from sosie.core import Character
from sosie.core.errors import UsageError
from sosie.workspace.characters import load_character
from sosie.workspace.workspace import Workspace

JOINED_BY = "+"
MOST = 4


def load_cast(workspace: Workspace, text: str) -> Character:
    """The character of that name; or those whose names `+` joins, as one that has them as its `cast`.

    Together they have the references of all, and no LoRA: two LoRAs of people mix their faces. Raises `UsageError` for
    a name that is there twice or more than four, and what `load_character` raises for each.
    """
    names = text.split(JOINED_BY)
    if len(names) == 1:
        return load_character(workspace, text)
    if len(set(names)) < len(names) or len(names) > MOST:
        raise UsageError(
            f"'{text}' names {len(names)} people; expected 2 to {MOST}, each once", "sosie generate mira+otto ..."
        )
    return together([load_character(workspace, name) for name in names])


def together(people: list[Character]) -> Character:
    """They as one, in their order."""
    cast = tuple(replace(person, loras=()) for person in people)
    told = [person.prompt_description or person.name for person in cast]
    counted = {2: "two", 3: "three", 4: "four"}[len(cast)]
    return Character(
        JOINED_BY.join(person.name for person in cast),
        "consented" if any(person.likeness == "consented" for person in cast) else "fictional",
        all(person.adult for person in cast),
        f"{counted} people: {'; '.join(told)}",
        recipe=cast[0].recipe,
        references=tuple(reference for person in cast for reference in person.references),
        cast=cast,
    )
