"""The key of a served page: made anew at every start, handed over once, never stored."""

from __future__ import annotations

import hashlib
import hmac
import secrets
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Key:
    """256 random bits. The address that is shown holds `secret`; the browser keeps two values that are made of it.

    `cookie` opens what may be read and `header` what may be written; neither tells the secret, nor the other.
    """

    secret: str = field(default_factory=lambda: secrets.token_urlsafe(32), repr=False)

    @property
    def cookie(self) -> str:
        """What the browser sends by itself."""
        return self._derived("cookie")

    @property
    def header(self) -> str:
        """What only the page itself can send."""
        return self._derived("header")

    def _derived(self, purpose: str) -> str:
        return hmac.new(self.secret.encode(), purpose.encode(), hashlib.sha256).hexdigest()


def same(given: str, expected: str) -> bool:
    """Whether two secrets are equal; it takes as long to say no as to say yes."""
    return hmac.compare_digest(given.encode("utf-8", "surrogateescape"), expected.encode())
