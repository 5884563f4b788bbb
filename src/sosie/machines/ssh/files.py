"""Files on a machine: found, measured, and read in ranges, so that a header is known without a download."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import PurePosixPath

from sosie.core.errors import UsageError
from sosie.files.suffixes import SUFFIXES
from sosie.machines.machine import ByteRange, MachineFile
from sosie.machines.ssh.command import Command, Ran, run
from sosie.machines.ssh.host import Host
from sosie.machines.ssh.trouble import nonsense

MAX_FILES = 5_000
"""Most files of one listing."""

MAX_DEPTH = 8

MAX_READ = 256 * 2**20
"""Most bytes of one read, over all ranges."""

JOIN = 4_096
"""Ranges with a smaller gap between them are read as one."""

FIND = """
code=3
while IFS= read -r folder; do
[ -d "$folder" ] || continue
code=0
find -L "$folder" -maxdepth {depth} -type f \\( {names} \\) -exec sh -c '
for file do
stat -L -c "%s %Z %n" -- "$file" 2>/dev/null || stat -L -f "%z %c %N" -- "$file"
done' sh {{}} + 2>/dev/null </dev/null
done
exit $code
"""
"""`stat` as GNU and busybox have it, else as BSD has it. Other files than models are not listed."""

READ = """
while read -r start length; do tail -c "+$start" -- "$1" 2>/dev/null | head -c "$length"; done
"""
"""`tail` seeks in a file; `dd` with byte offsets is GNU's alone."""


def list_models(host: Host, *folders: str, optional: bool = False) -> tuple[MachineFile, ...]:
    """The model files in folders and below them, by path, by one command; links are followed, other files left out.

    Folders that are not there hold none. Raises `UsageError` for a path that is not absolute, `SshError` if there is
    none of the folders and they are not `optional`.
    """
    names = " -o ".join(f"-iname '*{suffix}'" for suffix in SUFFIXES)
    script = FIND.format(depth=MAX_DEPTH, names=names)
    lines = [f"{absolute(folder)}\n".encode("utf-8", "surrogateescape") for folder in folders]
    ran = run(host, Command(script, data=lines, limit=8_000_000), 120.0)
    if ran.code == 3 and not optional:
        raise nonsense(host, f"has no folder {folders[0]}", "name ComfyUI's folder in the address: ...:PORT/FOLDER")
    files = (_listed(host, line) for line in ran.text.splitlines())
    below = tuple(f"{PurePosixPath(folder)}/" for folder in folders)
    # A line break in a name makes lines that look like other files.
    found = {f.path: f for f in files if f and f.path.startswith(below) and f.path.lower().endswith(SUFFIXES)}
    return tuple(found[path] for path in sorted(found)[:MAX_FILES])


def find_file(host: Host, path: str) -> MachineFile | None:
    """A file with its size and time, or None if there is none."""
    script = '[ -f "$1" ] || exit 3\nstat -L -c "%s %Z %n" -- "$1" 2>/dev/null || stat -L -f "%z %c %N" -- "$1"'
    ran = run(host, Command(script, (absolute(path),)))
    if ran.code == 3:
        return None
    file = _listed(host, ran.text.rstrip("\n"))
    if file is None:
        raise _strange(host, "the size of a file", ran)
    return file


def read_ranges(host: Host, file: MachineFile, ranges: Sequence[ByteRange]) -> list[bytes]:
    """The bytes of each range, by one command. Ranges lie within the file.

    Raises `SshError` if what comes is not as long as asked for: the file became shorter, or is not readable.
    """
    merged = _merge(ranges)
    total = sum(one.length for one in merged)
    if total > MAX_READ:
        raise UsageError(f"{total:,} bytes of {file.name} were asked for; at most {MAX_READ:,} are read")
    lines = "".join(f"{one.start + 1} {one.length}\n" for one in merged)
    command = Command(READ, (absolute(file.path),), [lines.encode()], limit=total)
    ran = run(host, command, 60.0 + total / 100_000)
    if len(ran.out) != total:
        raise nonsense(host, f"sent {len(ran.out):,} of {total:,} bytes of {file.path}", "check its permissions")
    pieces: dict[int, bytes] = {}
    at = 0
    for one in merged:
        pieces[one.start] = ran.out[at : at + one.length]
        at += one.length
    return [_cut(merged, pieces, one) for one in ranges]


def free_bytes(host: Host, folder: str) -> int | None:
    """What is free for this user on the disk of a folder (or of its nearest parent that is there); None: not told."""
    script = 'at="$1"\nwhile [ ! -e "$at" ] && [ "$at" != / ]; do at=$(dirname -- "$at"); done\ndf -Pk -- "$at"'
    ran = run(host, Command(script, (absolute(folder),), limit=10_000))
    columns = ran.text.splitlines()[-1].split() if ran.text.strip() else []
    numbers = [word for word in columns[1:4] if word.isdecimal()]
    return int(numbers[2]) * 1024 if len(numbers) == 3 else None


def absolute(path: str) -> str:
    """The path, if it is an absolute one of a usual length; so it can be no option either."""
    if not path.startswith("/") or len(path) > 4000 or "\0" in path or "\n" in path:
        raise UsageError(f"{path[:200]!a} is no absolute path", "write it from / on")
    return path


def _listed(host: Host, line: str) -> MachineFile | None:
    """From a line of `stat`; None for what is none, such as the rest of a name with a line break in it."""
    words = line.split(" ", 2)
    if len(words) != 3 or not (words[0].isdecimal() and words[1].isdecimal() and words[2].startswith("/")):
        return None
    if not words[2].isprintable() or len(words[0]) > 16 or len(words[1]) > 16:
        return None
    return MachineFile(str(PurePosixPath(words[2])), int(words[0]), int(words[1]), host.name)


def _merge(ranges: Sequence[ByteRange]) -> list[ByteRange]:
    merged: list[ByteRange] = []
    for one in sorted(ranges, key=lambda one: one.start):
        last = merged[-1] if merged else None
        if last is not None and one.start <= last.start + last.length + JOIN:
            merged[-1] = ByteRange(last.start, max(last.length, one.start + one.length - last.start))
        else:
            merged.append(one)
    return merged


def _cut(merged: Sequence[ByteRange], pieces: dict[int, bytes], one: ByteRange) -> bytes:
    whole = next(m for m in reversed(merged) if m.start <= one.start)
    return pieces[whole.start][one.start - whole.start :][: one.length]


def _strange(host: Host, what: str, ran: Ran) -> Exception:
    return nonsense(host, f"did not tell {what}: {ran.err[:120] or 'no reason given'}")
