"""The identity guides that a family takes, and why it takes no others."""

from __future__ import annotations

from dataclasses import dataclass

from sosie.files.signature import Role


@dataclass(frozen=True)
class GuideKind:
    """A kind of guide that was trained for the family, by its name in recipes.

    `role` is that of its weights' file. `encoder` is the face encoder that it was trained with and `pack` InsightFace's
    pack that brings it (empty: it looks at images); it is fed the embedding scaled to length 1, or as the encoder
    gives it if it is `raw`. One that is not `in_recipes` is known from graphs of ComfyUI alone.
    """

    name: str
    role: Role = "ip-adapter"
    encoder: str = ""
    pack: str = ""
    raw: bool = False
    in_recipes: bool = True


@dataclass(frozen=True)
class References:
    """Reference images that the model itself takes.

    Only weights with tensors that begin with `mark`, of that `variant`, know them; `node` is the class of ComfyUI's
    nodes that encodes them.
    """

    mark: str
    variant: str
    node: str


@dataclass(frozen=True)
class Guides:
    """The kinds of guide of a family. Where there are none, `none` says why (empty: not known).

    `instead` is what gives the character's face where a guide or reference images cannot.
    """

    kinds: tuple[GuideKind, ...] = ()
    none: str = ""
    instead: str = "use a LoRA of the character"
    references: References | None = None

    def kind(self, name: str) -> GuideKind | None:
        """The kind of that name, or None."""
        return next((kind for kind in self.kinds if kind.name == name), None)
