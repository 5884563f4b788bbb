"""What can go wrong, as one tree.

SosieError                      shown to the user as "error: ..." and "hint: ..."; exit code 2
├── UsageError                  a flag or an argument is wrong or missing
├── ConfigError                 a file that a person wrote says something that Sosie does not know
│   └── BadFileError            or cannot be read at all: a folder, a device, too long, no UTF-8, no TOML
├── NotFoundError               a named thing (recipe, character, model, file) does not exist
│   └── MissingPartError        a family does not have what was asked of it
├── CheckFailedError             the checks before a run found errors
├── BadImageError               a file is not an image that Sosie can use
├── BadModelError               a model file is broken, truncated or not what it claims
├── StoreError                  the workspace's store cannot be read or written
├── DeliveryError               a finished image could not be written to the output folder
├── EngineError                 an engine failed while it rendered
│   ├── LostError               a card, a process or a host that rendered is gone
│   └── NotFiniteError          the numbers of a picture became NaN or infinity
├── ProvenanceError             a manifest could not be signed or read
├── MissingExtraError           an optional part of Sosie is not installed
└── RuleError                   one with the code of a finding (`core.finding`)
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable

from sosie.core.address import conceal


class SosieError(Exception):
    """An error for the user: what happened to which thing, what was expected, what to run.

    `message` says the first two in one sentence; `hint` is a command or an action, or empty. Addresses in them lose
    what may be secret: they are often repeated as they were typed.
    """

    def __init__(self, message: str, hint: str = "") -> None:
        self.message = conceal(message)
        self.hint = conceal(hint)
        super().__init__(self.message)


class UsageError(SosieError):
    """A flag or an argument is wrong or missing."""


class ConfigError(SosieError):
    """A file that a person wrote says something that Sosie does not know."""


class BadFileError(ConfigError):
    """A file cannot be read as what is expected there: a folder, a device, too long, no UTF-8, no TOML or JSON."""


class NotFoundError(SosieError):
    """A named thing (recipe, character, model, file) does not exist."""


class MissingPartError(NotFoundError):
    """A family does not have what was asked of it: nothing that draws it, or trains it."""


class CheckFailedError(SosieError):
    """The checks before a run found errors; nothing was rendered."""


class BadImageError(SosieError):
    """A file is not an image that Sosie can use."""


class BadModelError(SosieError):
    """A model file is broken, truncated or not what it claims to be."""


class StoreError(SosieError):
    """The workspace's store cannot be read or written."""


class DeliveryError(SosieError):
    """A finished image could not be written to the output folder; the store still holds it."""


class EngineError(SosieError):
    """An engine failed while it rendered."""


class LostError(EngineError):
    """A card, a process or a host that rendered is gone; another one, or a new process, can do what it did not end."""


class NotFiniteError(EngineError):
    """The numbers of a picture became NaN or infinity."""


class ProvenanceError(SosieError):
    """A provenance manifest could not be signed or read."""


class MissingExtraError(SosieError):
    """An optional part of Sosie is not installed."""


MANY = 100
"""Names that are too many to be told; of those the likest are."""


def nearest(name: str, known: Iterable[str]) -> str:
    """`"; did you mean 'x'?"`, or the whole list if nothing is near, or nothing if it is empty."""
    names = sorted(known)
    matches = difflib.get_close_matches(name[:200], names, n=1, cutoff=0.5)
    if matches:
        return f"; did you mean '{matches[0]}'?"
    if len(names) > MANY:
        likest = difflib.get_close_matches(name, names, n=3, cutoff=0.0)
        return f"; the nearest of its {len(names):,} are {', '.join(likest)}"
    return f"; known: {', '.join(names)}" if names else ""
