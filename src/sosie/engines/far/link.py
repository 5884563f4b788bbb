"""The line to an attendant: whatever breaks it, what was asked and not answered is asked again when it is back."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable
from contextlib import suppress

from sosie import __version__
from sosie.core.errors import LostError
from sosie.engines.far.frames import Frame, Frames, packed
from sosie.machines.ssh import SshError
from sosie.machines.ssh.channel import Channel
from sosie.machines.ssh.steady import Patience

IN_VAIN = 12
"""So many lines in a row that bring nothing are borne."""


class Link:
    """One thread uses it. `open_channel` begins the attendant; nothing is opened before it is needed."""

    def __init__(self, name: str, open_channel: Callable[[], Channel], patience: Patience) -> None:
        self._name = name
        self._open_channel = open_channel
        self._patience = patience
        self._asked: dict[str, bytes] = {}
        self._channel: Channel | None = None
        self._frames: queue.SimpleQueue[Frame | str] = queue.SimpleQueue()
        self._heard = time.monotonic()
        self._pause = patience.first
        self._in_vain = 0
        self.breaks = 0
        """How often an open line broke."""

    def ask(self, plan_id: str, frame: bytes) -> None:
        """Asks for a plan; `next` gives what becomes of it."""
        if not self._asked and self._channel is None:
            self._heard = time.monotonic()
        self._asked[plan_id] = frame
        self._send(frame)

    def forget(self, plan_id: str) -> None:
        """Takes a request back."""
        if self._asked.pop(plan_id, None) is not None:
            self._send(packed({"do": "forget", "id": plan_id}))

    def drop(self, plan_id: str) -> None:
        """Says that what was drawn may be removed there."""
        self._send(packed({"do": "drop", "id": plan_id}))

    def next(self, wait: float) -> Frame | None:
        """What comes next within `wait` seconds or so, or None.

        Raises `LostError` if the machine cannot be reached for as long as is borne, `SshError` for what is final.
        """
        if self._channel is None and not self._open():
            return None
        channel = self._channel
        with suppress(queue.Empty):
            frame = self._frames.get(timeout=wait)
            if isinstance(frame, str):
                self._break(frame)
                return None
            self._heard, self._pause, self._in_vain = time.monotonic(), self._patience.first, 0
            table, _ = frame
            if table.get("say") in ("render", "error"):
                self._asked.pop(str(table.get("id")), None)
            return None if table.get("say") == "beat" else frame
        if channel is not None and not channel.is_alive:
            self._break("ssh ended")
        elif time.monotonic() - self._heard > self._patience.stall:
            self._break(f"nothing was heard for {self._patience.stall:.0f} s")
        return None

    def close(self) -> None:
        """Ends the line; the worker there goes on with what it has."""
        channel, self._channel = self._channel, None
        if channel is not None:
            channel.close()

    def _open(self) -> bool:
        """Opens the line and asks for all again; False, after a pause, if it cannot be opened now."""
        try:
            channel = self._open_channel()
        except SshError as error:
            if error.is_final:
                raise
            if time.monotonic() - self._heard > self._patience.lost:
                hint = "the same command does what is left, there or elsewhere; what it drew meanwhile is kept there"
                raise LostError(f"{error.message}, for {self._patience.lost / 60:.0f} minutes", hint) from error
            time.sleep(self._pause)
            self._pause = min(2 * self._pause, self._patience.longest)
            return False
        self._channel, self._frames = channel, queue.SimpleQueue()
        threading.Thread(target=_listen, args=(channel, self._frames), daemon=True).start()
        if not self._is_greeted():
            return False
        self._heard = time.monotonic()
        for frame in tuple(self._asked.values()):
            self._send(frame)
        return True

    def _is_greeted(self) -> bool:
        """Whether the attendant says hello. Raises `LostError` for one of another version."""
        try:
            frame = self._frames.get(timeout=self._patience.opening)
        except queue.Empty:
            frame = "it did not say hello"
        if isinstance(frame, str):
            self._break(frame)
            return False
        if frame[0].get("version") != __version__:
            raise LostError(f"{self._name} has Sosie {frame[0].get('version')}, this machine {__version__}")
        return True

    def _send(self, frame: bytes) -> None:
        if self._channel is not None:
            with suppress(OSError):  # who reads notices, and asks again
                self._channel.write(frame)

    def _break(self, why: str) -> None:
        """Lets go of a line that is of no use. Raises `LostError` where lines break again and again in vain."""
        channel = self._channel
        self.close()
        said = (channel.said() if channel is not None else "") or why
        self.breaks += 1
        self._in_vain += 1
        if self._in_vain > IN_VAIN or time.monotonic() - self._heard > self._patience.lost:
            raise LostError(f"{self._name} does not keep a line: {said}", "look at the machine")
        time.sleep(self._pause)
        self._pause = min(2 * self._pause, self._patience.longest)


def _listen(channel: Channel, frames: queue.SimpleQueue[Frame | str]) -> None:
    reader = Frames(channel.read)
    try:
        while (frame := reader.next()) is not None:
            frames.put(frame)
        frames.put(channel.said() or "the line ended")
    except OSError as error:
        frames.put(str(error))
