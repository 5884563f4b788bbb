"""Which steps of an image are looked at while it is drawn: few, and never for more than a share of its time."""

from __future__ import annotations

import io
import time
from collections.abc import Callable

from sosie.core.errors import SosieError
from sosie.core.sight import Look

MOST = 3
"""Previews of a stage."""

COST = 0.05
"""Of the stage's time, what its previews may take; the first one shows what they take, and may be dearer."""

QUALITY = 80


class Glimpses:
    """The previews of one stage. Where one more would cost too much there is none."""

    def __init__(self, wanted: bool, clock: Callable[[], float] = time.perf_counter) -> None:
        self._wanted = wanted
        self._clock = clock
        self._started = 0.0
        self._place = 0
        self._spent = 0.0

    def take(self, done: int, steps: int, look: Look) -> bytes:
        """A JPEG of how the picture looks after step `done`, or nothing: not wanted, too soon, too dear, or none."""
        if done == 1:
            self._started = self._clock()
        place = done * (MOST + 1) // steps
        if not self._wanted or done >= steps or place == self._place:
            return b""
        self._place = place
        try:
            sight = look()
        except (SosieError, RuntimeError):  # no memory for it: what is drawn matters more
            self._wanted = False
            return b""
        if sight is None:
            self._wanted = False
            return b""
        self._spent += sight.seconds
        if done > 1:
            whole = (self._clock() - self._started - self._spent) * steps / (done - 1)
            self._wanted = self._spent + sight.seconds <= COST * whole
        buffer = io.BytesIO()
        sight.image.save(buffer, "JPEG", quality=QUALITY)
        return buffer.getvalue()
