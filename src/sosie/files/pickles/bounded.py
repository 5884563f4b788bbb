"""A stream that no reader can be talked into reading at length: zip directories say themselves how long they are."""

from __future__ import annotations

from collections.abc import Callable
from typing import IO


class Bounded:
    """A file on a disk of which no read asks for more than `most` bytes; a longer one raises what `refuse` makes of it.

    For `zipfile.ZipFile`, which wants `seek`, `tell`, `seekable` and `read` alone.
    """

    def __init__(self, stream: IO[bytes], most: int, refuse: Callable[[int], Exception]) -> None:
        self._stream = stream
        self._most = most
        self._refuse = refuse
        self.seek, self.tell = stream.seek, stream.tell

    def seekable(self) -> bool:
        """It is a file on a disk."""
        return True

    def read(self, size: int = -1) -> bytes:
        """As of a file, with the limit; without a size, at most `most` bytes."""
        if size > self._most:
            raise self._refuse(size)
        return self._stream.read(self._most if size < 0 else size)
