"""A file from the network, whole and checked, or not there: resumed after any end, also of a kill.

A server is believed in nothing: size, place of each partial answer, kind of content and SHA-256 are
checked, and a resumed transfer whose pieces do not fit together is done once more from its beginning.
"""

from __future__ import annotations

import errno
import re
import shutil
from collections.abc import Generator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from sosie.core.event import Progress
from sosie.core.finding import Rule
from sosie.fetch.hubs import shown
from sosie.fetch.part_file import LockedError, PartFile, PartState, part_path
from sosie.fetch.retries import BrokenOffError, DownloadError, Retries
from sosie.fetch.web import N003, Web, WebResponse, described, is_page
from sosie.files.digest import file_digest
from sosie.files.regular import open_regular
from sosie.files.whole import make_folder

N005 = Rule("SOS-N005", "error", "The disk has no room for a download")
N006 = Rule("SOS-N006", "error", "Another process downloads the same file")

RESERVE = 1_000_000_000
"""Bytes that a download leaves free on the disk."""

MOST_UNKNOWN = 8_000_000_000
"""Bytes that are taken of a file whose length is told by nobody; publishers of larger ones tell it."""

PAGE_TYPES = ("text/html", "application/xhtml+xml", "application/json")
LFS_POINTER = b"version https://git-lfs.github.com/spec/"
HEAD = 4096
"""Bytes at the beginning by which an answer that is no model is recognised and described."""


@dataclass(frozen=True)
class Wanted:
    """What to download and what it must be: `size` in bytes, `sha256` in hex digits, where they are known.

    `title` is what messages call it.
    """

    url: str
    title: str
    size: int | None = None
    sha256: str = ""


@dataclass(frozen=True)
class Downloaded:
    """A file that is whole and checked. `received` is what came over the line for it this time, in bytes."""

    path: Path
    bytes: int
    sha256: str
    received: int


def download(web: Web, wanted: Wanted, path: Path) -> Downloaded:
    """All of `downloading`."""
    steps = downloading(web, wanted, path)
    while True:
        try:
            next(steps)
        except StopIteration as end:
            return end.value


def downloading(web: Web, wanted: Wanted, path: Path) -> Generator[Progress, None, Downloaded]:
    """Downloads `wanted` to `path`, which appears whole and checked or not at all; progress is in bytes.

    A `path` that is there is kept if it is what is wanted. Raises `DownloadError`: SOS-N001 the line
    or the server fails, N002 a token is missing, N003 something else was sent, N004 there is no such
    file, N005 the disk is full, N006 another process downloads it.
    """
    try:
        make_folder(path.parent)
        with closing(PartFile(path)) as part:
            if path.exists():
                return _there(wanted, path)
            transfer = _Transfer(web, wanted, part)
            transfer.begin()
            while True:
                yield from transfer.persist()
                if transfer.is_right():
                    part.finish()
                    return Downloaded(path, part.done, part.sha256, transfer.received)
    except LockedError:
        raise _locked(wanted, path) from None
    except OSError as error:
        raise _disk_error(path, error) from None


def copying(source: Path, wanted: Wanted, path: Path) -> Generator[Progress, None, Downloaded]:
    """Copies a file of this machine to `path`, checked as a download is. Raises `DownloadError` likewise."""
    try:
        make_folder(path.parent)
        with closing(PartFile(path)) as part, open_regular(source) as stream:
            if path.exists():
                return _there(wanted, path)
            size = source.stat().st_size
            _check_room(path.parent, wanted.title, size)
            while chunk := stream.read(2**20):
                part.append(chunk)
                yield Progress(wanted.title, part.done, size)
            if wanted.size not in (None, part.done) or wanted.sha256 not in ("", part.sha256):
                message = f"{source} is not {wanted.title}: {_is(part.done, part.sha256)}, expected {_expected(wanted)}"
                part.restart()
                raise DownloadError(N003, message, "compare with its publisher's page")
            part.finish()
            return Downloaded(path, part.done, part.sha256, 0)
    except LockedError:
        raise _locked(wanted, path) from None
    except OSError as error:
        raise _disk_error(path, error) from None


def _locked(wanted: Wanted, path: Path) -> DownloadError:
    message = f"{wanted.title} is being downloaded by another process: {part_path(path)} is locked"
    return DownloadError(N006, message, "wait until it ends, then run the same command again")


