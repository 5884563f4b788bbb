"""Patience with bad lines: how often a download is tried, and what ends it."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from sosie.core.finding import Rule, RuleError

N001 = Rule("SOS-N001", "error", "A download failed")

PROGRESS = 2**20
"""Bytes that a try must bring for the count of failures to start anew."""


class DownloadError(RuleError):
    """A download that cannot be done."""


class BrokenOffError(Exception):
    """A try that failed in a way that another try may not: why, and in how many seconds the server wants it."""

    def __init__(self, why: str, wait: float | None = None) -> None:
        super().__init__(why)
        self.why = why
        self.wait = wait


@dataclass(frozen=True)
class RetryPolicy:
    """How long bad lines are borne. Seconds: `wait` before the second try, then doubled up to `longest`.

    A server that asks for more than `longest_asked` is not waited for. An answer begins within `answer`; then nothing
    may come for `stall`, and at least `rate` bytes a second do. `tries` in a row may fail, or any number in `give_up`;
    one that brought `PROGRESS` bytes starts both counts anew.
    """

    tries: int = 6
    wait: float = 1.0
    longest: float = 30.0
    longest_asked: float = 300.0
    answer: float = 30.0
    stall: float = 60.0
    rate: float = 1000.0
    give_up: float = 180.0


class Retries:
    """The waits between the tries of one thing, which `what` names in messages; `reached` bytes of it are there."""

    def __init__(self, what: str, patience: RetryPolicy, notice: Callable[[str], None], reached: int = 0) -> None:
        self._what = what
        self._patience = patience
        self._notice = notice
        self._failures = 0
        self._mark = reached
        self._since = time.monotonic()

    def wait(self, error: BrokenOffError, reached: int = 0) -> None:
        """Sleeps before the next try; `reached` bytes are there, and enough new ones make it a first failure.

        Raises `DownloadError` (SOS-N001) when patience ends.
        """
        patience = self._patience
        if reached - self._mark >= PROGRESS:
            self._failures, self._mark, self._since = 0, reached, time.monotonic()
        self._failures += 1
        wait = min(patience.wait * 2 ** (self._failures - 1), patience.longest)
        asked = error.wait or 0.0
        spent = time.monotonic() - self._since
        if self._failures >= patience.tries or spent >= patience.give_up or asked > patience.longest_asked:
            times = f"tried {self._failures} times" if self._failures > 1 else "not tried again"
            hint = "run the same command again to go on where it broke off"
            if asked > patience.longest_asked:
                hint = f"the server asks to wait for {asked:,.0f} s; run the same command again then"
            raise DownloadError(N001, f"{self._what}: {error.why}; {times}", hint) from None
        self._notice(f"{self._what}: {error.why}; the next try is in {max(wait, asked):,.0f} s")
        time.sleep(max(wait, asked))
