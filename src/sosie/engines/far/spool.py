"""A spool: a folder with the plans that are to be drawn, and the renders that were, each a file that is whole.

    asked/ID     a request: its table, and the pixels of the image that it works on
    drawn/ID     its render: facts and pixels, or the error in its place
    now.json     what the worker is at
    lock         held by the one worker

Everything is named by the plan's id, so that nothing is drawn twice and everything may be said twice.
"""

from __future__ import annotations

import json
import re
import time
import zlib
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sosie.core import Environment, Plan, Render
from sosie.core.errors import EngineError
from sosie.core.schema import from_table
from sosie.engines.far.frames import Frame, Frames, packed
from sosie.engines.resident_protocol import MAX_PIXELS, read_findings, render_facts
from sosie.families.contract.draws import Settings
from sosie.files.foreign import object_or_none, parse_json
from sosie.files.regular import open_regular
from sosie.files.whole import make_folder, write_whole

if TYPE_CHECKING:
    from PIL.Image import Image

ID = re.compile(r"[0-9a-f]{64}")
KEPT_SECONDS = 86_400.0
"""How long a render stays in a spool that nobody asks for."""

LEVEL = 1
"""Of zlib: a picture of 1024 x 1024 px goes from 3.1 MB to about 2 MB within 0.1 s."""


@dataclass(frozen=True)
class SpoolRole:
    """What a worker of a spool is for: an engine with its settings, in a workspace there (absolute).

    It ends when nothing was asked of it for `idle` seconds.
    """

    workspace: str
    settings: Settings
    engine: str = "diffusers"
    idle: float = 900.0


class Spool:
    """The spool in a folder, which is made if need be."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.lock = folder / "lock"
        self._asked, self._drawn, self._now = folder / "asked", folder / "drawn", folder / "now.json"
        for one in (self._asked, self._drawn):
            make_folder(one)

    def ask(self, plan_id: str, request: Mapping[str, Any], pixels: bytes = b"") -> None:
        """Has a plan drawn, unless it was; an error that it ended with is tried again."""
        found = self._drawn / checked(plan_id)
        if found.exists():
            with suppress(OSError):
                if (self.result(plan_id) or ({}, b""))[0].get("say") == "render":
                    return
            found.unlink(missing_ok=True)
        if not (self._asked / plan_id).exists():
            write_whole(self._asked / plan_id, packed(request, pixels))

    def forget(self, plan_id: str) -> None:
        """Nobody waits for a plan any more."""
        (self._asked / checked(plan_id)).unlink(missing_ok=True)

    def drop(self, plan_id: str) -> None:
        """What was drawn is where it belongs."""
        (self._drawn / checked(plan_id)).unlink(missing_ok=True)

    def waiting(self) -> list[str]:
        """The plans that are still to be drawn, the oldest request first."""
        found: list[tuple[int, str]] = []
        for path in self._asked.iterdir():
            with suppress(OSError):
                if ID.fullmatch(path.name):
                    found.append((path.stat().st_mtime_ns, path.name))
        return [name for _, name in sorted(found)]

    def is_wanted(self, plan_id: str) -> bool:
        """Whether somebody still waits for a plan."""
        return (self._asked / plan_id).exists()

    def request(self, plan_id: str) -> Frame | None:
        """What was asked, None if it is not any more. Raises `OSError`."""
        return _frame(self._asked / plan_id)

    def result(self, plan_id: str) -> Frame | None:
        """What became of a plan, None if nothing yet. Raises `OSError`."""
        return _frame(self._drawn / checked(plan_id))

    def has_result(self, plan_id: str) -> bool:
        """Whether a plan came to its end."""
        return (self._drawn / plan_id).exists()

    def put(self, plan_id: str, table: Mapping[str, Any], data: bytes = b"") -> None:
        """A plan's result; its request is done with."""
        write_whole(self._drawn / plan_id, packed(table, data))
        self.forget(plan_id)

    def tell(self, table: Mapping[str, Any]) -> None:
        """What the worker is at; a loss of it is no harm."""
        part = self._now.with_suffix(".part")
        with suppress(OSError):
            part.write_text(json.dumps(table), encoding="utf-8")
            part.replace(self._now)

    def now(self) -> dict[str, Any]:
        """What the worker is at, as far as it is known."""
        try:
            return object_or_none(parse_json(self._now.read_bytes())) or {}
        except (OSError, ValueError):
            return {}

    def sweep(self, seconds: float = KEPT_SECONDS) -> None:
        """Removes what was drawn long ago."""
        for path in self._drawn.iterdir():
            with suppress(OSError):
                if time.time() - path.stat().st_mtime > seconds:
                    path.unlink()


def render_frame(render: Render) -> tuple[dict[str, Any], bytes]:
    """A render as a message: its facts, and its pixels (RGB) deflated."""
    pixels = render.image.convert("RGB").tobytes()
    return {"say": "render", **render_facts(render)}, zlib.compress(pixels, LEVEL)


def read_render(table: Mapping[str, Any], data: bytes, plan: Plan) -> Render:
    """The render of a message. Raises `OSError` if it is not whole."""
    return Render(
        image_of(table, data),
        plan,
        str(table["engine"]),
        from_table(Environment, table["environment"], "machine"),
        float(table["seconds"]),
        read_findings(table["findings"]),
        tuple((str(name), float(value)) for name, value in table["measures"]),
    )


def image_of(table: Mapping[str, Any], data: bytes) -> Image:
    """The image of a message by its `size`. Raises `OSError` if it is not whole."""
    from PIL import Image

    width, height = map(int, table["size"])
    if width < 1 or height < 1 or width * height > MAX_PIXELS:
        raise OSError(f"an image of {width}x{height} pixels was announced")
    size = width * height * 3
    try:
        pixels = zlib.decompressobj().decompress(data, size + 1)
    except zlib.error as error:
        raise OSError(f"an image came damaged: {error}") from None
    if len(pixels) != size:
        raise OSError("an image came incomplete")
    return Image.frombytes("RGB", (width, height), pixels)


def checked(plan_id: str) -> str:
    """A plan's id, which becomes a file's name. Raises `EngineError` for anything else."""
    if not ID.fullmatch(plan_id):
        raise EngineError(f"{plan_id[:80]!a} is no id of a plan")
    return plan_id


def _frame(path: Path) -> Frame | None:
    try:
        with open_regular(path) as stream:
            return Frames(stream.read).next()
    except FileNotFoundError:
        return None
