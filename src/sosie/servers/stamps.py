"""What was known of servers' files when they were last used, kept in a file of the workspace."""

from __future__ import annotations

import threading
from collections.abc import Iterator, MutableMapping
from contextlib import suppress
from pathlib import Path

from sosie.core.errors import SosieError
from sosie.files.foreign import parse_object
from sosie.files.lock import HeldError, held
from sosie.files.regular import read_bytes
from sosie.files.whole import make_folder, write_json

MAX_STAMPS = 1_000_000

PATIENCE = 5.0
"""Seconds to wait for another process that writes stamps, which takes milliseconds."""


class Stamps(MutableMapping[str, str]):
    """What was known of servers' files when they were last used, kept in a file of the workspace.

    Each change is written at once, so that a run that is killed leaves no old word of what its server has loaded;
    what other processes have written meanwhile stays. A file that cannot be written costs one look more.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._known = self._read()

    def __getitem__(self, key: str) -> str:
        return self._known[key]

    def __setitem__(self, key: str, stamp: str) -> None:
        with self._lock:
            if self._known.get(key) != stamp:
                self._change(key, stamp)
                self._known[key] = stamp

    def __delitem__(self, key: str) -> None:
        with self._lock:
            del self._known[key]
            self._change(key, None)

    def __iter__(self) -> Iterator[str]:
        return iter(list(self._known))

    def __len__(self) -> int:
        return len(self._known)

    def _change(self, key: str, stamp: str | None) -> None:
        with suppress(OSError, HeldError):
            make_folder(self._path.parent)
            with held(self._path.with_suffix(".lock"), PATIENCE):
                stamps = {**self._read(), key: stamp}
                write_json(self._path, {name: one for name, one in stamps.items() if one is not None}, sort_keys=True)

    def _read(self) -> dict[str, str]:
        try:
            found = parse_object(read_bytes(self._path, MAX_STAMPS)) or {}
        except SosieError:
            return {}
        return {key: str(value) for key, value in found.items()}
