"""What the thread in which an engine draws and the thread that records share."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Generator
from dataclasses import dataclass, field

from sosie.core import Finding, Note
from sosie.core.feed import LONG
from sosie.loop.schedule import Step
from sosie.loop.task import Attempt

News = Note | Finding | Attempt


@dataclass(eq=False)
class Desk:
    """Plans that are ready to be drawn, what an engine has of them, and how much is in flight: at most `most` images.

    Whoever reads more than one thing of it, or changes anything, holds `change`. `asked` and `answered` count how often
    the engine's side wanted a plan and was told that there is none; `is_idle` while it waits for one. `ended`: nothing
    more is to be drawn; `is_still`: nothing is on its way; `settled`: both. `error` is what went wrong first.
    """

    most: int
    change: threading.Condition = field(default_factory=threading.Condition)
    ready: deque[Step] = field(default_factory=deque[Step])
    out: dict[str, tuple[Step, float]] = field(default_factory=dict[str, tuple[Step, float]])
    news: deque[News] = field(default_factory=deque[News])
    in_flight: int = 0
    asked: int = 0
    answered: int = 0
    is_idle: bool = False
    ended: bool = False
    is_still: bool = False
    settled: bool = False
    error: BaseException | None = None

    def tell(self, news: News) -> None:
        """Has something told to whoever reads the events."""
        with self.change:
            self.news.append(news)
            self.change.notify_all()

    def told(self) -> Generator[News]:
        """What is news now."""
        while self.news:
            yield self.news.popleft()

    def wait(self, until: Callable[[], bool]) -> None:
        """Waits for a change; where a wait cannot be interrupted, an interrupt is noticed within `LONG` seconds."""
        with self.change:
            while not self.change.wait_for(until, LONG):
                pass

    def told_until(self, until: Callable[[], bool]) -> Generator[News]:
        """What is news, as it comes, until that is so."""
        while True:
            self.wait(lambda: bool(self.news) or until())
            done = until()
            yield from self.told()
            if done:
                return
