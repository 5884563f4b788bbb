"""A Character: who is drawn, and what must be true of them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from sosie.core.schema import LATER

Likeness = Literal["fictional", "consented"]


@dataclass(frozen=True)
class Reference:
    """One reference image: its path inside the character's folder and the SHA-256 of its bytes."""

    file: str
    sha256: str


@dataclass(frozen=True)
class CharacterLora:
    """A LoRA that was trained on the character, for one family.

    `file` is its path inside the character's folder; `trained_on` names the model it was trained
    on, or is empty. `trigger` empty means the character's own. With `model` it is for that model
    alone, as its recipes name it; empty: for all models of the family.
    """

    file: str
    family: str
    sha256: str
    weight: float = 1.0
    trigger: str = ""
    trained_on: str = ""
    model: str = ""


@dataclass(frozen=True)
class Character:
    """A fictional or consenting adult, as `character.toml` describes them.

    `description` is what a prompt says of them ("a young woman, auburn braided hair");
    `trigger` is the token a character LoRA was trained on, or empty; `marks` are distinguishing
    marks that belong in every description. `recipe` is the default recipe, or empty. `cast` are the people of a
    picture of several, whose references are the character's, too; of one person it is empty.
    """

    name: str
    likeness: Likeness
    adult: bool
    description: str = ""
    trigger: str = ""
    marks: tuple[str, ...] = ()
    recipe: str = ""
    references: tuple[Reference, ...] = ()
    loras: tuple[CharacterLora, ...] = ()
    cast: tuple[Character, ...] = field(default=(), metadata=LATER)

    def lora_name(self, lora: CharacterLora) -> str:
        """The name by which a plan asks for a LoRA's file: its path inside the workspace."""
        return f"characters/{self.name}/{lora.file}"

    @property
    def prompt_description(self) -> str:
        """The description with the distinguishing marks, comma-separated."""
        return ", ".join(part for part in (self.description, *self.marks) if part)
