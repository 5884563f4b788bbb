"""A command on a machine that one talks with: bytes go to its stdin, and its stdout is read, as long as it lives."""

from __future__ import annotations

import contextlib
import os
import secrets
import threading
from typing import Self

from sosie.machines.ssh.command import FAILED, STDERR, Command, end, remote_words, ssh_words, start
from sosie.machines.ssh.host import Host
from sosie.machines.ssh.trouble import failed, nonsense, plain, unreached

GREETING = 65_536
"""Bytes that a login may say before the command does."""


class Channel:
    """Open from the constructor on until `close`, or until the line breaks. One thread reads, one writes."""

    def __init__(self, host: Host, command: Command, timeout: float = 30.0) -> None:
        """Raises `SshError` if the command does not begin within `timeout` seconds."""
        self.host = host
        self._mark = f"sosie-{secrets.token_hex(8)}".encode()
        words = [*ssh_words(host), "--", host.destination, remote_words(self._mark.decode(), command)]
        self._process = start(host, words, with_input=True)
        self._err = bytearray()
        self._rest = b""
        self._listener = threading.Thread(target=self._listen, daemon=True)
        self._listener.start()
        late = threading.Timer(timeout, self._process.kill)
        late.daemon = True
        late.start()
        try:
            self._await_mark()
        except BaseException:
            self.close()
            raise
        finally:
            late.cancel()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def is_alive(self) -> bool:
        """Whether ssh still runs; what it started may hold its pipes longer."""
        return self._process.poll() is None

    def read(self, most: int) -> bytes:
        """What comes next, `most` bytes at most; nothing where it ended."""
        if self._rest:
            taken, self._rest = self._rest[:most], self._rest[most:]
            return taken
        stream = self._process.stdout
        with contextlib.suppress(OSError, ValueError):
            # Not by the stream's own methods: their lock, held while Python ends, would end it with an abort.
            return os.read(stream.fileno(), most) if stream else b""
        return b""

    def write(self, data: bytes) -> None:
        """Sends all of it. Raises `OSError` if nobody takes it."""
        stream, rest = self._process.stdin, memoryview(data)
        if stream is None or stream.closed:
            raise BrokenPipeError("the line is closed")
        while rest:
            rest = rest[os.write(stream.fileno(), rest) :]

    def said(self) -> str:
        """The end of what the command, or ssh, complained about, as one line."""
        return plain(bytes(self._err).decode("utf-8", "replace"), 400)

    def close(self) -> None:
        """Ends it: the command sees the end of its stdin. May be repeated, from any thread."""
        for stream in (self._process.stdin,):
            if stream is not None:
                with contextlib.suppress(OSError, ValueError):
                    stream.close()
        end(self._process, 0.5)
        self._listener.join(1.0)
        for stream in (self._process.stdout, self._process.stderr):
            if stream is not None:
                with contextlib.suppress(OSError, ValueError):
                    stream.close()

    def _await_mark(self) -> None:
        found = b""
        while self._mark + b"\n" not in found and len(found) < GREETING:
            piece = self.read(4096)
            if not piece:
                break
            found += piece
        _, marked, self._rest = found.partition(self._mark + b"\n")
        if marked:
            return
        end(self._process, 2.0)
        self._listener.join(1.0)
        said = bytes(self._err).decode("utf-8", "replace")
        if self._process.returncode == FAILED:
            raise failed(self.host, said)
        if not found:
            raise unreached(self.host, plain(said, 80) or "a command did not begin in time")
        raise nonsense(self.host, f"did not run a command; it answered '{plain(found.decode('utf-8', 'replace'), 80)}'")

    def _listen(self) -> None:
        stream = self._process.stderr
        with contextlib.suppress(OSError, ValueError):
            while stream and (chunk := os.read(stream.fileno(), 65_536)):
                self._err += chunk
                del self._err[:-STDERR]
