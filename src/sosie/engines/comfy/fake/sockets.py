"""The server's side of a websocket (RFC 6455): enough to push frames and to read what a client says."""

from __future__ import annotations

import base64
import hashlib
import socket
import struct
import threading
from typing import BinaryIO

_MAGIC = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
TEXT, BINARY, CLOSE, PING, PONG = 1, 2, 8, 9, 10


def accept_key(key: str) -> str:
    """What the server answers to a client's `Sec-WebSocket-Key`."""
    return base64.b64encode(hashlib.sha1(key.encode() + _MAGIC, usedforsecurity=False).digest()).decode()


class ServerSocket:
    """One open websocket. `send` may be called from any thread."""

    def __init__(self, line: socket.socket, stream: BinaryIO) -> None:
        self._line = line
        self._stream = stream
        self._lock = threading.Lock()
        self.has_metadata = False
        """Whether the client's first message asked for previews with metadata."""

    def send(self, data: str | bytes) -> None:
        """One frame; a client that is gone is ignored."""
        kind, payload = (TEXT, data.encode()) if isinstance(data, str) else (BINARY, data)
        self._frame(kind, payload)

    def receive(self) -> str | None:
        """The next text message, or None when the client is gone. Answers pings."""
        while True:
            try:
                first, second = self._exactly(2)
                size = second & 127
                if size == 126:
                    (size,) = struct.unpack(">H", self._exactly(2))
                elif size == 127:
                    (size,) = struct.unpack(">Q", self._exactly(8))
                mask = self._exactly(4)
                data = bytes(byte ^ mask[i % 4] for i, byte in enumerate(self._exactly(size)))
            except (OSError, ValueError):
                return None
            kind = first & 15
            if kind == TEXT:
                return data.decode("utf-8", "replace")
            if kind == CLOSE:
                self._frame(CLOSE, data)
                return None
            if kind == PING:
                self._frame(PONG, data)

    def cut(self) -> None:
        """Breaks the line, without a word."""
        try:
            self._line.shutdown(socket.SHUT_RDWR)
        except OSError:
            return

    def _frame(self, kind: int, payload: bytes) -> None:
        size = len(payload)
        if size < 126:
            head = struct.pack(">BB", 128 | kind, size)
        elif size < 65536:
            head = struct.pack(">BBH", 128 | kind, 126, size)
        else:
            head = struct.pack(">BBQ", 128 | kind, 127, size)
        try:
            with self._lock:
                self._line.sendall(head + payload)
        except OSError:
            return

    def _exactly(self, count: int) -> bytes:
        data = self._stream.read(count)
        if len(data) < count:
            raise OSError("the client is gone")
        return data
