"""A file brought from a machine in pieces: a broken line only delays it, and it is verified here."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

from sosie.core.errors import NotFoundError
from sosie.core.finding import Rule
from sosie.files.digest import file_digest
from sosie.files.whole import give_name
from sosie.machines.machine import ByteRange
from sosie.machines.ssh.files import absolute, find_file, read_ranges
from sosie.machines.ssh.host import Host
from sosie.machines.ssh.push import TRIES, remote_digest
from sosie.machines.ssh.trouble import SshError

X014 = Rule("SOS-X014", "error", "A file could not be brought from a machine")

PIECE = 16 * 2**20


def pull(host: Host, remote: str, local: Path, report: Callable[[int, int], None] | None = None) -> Path:
    """Brings the file at the absolute path `remote` to `local`, whole and verified or not at all.

    What arrived stays for the next try. Raises `NotFoundError` for no file there, `SshError` if another one is here,
    the file changes meanwhile, or the line breaks too often.
    """
    there = find_file(host, absolute(remote))
    if there is None:
        raise NotFoundError(f"{host.name} has no file {remote}")
    digest = remote_digest(host, remote)
    if local.exists():
        if digest and local.is_file() and file_digest(local) == digest:
            return local
        raise SshError(X014, f"{local} is there already, and is another file", "move it away, or name another place")
    part = local.with_name(f".{local.name}.{(digest or str(there.changed))[:12]}.part")
    failures, done = 0, part.stat().st_size if part.exists() else 0
    while done < there.size:
        length = min(PIECE, there.size - done)
        try:
            (piece,) = read_ranges(host, there, [ByteRange(done, length)])
        except SshError as error:
            failures += 1
            if error.is_final or failures >= TRIES:
                raise
            time.sleep(min(0.25 * 2**failures, 30.0))
            continue
        failures = 0
        with part.open("ab") as stream:
            stream.write(piece)
            stream.flush()
            os.fsync(stream.fileno())
        done += length
        if report:
            report(done, there.size)
    part.touch()
    if digest and file_digest(part) != digest:
        part.unlink()
        raise SshError(X014, f"{remote} of {host.name} changed while it was brought", "run the same command again")
    give_name(part, local, overwrite=False)
    return local
