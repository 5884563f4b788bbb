"""An account at a provider: its key, asked for when it is first needed, and the address that it is used at."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence

from sosie.core.errors import ConfigError
from sosie.pods.providers.client import Client
from sosie.pods.providers.keys import find_key
from sosie.pods.providers.pace import Interval, Pace


class Account:
    """What a provider's class begins with: `name` is the provider's, `URL` where it is, unless NAME_URL says another.

    The key is that in NAME_API_KEY, or of that name in a keyring. `intervals` are those that the provider publishes.
    """

    name: str
    URL: str
    intervals: Sequence[Interval] = ()

    def __init__(self, client: Client | None = None, sleep: Callable[[float], None] = time.sleep) -> None:
        self._given = client
        self._sleep = sleep

    @property
    def is_set_up(self) -> bool:
        """Whether there is a key to ask with."""
        return self._given is not None or bool(find_key(self._key_name))

    @property
    def client(self) -> Client:
        """Sends the requests. Raises `ConfigError` without a key."""
        if self._given is None:
            name = self._key_name
            key = find_key(name)
            if not key:
                hint = f"export {name}=... (or put it into a keyring: keyring set sosie {name})"
                raise ConfigError(f"there is no {name} in the environment or a keyring", hint)
            self._given = Client(self.name, self.address, key, self._sleep, Pace(self.intervals, self._sleep))
        return self._given

    @property
    def address(self) -> str:
        """Where the provider's interface is."""
        return os.environ.get(f"{self.name.upper()}_URL", "").strip() or self.URL

    @property
    def _key_name(self) -> str:
        return f"{self.name.upper()}_API_KEY"
