"""A manifest: plans in a folder, cut into shards, and what became of each.

    manifest.json   the version of this layout
    characters/     those of the plans: the folder is a workspace
    shards/NNNNNN   some plans, deflated, a JSON object a line
    sources/DIGEST  images that plans work on
    claims/         who draws which shard (`claims`)
    drawn/ID        a plan's render, or the error in its place (`far.spool`)

All is whole and named by what it holds, so that copies of one manifest may be copied into each other.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from sosie.core import Plan, Render
from sosie.core.errors import EngineError, NotFoundError, SosieError
from sosie.engines.far.frames import Frame, Frames, packed
from sosie.engines.far.spool import LEVEL, Spool, checked, image_of, render_frame
from sosie.engines.resident_protocol import error_table
from sosie.files.foreign import parse_json, read_object
from sosie.files.regular import open_regular
from sosie.files.whole import make_folder, whole_stream, write_json, write_whole

if TYPE_CHECKING:
    from PIL.Image import Image

VERSION = 1
FILE = "manifest.json"
SHARD = 32
"""Plans of a shard: what one machine draws before it claims more, a few minutes."""

LONGEST = 1 << 28
"""Bytes of a shard's plans at most."""


class Manifest:
    """The manifest in a folder. Several processes may use it at once. Raises `OSError` as the system does."""

    def __init__(self, folder: Path) -> None:
        """Raises `NotFoundError` for a folder that is none, `EngineError` for one of another version."""
        self.folder = folder
        if not (folder / FILE).is_file():
            raise NotFoundError(f"{folder} is no manifest", "sosie generate CHARACTER PROMPT -n 1000 --plans FOLDER")
        version = read_object(folder / FILE).get("version")
        if version != VERSION:
            raise EngineError(f"{folder} is a manifest of version {version}, expected {VERSION}", "update Sosie")
        self.spool = Spool(folder)
        self._shards, self._sources = folder / "shards", folder / "sources"
        self._ids: dict[str, tuple[str, ...]] = {}

    @classmethod
    def make(cls, folder: Path) -> Manifest:
        """The manifest of a folder, made if need be."""
        for one in (folder / "shards", folder / "sources", folder / "claims", folder / "characters"):
            make_folder(one)
        if not (folder / FILE).exists():
            write_json(folder / FILE, {"version": VERSION})
        return cls(folder)

    def add(self, plans: Iterable[Plan], size: int = SHARD) -> int:
        """Adds the plans that are not in it, as further shards of `size`; how many these are."""
        known = {one for shard in self.shards() for one in self.ids(shard)}
        new = list({plan.id: plan for plan in plans if plan.id not in known}.values())
        for start in range(0, len(new), size):
            self._write(new[start : start + size])
        return len(new)

    def shards(self) -> list[str]:
        """The names of the shards, in the order in which they were added."""
        return sorted(path.name for path in self._shards.iterdir() if path.name.isdigit())

    def ids(self, shard: str) -> tuple[str, ...]:
        """The ids of a shard's plans."""
        if shard not in self._ids:
            self._ids[shard] = tuple(plan.id for plan in self.plans(shard))
        return self._ids[shard]

    def plans(self, shard: str) -> list[Plan]:
        """The plans of a shard. Raises `EngineError` for one that is not whole."""
        path = self._shards / shard
        try:
            with open_regular(path) as stream:
                text = zlib.decompressobj().decompress(stream.read(), LONGEST)
            return [Plan.from_json(parse_json(line)) for line in text.splitlines()]
        except (ValueError, zlib.error) as error:
            raise EngineError(f"{path} holds no plans: {error}", "bring the manifest there again") from error

    def left(self, shard: str) -> list[Plan]:
        """The plans of a shard of which nothing became yet."""
        return [plan for plan in self.plans(shard) if not self.spool.has_result(plan.id)]

    def put(self, render: Render) -> bool:
        """Keeps a render; False if its plan was drawn already, whose render stays."""
        if self.spool.has_result(render.plan.id):
            return False
        self.spool.put(render.plan.id, *render_frame(render))
        return True

    def fail(self, plan_id: str, error: SosieError) -> None:
        """Keeps the error that a plan ended with."""
        self.spool.put(plan_id, error_table(error))

    def again(self) -> int:
        """Forgets errors, so that their plans are drawn anew; how many there were."""
        found = 0
        for shard in self.shards():
            for one in self.ids(shard):
                frame: Frame | None = None
                with suppress(OSError):
                    frame = self.spool.result(one)
                if frame is not None and frame[0].get("say") == "error":
                    self.spool.drop(one)
                    found += 1
        return found

    def add_source(self, digest: str, image: Image) -> None:
        """Keeps the image whose pixels have that digest, for plans that work on it."""
        path = self._sources / checked(digest)
        if not path.exists():
            image = image.convert("RGB")
            write_whole(path, packed({"size": list(image.size)}, zlib.compress(image.tobytes(), LEVEL)))

    def source(self, digest: str) -> Image:
        """The image of that digest. Raises `EngineError` without it."""
        try:
            with open_regular(self._sources / checked(digest)) as stream:
                frame = Frames(stream.read).next()
            return image_of(*(frame or ({}, b"")))
        except (OSError, KeyError) as error:
            raise EngineError(f"the image {digest[:12]} to work on is not in {self.folder}: {error}") from error

    def counts(self) -> tuple[int, int]:
        """How many plans there are, and of how many something became."""
        ids = [one for shard in self.shards() for one in self.ids(shard)]
        return len(ids), sum(self.spool.has_result(one) for one in ids)

    def _write(self, plans: Sequence[Plan]) -> None:
        lines = "\n".join(json.dumps(plan.to_json(), separators=(",", ":")) for plan in plans)
        data = zlib.compress(lines.encode())
        number = int(max(self.shards(), default="-1"))
        is_written = False
        while not is_written:
            number += 1
            with suppress(FileExistsError), whole_stream(self._shards / f"{number:06d}", overwrite=False) as stream:
                stream.write(data)
                is_written = True
        self._ids[f"{number:06d}"] = tuple(plan.id for plan in plans)
