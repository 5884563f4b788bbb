"""What all routes share: the workspace, the child processes, the copies of pictures, and the pulse of the queue."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import threading
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from sosie.api.jobs.process import Foreman
from sosie.api.jobs.queue import open_jobs
from sosie.api.jobs.requests import check_digest
from sosie.core.errors import NotFoundError, SosieError, UsageError
from sosie.files.regular import open_regular
from sosie.files.whole import make_folder
from sosie.store.gallery import Gallery
from sosie.store.images import path_of
from sosie.studio.children import SECONDS, Child, RefusedFileError
from sosie.workspace.workspace import Workspace

WIDTHS = (160, 320, 640, 1280)
"""Of copies of pictures: few, so that each is made once."""

PULSE = 0.25
"""Seconds between two looks at the queue."""

TRACE_SECONDS = 20.0
"""How long a picture is looked through for a watermark."""

MENDING = 600.0
"""Seconds that the conversion of a file may take."""

AT_ONCE = 4
"""Bodies that are received at a time, and files that are opened apart."""

MOST_UPLOADS = 200
"""Uploaded pictures that wait to be used."""


class Desk:
    """One open studio. `start` begins to work through the queue, `close` stops that."""

    def __init__(self, workspace: Workspace) -> None:
        self.workspace = workspace
        self.places = asyncio.Semaphore(AT_ONCE)
        self.newest = 0
        self._pictures = Child()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._beat, daemon=True)
        open_jobs(workspace).close()  # the store is made and migrated now

    @property
    def is_over(self) -> bool:
        """Whether the studio is being closed."""
        return self._over.is_set()

    def start(self) -> None:
        """Works through the queue from now on."""
        self._thread.start()

    def end_streams(self) -> None:
        """Has whoever tells without an end come to one; no job is begun any more."""
        self._over.set()

    def close(self) -> None:
        """Stops the jobs that are worked on, which can be continued, and ends all child processes."""
        self._over.set()
        if self._thread.ident is not None:
            self._thread.join()
        self._pictures.close()

    def gallery(self) -> Gallery:
        """The images of the store; close it."""
        return Gallery(self.workspace.state)

    def small(self, path: Path, sha256: str, width: int, face: bool = False) -> bytes:
        """A WebP copy of the file of a digest, made once. Raises `UsageError` for a width that there is not."""
        if width not in WIDTHS:
            raise UsageError(f"width {width} is not one of {', '.join(map(str, WIDTHS))}")
        out = self.workspace.state / "thumbs" / sha256[:2] / f"{sha256}-{width}{'-face' if face else ''}.webp"
        with contextlib.suppress(FileNotFoundError):
            return _bytes(out)
        request = {"do": "small", "path": str(path), "out": str(out), "width": width, "face": face}
        self._pictures.ask(request)
        return _bytes(out)

    def stored_path(self, sha256: str) -> Path:
        """Where the stored image of a digest lies. Raises `NotFoundError`."""
        path = path_of(self.workspace.state / "images", check_digest(sha256))
        if not path.is_file():
            raise NotFoundError(f"the store has no image {sha256[:12]}")
        return path

    def upload_path(self, sha256: str) -> Path:
        """Where the pixels of an uploaded picture lie. Raises `NotFoundError`."""
        path = self._uploads / f"{check_digest(sha256)}.png"
        if not path.is_file():
            raise NotFoundError(f"picture {sha256[:12]} was not uploaded")
        return path

    def take(self, path: Path) -> dict[str, object]:
        """Takes an uploaded file for a picture: its pixels are kept. Raises `RefusedFileError`, and `UsageError`."""
        if sum(1 for _ in self._uploads.glob("*.png")) >= MOST_UPLOADS:
            self._forget_oldest()
        return self._pictures.ask({"do": "take", "path": str(path), "folder": str(self._uploads)})

    def trace(self, path: Path) -> tuple[str, str]:
        """The plan and the recipe that an uploaded picture's manifest or watermark names, or empty texts."""
        request = {"do": "trace", "path": str(path), "root": str(self.workspace.root.absolute())}
        try:
            found = self._pictures.ask(request, TRACE_SECONDS)
        except RefusedFileError:
            return "", ""
        return str(found["plan"]), str(found["recipe"])

    def consult(self, do: str, path: Path, size: int = 0) -> dict[str, object]:
        """The doctor on an uploaded file, in a process of its own: `examine`, `pieces` or `mend` (see `child`).

        Raises `RefusedFileError`.
        """
        return self.apart(do, MENDING if do == "mend" else SECONDS, path=str(path), size=size)

    def apart(self, do: str, seconds: float = SECONDS, **asked: str | int | bool) -> dict[str, object]:
        """The answer of a process of its own to a task of `studio.child` on this workspace. Raises `RefusedFileError`.

        For what takes long, or holds much afterwards: nobody waits for it, and it is gone then.
        """
        child = Child()
        try:
            return child.ask({"do": do, "root": str(self.workspace.root.absolute()), **asked}, seconds)
        finally:
            child.close()

    @contextmanager
    def received(self, suffix: str) -> Generator[Path]:
        """A file of our own name for what a browser sends; gone after the block."""
        make_folder(self._uploads)
        path = self._uploads / f"{secrets.token_hex(16)}{suffix}"
        try:
            yield path
        finally:
            path.unlink(missing_ok=True)

    def a_folder(self) -> Path:
        """A new folder of our own name, for a file that is to be sent; who asks for it removes it."""
        folder = self._uploads / secrets.token_hex(16)
        make_folder(folder)
        return folder

    @property
    def _uploads(self) -> Path:
        return self.workspace.state / "uploads"

    def _forget_oldest(self) -> None:
        old = sorted(self._uploads.glob("*.png"), key=lambda path: path.stat().st_mtime)
        for path in old[: MOST_UPLOADS // 2]:
            path.unlink(missing_ok=True)

    def _beat(self) -> None:
        foreman = Foreman(self.workspace)
        try:
            with open_jobs(self.workspace) as jobs:
                while not self._over.wait(PULSE):
                    with contextlib.suppress(SosieError):  # a full disk: said by whoever asks, and tried again
                        foreman.look()
                        self.newest = jobs.newest()
        finally:
            foreman.close()


def _bytes(path: Path) -> bytes:
    with open_regular(path) as file:
        return file.read()