def _disk_error(path: Path, error: OSError) -> DownloadError:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        hint = "free some space, then run the same command again to go on"
        return DownloadError(N005, f"{path} cannot be written: the disk is full", hint)
    why = f"{error.filename or path} cannot be used: {error.strerror or error}"
    return DownloadError(N005, why, f"ls -ld {path.parent}")


def _check_room(folder: Path, title: str, need: int) -> None:
    free = shutil.disk_usage(folder).free
    if need + RESERVE > free:
        message = (
            f"{folder} has {free / 1e9:.1f} GB free; {title} needs {need / 1e9:.1f} GB more, "
            f"and {RESERVE / 1e9:.0f} GB stay free"
        )
        raise DownloadError(N005, message, "free some space, or use another disk: --workspace")


def _there(wanted: Wanted, path: Path) -> Downloaded:
    size, sha256 = path.stat().st_size, file_digest(path)
    if wanted.size not in (None, size) or wanted.sha256 not in ("", sha256):
        message = f"{path} is there and is not {wanted.title}: {_is(size, sha256)}, expected {_expected(wanted)}"
        raise DownloadError(N003, message, "move it away, or fetch under another name: --as NAME")
    return Downloaded(path, size, sha256, 0)


class _Transfer:
    """One file's way into its part. `reached` is the most bytes that were ever there, `received` what came."""

    def __init__(self, web: Web, wanted: Wanted, part: PartFile) -> None:
        self._web = web
        self._wanted = wanted
        self._part = part
        self._head = b""
        self._doubted = False
        self.reached = 0
        self.received = 0

    @property
    def size(self) -> int | None:
        """The bytes of the whole file, where they are known."""
        return self._part.state.size if self._wanted.size is None else self._wanted.size

    def begin(self) -> None:
        """Takes up what an earlier process left, and looks whether the rest has room."""
        wanted = self._wanted

        def fits(state: PartState) -> bool:
            if wanted.size is not None and state.bytes > wanted.size:
                return False
            if wanted.sha256:
                return state.sha256 == wanted.sha256
            return bool(state.validator) and state.url == shown(wanted.url)

        self._part.recall(fits)
        self.reached = self._part.done
        self._check_room()

    def persist(self) -> Generator[Progress]:
        """Requests until the body ended where it should. Raises `DownloadError` (SOS-N001) when patience ends."""
        retries = Retries(self._wanted.title, self._web.patience, self._web.notice, self.reached)
        while True:
            try:
                return (yield from self._go_on())
            except BrokenOffError as error:
                retries.wait(error, self.reached)

    def _go_on(self) -> Generator[Progress]:
        """One request for what is missing."""
        part = self._part
        if part.done and part.done == self.size:
            return
        with self._web.ask(self._wanted.url, headers=self._range()) as answer:
            if answer.status == 416:
                # Nothing lies after what is there: it was complete (the size was not known), or is another file's.
                if part.done and part.sha256 == self._wanted.sha256:
                    return
                raise self._anew(f"{answer.host} has nothing after {part.done:,} bytes")
            self._accept(answer)
            for chunk in answer.chunks():
                self._write(chunk, answer)
                yield Progress(self._wanted.title, part.done, self.size or 0)
        if part.done <= HEAD:
            self._check_start(answer)
        if self.size is not None and part.done < self.size:
            raise BrokenOffError(f"{answer.host} ended at {part.done:,} of {self.size:,} bytes")

    def is_right(self) -> bool:
        """Whether it is what is wanted; False, and empty again, once, if pieces of several answers may not fit."""
        part, wanted = self._part, self._wanted
        if wanted.sha256 in ("", part.sha256):
            return True
        if part.resumed and not self._doubted:
            self._doubted = True
            self._empty()
            return False
        message = f"{wanted.title} is not what was sent: {_is(part.done, part.sha256)}, expected {_expected(wanted)}"
        self._empty()
        hint = "the publisher may have replaced it, or something on the way changed it; compare with its page"
        raise DownloadError(N003, message, hint)

    def _range(self) -> dict[str, str]:
        part = self._part
        if part.done and not (part.state.validator or self._wanted.sha256):
            part.restart()  # nothing could tell whether the rest is of the same file
        if not part.done:
            return {}
        part.resumed = True
        condition = {"If-Range": part.state.validator} if part.state.validator else {}
        return {"Range": f"bytes={part.done}-", **condition}

    def _accept(self, answer: WebResponse) -> None:
        """Checks the head of an answer before any of its body is kept."""
        part, wanted = self._part, self._wanted
        kind = answer.headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind in PAGE_TYPES and part.path.suffix not in (".html", ".json"):
            raise self._not_a_model(answer, answer.start(HEAD))
        if answer.headers.get("content-encoding", "identity") not in ("", "identity"):
            raise self._wrong(f"{answer.host} sent it compressed, though it was asked not to")
        validator = _validator(answer)
        if answer.status == 206:
            self._check_range(answer, validator)
        elif part.done:
            self._empty()
        total = _total(answer) if answer.status == 206 else answer.length
        if wanted.size is not None and total not in (None, wanted.size):
            raise self._wrong(f"{answer.host} has a file of {total:,} bytes, expected {wanted.size:,} bytes")
        part.state = PartState(shown(wanted.url), validator, total, wanted.sha256)
        self._check_room()

    def _check_range(self, answer: WebResponse, validator: str) -> None:
        """A partial answer must be the rest of the same file, from exactly here."""
        part = self._part
        match = re.match(r"bytes (\d{1,18})-", answer.headers.get("content-range", ""))
        if match is None or int(match[1]) != part.done:
            raise self._anew(f"{answer.host} sent another part than the one from {part.done:,} bytes on")
        before = part.state
        if (validator and before.validator and validator != before.validator) or (
            before.size is not None and _total(answer) not in (None, before.size)
        ):
            raise self._anew(f"{answer.host} has another version of it now")

    def _write(self, chunk: bytes, answer: WebResponse) -> None:
        part = self._part
        before = part.done
        if self.size is not None and before + len(chunk) > self.size:
            raise self._wrong(f"{answer.host} sends more than the {self.size:,} bytes that it should have")
        if before < HEAD and before == len(self._head):
            self._head = (self._head + chunk)[:HEAD]
        if self.size is None and before + len(chunk) > MOST_UNKNOWN:
            hint = "download it with a browser, then: sosie model fetch FILE"
            raise self._wrong(f"{answer.host} does not say how long it is, and it is over {MOST_UNKNOWN:,} bytes", hint)
        self.received += len(chunk)
        if part.append(chunk):
            self._check_room()
        self.reached = max(self.reached, part.done)
        if before <= HEAD < part.done:
            self._check_start(answer)

    def _check_start(self, answer: WebResponse) -> None:
        """Refuses a body that begins as no model does, whatever its declared kind is."""
        if is_page(self._head) and self._part.path.suffix != ".html":
            raise self._not_a_model(answer, self._head)
        if self._head.startswith(LFS_POINTER):
            hint = "take the address of the file itself: on Hugging Face with /resolve/ in place of /raw/"
            raise self._wrong(f"{answer.host} sent a Git LFS pointer, which only says where the file is", hint)

    def _check_room(self) -> None:
        need = max(0, self.size - self._part.done) if self.size is not None else 0
        _check_room(self._part.path.parent, self._wanted.title, need)

    def _anew(self, why: str) -> BrokenOffError:
        """Empty again; the next try fetches the whole."""
        self._empty()
        return BrokenOffError(f"{why}; it starts anew", 0.0)

    def _not_a_model(self, answer: WebResponse, start: bytes) -> DownloadError:
        hint = ""
        if self._web.hubs.token(self._wanted.url)[0]:
            hint = self._web.refused(self._wanted.url, "").hint
        return self._wrong(f"{answer.host} answered {described(start, answer)} in place of the file", hint)

    def _wrong(self, what: str, hint: str = "") -> DownloadError:
        """Empty again: nothing of it is worth going on with."""
        self._empty()
        return DownloadError(N003, f"{self._wanted.title}: {what}", hint or "compare with its publisher's page")

    def _empty(self) -> None:
        self._head = b""
        self._part.restart()


def _validator(answer: WebResponse) -> str:
    """A strong ETag, else the date; both may stand in If-Range, a weak ETag may not (RFC 9110, 13.1.5)."""
    etag = answer.headers.get("etag", "")
    return etag if etag.startswith('"') else answer.headers.get("last-modified", "")


def _total(answer: WebResponse) -> int | None:
    match = re.match(r"bytes (?:\d+-\d+|\*)/(\d{1,18})$", answer.headers.get("content-range", ""))
    return int(match[1]) if match else None


def _is(size: int, sha256: str) -> str:
    return f"{size:,} bytes with SHA-256 {sha256}"


def _expected(wanted: Wanted) -> str:
    size = [f"{wanted.size:,} bytes"] if wanted.size is not None else []
    return " with ".join([*size, *([f"SHA-256 {wanted.sha256}"] if wanted.sha256 else [])])
