"""Uploads to a machine that go on where they broke off, and end only when the far side has hashed the file.

The file grows as `.NAME.sosie.part` beside its place and gets its name when its SHA-256, computed there, is the
right one. Each try writes at a fixed place of the file, so that a leftover of an earlier one can spoil nothing.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from sosie.core.errors import NotFoundError, UsageError
from sosie.core.finding import Rule
from sosie.files.digest import file_digest
from sosie.files.regular import open_regular
from sosie.machines.ssh.command import Command, Ran, run
from sosie.machines.ssh.files import absolute, find_file, free_bytes
from sosie.machines.ssh.host import Host
from sosie.machines.ssh.trouble import SshError

X007 = Rule("SOS-X007", "error", "A file could not be brought to a machine")

BLOCK = 2**20
"""Bytes of `dd`'s blocks: an upload goes on at a multiple of them."""

RESERVE = 10**9
"""Bytes that stay free there."""

TRIES = 8
"""So many broken lines in a row are borne; a try that brought something starts the count anew."""

SLOWEST = 50_000
"""Bytes a second that a line must have on average."""

HASH = """
sum() { sha256sum -- "$1" 2>/dev/null || shasum -a 256 -- "$1" 2>/dev/null || openssl dgst -sha256 -r -- "$1"; }
"""

RECEIVE = """
umask 022
mkdir -p -- "$(dirname -- "$1")" || exit 4
exec dd of="$1" bs={block} seek="$2" conv=notrunc 2>/dev/null
"""

FINISH = (
    HASH
    + """
found=$(sum "$1") || exit 5
[ "${found%% *}" = "$3" ] || { rm -f -- "$1"; exit 6; }
[ ! -e "$2" ] || exit 7
mv -- "$1" "$2"
"""
)

Report = Callable[[int, int], None]
"""Called with (bytes that are there, bytes in all)."""


@dataclass(frozen=True)
class Pushed:
    """What an upload came to. `sent` counts the bytes that went over the line, 0 if the file was there already."""

    path: str
    sha256: str
    size: int
    sent: int


def push(host: Host, local: Path, remote: str, report: Report | None = None) -> Pushed:
    """Brings the file `local` to the absolute path `remote` of a machine, and verifies it there.

    A file that is there with the same content is left as it is. Raises `NotFoundError` without the local file,
    `SshError` if another one has the name, the disk has no room, or the line breaks too often: what has arrived
    stays there for the next try.
    """
    if not local.is_file():
        raise NotFoundError(f"{local} does not exist, or is no file")
    if not local.stat().st_size:
        raise UsageError(f"{local} is empty")
    size, digest, place = local.stat().st_size, file_digest(local), PurePosixPath(absolute(remote))
    there = find_file(host, remote)
    if there is not None:
        if there.size == size and remote_digest(host, remote) == digest:
            return Pushed(remote, digest, size, 0)
        hint = f"rename one of the two: {local}"
        raise SshError(X007, f"{host.name} has another file at {remote} ({there.size:,} bytes)", hint)
    part = str(place.with_name(f".{place.name}.sosie.part"))
    upload = _Upload(host, local, part, size, report or (lambda _done, _all: None))
    sent = upload.send()
    ran = run(host, Command(FINISH, (part, remote, digest)), 60.0 + size / 20_000_000)
    if ran.code == 6:
        # What lay there was not a beginning of this file, or the file changed in the meantime.
        upload = _Upload(host, local, part, size, upload.report)
        sent += upload.send()
        ran = run(host, Command(FINISH, (part, remote, digest)), 60.0 + size / 20_000_000)
    _expect_done(host, remote, ran)
    return Pushed(remote, digest, size, sent)


class _Upload:
    """The bytes of one file under way to its part file there."""

    def __init__(self, host: Host, local: Path, part: str, size: int, report: Report) -> None:
        self._host = host
        self._local = local
        self._part = part
        self._size = size
        self.report = report

    def send(self) -> int:
        """Brings all that is missing; gives the number of bytes that were sent."""
        sent = failures = 0
        start = self._there()
        self._check_room(start)
        while start < self._size:
            block = start // BLOCK
            self.report(start, self._size)
            command = Command(RECEIVE.format(block=BLOCK), (self._part, str(block)), self._data(block * BLOCK))
            ran, broken = self._try(command, start)
            now = start if broken and broken.is_final else self._there_after(broken)
            sent += max(0, now - block * BLOCK)
            if broken is not None:
                failures = 1 if now > start else failures + 1
                if broken.is_final or failures >= TRIES:
                    raise broken
                time.sleep(min(0.25 * 2**failures, 30.0))
            elif now < self._size:
                said = ran.err if ran else ""
                raise SshError(
                    X007, f"{self._host.name} cannot write {self._part}: {said or 'its disk may be full'}", _DISK
                )
            start = now
        self.report(self._size, self._size)
        return sent

    def _try(self, command: Command, start: int) -> tuple[Ran | None, SshError | None]:
        try:
            return run(self._host, command, 60.0 + (self._size - start) / SLOWEST), None
        except SshError as error:
            return None, error

    def _there(self) -> int:
        """How many bytes of the part file are there; one that is longer than the file is removed."""
        found = find_file(self._host, self._part)
        if found is not None and found.size > self._size:
            run(self._host, Command('rm -f -- "$1"', (self._part,)))
            return 0
        return found.size if found else 0

    def _there_after(self, broken: SshError | None) -> int:
        """As `_there`; after a broken line it may take some tries to ask."""
        for attempt in range(TRIES):
            try:
                return self._there()
            except SshError as error:
                if broken is None or error.is_final or attempt == TRIES - 1:
                    raise
                time.sleep(min(0.25 * 2**attempt, 30.0))
        raise AssertionError("unreachable")

    def _check_room(self, start: int) -> None:
        free = free_bytes(self._host, self._part)
        needed = self._size - start + RESERVE
        if free is not None and free < needed:
            message = f"{self._host.name} has {free / 1e9:.1f} GB free; {self._local.name} needs {needed / 1e9:.1f} GB"
            raise SshError(X007, message, _DISK)

    def _data(self, start: int) -> Iterator[bytes]:
        with open_regular(self._local) as stream:
            stream.seek(start)
            at = start
            while chunk := stream.read(BLOCK):
                yield chunk
                at += len(chunk)
                self.report(min(at, self._size), self._size)


_DISK = "free some space there"


def remote_digest(host: Host, path: str) -> str:
    """The SHA-256 of a file there, computed there; empty if it cannot be told."""
    ran = run(host, Command(f'{HASH}\nsum "$1"', (path,)), 600.0)
    word = ran.text.split(" ", 1)[0].strip().lstrip("\\")
    return word if len(word) == len(hashlib.sha256().hexdigest()) else ""


def _expect_done(host: Host, remote: str, ran: Ran) -> None:
    if ran.code == 0:
        return
    reasons = {
        5: "it has no sha256sum, shasum or openssl to verify what arrived",
        6: "what arrived has another SHA-256, twice: its disk or memory is faulty, or the file changes here",
        7: "another file got its name in the meantime",
    }
    why = reasons.get(ran.code) or ran.err or f"exit code {ran.code}"
    raise SshError(X007, f"{host.name} did not get {remote}: {why}", "run the same command again")
