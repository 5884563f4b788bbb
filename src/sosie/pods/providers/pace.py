"""How fast a provider may be asked: the intervals that it publishes, and the windows that its answers tell of."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

LONGEST_WAIT = 60.0
"""Seconds: who has to wait longer asks at once, and is told why by the provider."""


@dataclass(frozen=True)
class Interval:
    """At least `seconds` between two requests with `method` whose whole path is of the pattern `path`."""

    method: str
    path: str
    seconds: float


class Pace:
    """Waits before a request that would come too early. `now` and `sleep` are in seconds, and for tests."""

    def __init__(
        self,
        intervals: Sequence[Interval] = (),
        sleep: Callable[[float], None] = time.sleep,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._intervals = intervals
        self._sleep = sleep
        self._now = now
        self._free: dict[Interval, float] = {}
        self._open = float("-inf")

    def wait(self, method: str, path: str) -> None:
        """Until such a request may be sent, which is then taken for sent."""
        kinds = [one for one in self._intervals if one.method == method and re.fullmatch(one.path, path)]
        until = max((self._open, *(self._free[one] for one in kinds if one in self._free)))
        if 0 < (left := until - self._now()) <= LONGEST_WAIT:
            self._sleep(left)
        for one in kinds:
            self._free[one] = self._now() + one.seconds

    def heed(self, headers: Mapping[str, str]) -> None:
        """Takes from an answer's headers when the next request may be sent: a window may be used up."""
        if used_up := used_up_for(headers):
            self._open = self._now() + used_up


def used_up_for(headers: Mapping[str, str]) -> float:
    """Seconds until the last window that is used up ends, 0 if none is.

    `RateLimit` is a list such as `"minute";r=0;t=12, "hour";r=2800;t=1812`.
    """
    return max(map(float, re.findall(r";\s*r=0;\s*t=(\d{1,6})\b", headers.get("ratelimit", ""))), default=0.0)
