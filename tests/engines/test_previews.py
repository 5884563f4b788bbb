"""Previews: few, bounded in cost, through the worker, and encoded anew before they are shown."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable

import pytest
from PIL import Image

from sosie.api.jobs.previews import LONGEST, small_copy
from sosie.core import Preview, Progress
from sosie.core.errors import EngineError
from sosie.core.sight import Look, Sight
from sosie.engines.glimpses import COST, MOST, Glimpses
from sosie.engines.resident_protocol import progress_table, read_progress

IMAGE = Image.new("RGB", (32, 32), "red")


class Draw:
    """Steps of a second each, and looks that take `cost` seconds."""

    def __init__(self, cost: float, steps: int = 20, wanted: bool = True) -> None:
        self.now, self.cost, self.steps = 0.0, cost, steps
        self.looked: list[int] = []
        self.glimpses = Glimpses(wanted, lambda: self.now)

    def run(self, look: Look | None = None) -> list[int]:
        """The steps of which there is a picture."""
        seen: list[int] = []
        for done in range(1, self.steps + 1):
            self.now += 1.0
            if self.glimpses.take(done, self.steps, look or self._look(done)):
                seen.append(done)
        return seen

    def _look(self, done: int) -> Callable[[], Sight]:
        def look() -> Sight:
            self.looked.append(done)
            self.now += self.cost
            return Sight(IMAGE, self.cost)

        return look


def test_there_are_few_previews_evenly_and_none_of_the_last_step() -> None:
    assert Draw(0.01).run() == [5, 10, 15]
    assert Draw(0.01, steps=4).run() == [1, 2, 3]
    assert Draw(0.01, steps=1).run() == []
    assert len(Draw(0.001, steps=1000).run()) == MOST


@pytest.mark.parametrize("cost", [0.1, 0.45, 0.9, 3.0])
def test_what_they_cost_is_bounded_after_the_first(cost: float) -> None:
    draw = Draw(cost)
    seen = draw.run()
    assert seen == draw.looked
    assert seen
    assert cost * len(seen) <= max(cost, COST * draw.steps * 1.06)


def test_nobody_looks_unless_somebody_watches_and_a_failed_look_is_the_last() -> None:
    unwatched = Draw(0.01, wanted=False)
    assert (unwatched.run(), unwatched.looked) == ([], [])
    for wrong in (RuntimeError("no memory"), EngineError("no VAE")):
        tries: list[int] = []

        def fails(wrong: Exception = wrong, tries: list[int] = tries) -> Sight:
            tries.append(1)
            raise wrong

        assert Draw(0.01).run(fails) == []
        assert len(tries) == 1
    assert Draw(0.01).run(lambda: None) == []


def test_a_preview_goes_through_the_worker_whole_and_a_broken_one_does_not() -> None:
    preview = Preview("generate", 5, 20, b"\xff\xd8jpeg", "jpeg")
    table = progress_table(preview)
    assert read_progress(table) == preview
    assert read_progress(progress_table(Progress("load", 0, 1))) == Progress("load", 0, 1)
    with pytest.raises(OSError, match="not whole"):
        read_progress({**table, "picture": "a\u00e9"})


def encoded(kind: str, size: tuple[int, int] = (600, 300)) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", size, "red").save(buffer, kind)
    return buffer.getvalue()


def bomb() -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(bytes(9))) + chunk(b"IEND", b"")


def test_only_pixels_that_were_encoded_anew_are_shown() -> None:
    for kind in ("PNG", "JPEG"):
        copy = small_copy(Preview("generate", 1, 2, encoded(kind) + b"<script>", kind.lower()))
        assert b"<script>" not in copy
        with Image.open(io.BytesIO(copy)) as image:
            assert (image.format, image.size) == ("JPEG", (LONGEST, LONGEST // 2))
    for wrong in (b"", b"<svg/>", encoded("PNG")[:60], encoded("GIF"), bomb(), bytes(1 << 23)):
        assert small_copy(Preview("generate", 1, 2, wrong, "png")) == b""
