"""Account keys: from the environment, or from a keyring where one is installed; from nowhere else, and into no file."""

from __future__ import annotations

import importlib
import importlib.util
import os
import re
from contextlib import suppress

from sosie.core.errors import UsageError

SERVICE = "sosie"


def find_key(name: str) -> str:
    """The key of this name, or empty. The keyring is asked for it as the password of `name` at the service `sosie`."""
    key = os.environ.get(name, "").strip()
    if not key and importlib.util.find_spec("keyring") is not None:
        with suppress(Exception):  # a keyring that is locked, or none: another project's code
            key = str(importlib.import_module("keyring").get_password(SERVICE, name) or "").strip()
    if key and not re.fullmatch(r"[!-~]{8,4096}", key):
        raise UsageError(f"{name} holds spaces or characters that no key has", f"set {name} again")
    return key
