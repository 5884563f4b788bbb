"""A link to one server: requests, a websocket that is opened again when it breaks, and patience with both."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import TypeVar

from sosie.engines.comfy.client import Client
from sosie.engines.comfy.errors import ComfyError, LostError, StoppedError
from sosie.engines.comfy.events import Event, EventStream, open_stream
from sosie.engines.comfy.server import Limits, Patience, Server

T = TypeVar("T")

SOCKET_PAUSE = 30.0
"""Seconds before a websocket is tried again where none was to be had."""

GLANCE = 0.25
"""Seconds between two looks at whether anybody still waits."""


class ServerLink:
    """One server. Used by one thread, but for `stop`, which ends all waiting with a `StoppedError`, and `trouble`."""

    def __init__(self, server: Server, limits: Limits | None = None, patience: Patience | None = None) -> None:
        self.server = server
        self.limits = limits or Limits()
        self.patience = patience or Patience()
        self.client = Client(server, self.limits, self.patience)
        self.breaks = 0
        """How often a line broke: a prompt that is gone after a break was lost, and else removed by someone."""
        self.trouble: LostError | None = None
        """Why the server has not been reached for `patience.away` seconds; None while it is, or was a moment ago."""
        self._stop = threading.Event()
        self._stream: EventStream | None = None
        self._socket_again = 0.0

    def stop(self) -> None:
        """Ends whatever waits here, from another thread."""
        self._stop.set()

    def resume(self) -> None:
        """Makes waiting possible again after a `stop`."""
        self._stop.clear()

    def close(self) -> None:
        """Ends both connections."""
        self._drop()
        self.client.close()

    @property
    def client_id(self) -> str:
        """The id to send a prompt with; empty without a websocket. Opens one if there is none."""
        if self._stream is None and time.monotonic() >= self._socket_again:
            self._stream = open_stream(self.server, self.limits, self.patience)
            if self._stream is None:
                self._socket_again = time.monotonic() + SOCKET_PAUSE
        return self._stream.client_id if self._stream else ""

    @property
    def has_socket(self) -> bool:
        """Whether events come."""
        return self._stream is not None

    def event(self, timeout: float) -> Event | None:
        """The next event, or None after `timeout` seconds, or when the websocket broke just now."""
        if self._stream is None:
            self.sleep(timeout)
            return None
        until = time.monotonic() + timeout
        try:
            while (left := until - time.monotonic()) > 0:
                self.check_wanted()
                event = self._stream.next(min(left, GLANCE))
                if event is not None:
                    return event
        except ComfyError:
            # A broken line, or nonsense on it: the prompt is followed by asking.
            self.breaks += 1
            self._drop()
        return None

    def patiently(self, ask: Callable[[], T]) -> T:
        """What `ask` returns, tried again for `patience.gone` seconds while the server cannot be reached."""
        started, pause = time.monotonic(), min(0.1, self.patience.poll)
        try:
            while True:
                self.check_wanted()
                try:
                    return ask()
                except LostError as error:
                    self.breaks += 1
                    spent = time.monotonic() - started
                    if spent + pause > self.patience.gone:
                        raise
                    self.trouble = error if spent >= self.patience.away else None
                    self.sleep(pause)
                    pause = min(2 * pause, self.patience.poll * 2)
        finally:
            self.trouble = None

    def sleep(self, seconds: float) -> None:
        """Waits; raises `StoppedError` as soon as no one waits for the outcome."""
        if self._stop.wait(seconds):
            raise StoppedError

    def check_wanted(self) -> None:
        """Raises `StoppedError` if no one waits for the outcome."""
        if self._stop.is_set():
            raise StoppedError

    def _drop(self) -> None:
        if self._stream is not None:
            self._stream.close()
            self._stream = None
