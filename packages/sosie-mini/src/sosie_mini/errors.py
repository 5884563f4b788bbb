"""What can go wrong with the embedded model."""

from __future__ import annotations


class MiniError(Exception):
    """An error for the user: `message` says what happened to which file, `hint` what to do."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
