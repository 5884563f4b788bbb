"""Who draws which shard. A claim is a file that can be made once; its age says whether who made it still works.

    SHARD.1         the first machine that claimed it; SHARD.2 who took over from it, and so on
    SHARD.done      of all its plans something became

Nobody waits for anybody: a machine that is gone lets its claim grow old, and another one takes over what it left. Who
was only slow sees the later claim at its next image, and leaves. Where two draw one image, one of them is kept.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from sosie.files.whole import make_file, whole_stream

EXPIRY = 900.0
"""Seconds without a sign of life after which a machine is taken for gone; clocks may differ by less."""

BEAT = 20.0
"""Seconds between two signs of life at least."""

NAME = re.compile(r"(\d+)\.(\d+|done)")


@dataclass
class Claim:
    """A shard that this machine draws. `seen` is when it last said that it does."""

    shard: str
    generation: int
    seen: float


@dataclass(frozen=True)
class Standing:
    """How a shard stands: the last claim to it (0: none), when that was made or renewed, and whether it is done."""

    generation: int = 0
    seen: float = 0.0
    is_done: bool = False


class Claims:
    """The claims in a folder, for one machine, called `who`. `now` is the time in seconds, the same for all."""

    def __init__(self, folder: Path, who: str, now: Callable[[], float] = time.time, expiry: float = EXPIRY) -> None:
        self._folder = folder
        self._who = who
        self._now = now
        self._expiry = expiry
        self._done: set[str] = set()

    def take(self, shards: Sequence[str]) -> Claim | None:
        """The first of the shards that nobody draws, claimed; None if there is none."""
        found = self.standing()
        for shard in shards:
            standing = found.get(shard, Standing())
            if not standing.is_done and not self.is_drawn(standing) and (claim := self._claim(shard, standing)):
                return claim
        return None

    def standing(self) -> dict[str, Standing]:
        """How every shard stands that was ever claimed."""
        last: dict[str, int] = {}
        with os.scandir(self._folder) as entries:
            for entry in entries:
                found = NAME.fullmatch(entry.name)
                if found and found[2] == "done":
                    self._done.add(found[1])
                elif found and found[1] not in self._done:
                    last[found[1]] = max(last.get(found[1], 0), int(found[2]))
        standing = dict.fromkeys(self._done, Standing(is_done=True))
        for shard, generation in last.items():
            with suppress(OSError):
                if shard not in self._done:
                    seen = (self._folder / f"{shard}.{generation}").stat().st_mtime
                    standing[shard] = Standing(generation, seen)
        return standing

    def is_drawn(self, standing: Standing) -> bool:
        """Whether somebody draws a shard now, as far as it is known."""
        return standing.generation > 0 and self._now() - standing.seen <= self._expiry

    def renew(self, claim: Claim) -> bool:
        """Says that this machine still draws a shard; False if another has taken over."""
        if self._path(claim.shard, claim.generation + 1).exists():
            return False
        if self._now() - claim.seen >= BEAT:
            self._stamp(claim, self._now())
        return True

    def finish(self, claim: Claim) -> None:
        """Of all plans of the shard something became."""
        make_file(self._folder / f"{claim.shard}.done")

    def release(self, claim: Claim) -> None:
        """Lets others have the rest of a shard at once."""
        if self.renew(claim):
            self._stamp(claim, 0.0)

    def reopen(self, shards: Sequence[str]) -> None:
        """Has those shards that were done drawn anew, as far as something of them is missing."""
        for shard in shards:
            if not (self._folder / f"{shard}.done").exists():
                continue
            for path in self._folder.glob(f"{shard}.*"):
                path.unlink(missing_ok=True)
            self._done.discard(shard)

    def _claim(self, shard: str, standing: Standing) -> Claim | None:
        claim = Claim(shard, standing.generation + 1, self._now())
        path = self._path(shard, claim.generation)
        try:
            with whole_stream(path, overwrite=False) as stream:
                stream.write(f"{self._who}\n".encode())
        except FileExistsError:
            return None
        self._stamp(claim, claim.seen)
        return claim

    def _stamp(self, claim: Claim, when: float) -> None:
        claim.seen = when
        with suppress(OSError):
            os.utime(self._path(claim.shard, claim.generation), (when, when))

    def _path(self, shard: str, generation: int) -> Path:
        return self._folder / f"{shard}.{generation}"
