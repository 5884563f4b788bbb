"""The doctor on another machine: its cards and disk, and its model files by their headers.

A file is looked at through a copy of the same name and size that holds only what was fetched: the header, the
tensors of a few bytes (a LoRA's alphas), a fingerprint; the rest is a hole. So the checks of local files say
the same of it. Samples of its weights are probed in a small file of their own.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath

from sosie.core import Finding
from sosie.core.errors import BadModelError
from sosie.core.finding import Rule
from sosie.doctor.examined import Examined, examine_file
from sosie.doctor.machine import Needs, check_machine
from sosie.doctor.model_probe import EXPONENTS, LEAST, PACKED, PROBES, READ, SAMPLES, probe
from sosie.families import families
from sosie.files import gguf
from sosie.files.drafts import temporary_folder
from sosie.files.model_file import Known, identify_header
from sosie.files.pickles.archive import MAX_DIRECTORY, MAX_PICKLE
from sosie.files.pickles.pickled import is_pickled
from sosie.files.safetensors import BITS, MAX_HEADER, Header, read_header
from sosie.files.whole import make_file, write_whole
from sosie.machines.machine import ByteRange, Machine, MachineFile
from sosie.machines.remote import Remote
from sosie.machines.ssh import Tunnel
from sosie.workspace.known import MAX_TENSOR

X005 = Rule("SOS-X005", "info", "A machine's host key was taken at first contact")
X006 = Rule("SOS-X006", "warning", "A new login would fail while an open line goes on")
X010 = Rule("SOS-X010", "info", "A file on a machine cannot be examined from afar")

START = 4_096
"""Bytes that are read first: enough to tell what kind of file it is."""

SCALAR = 16
"""Bytes of the largest tensor that is taken for a single number."""

WHOLE = 128 * 2**20
"""An old pickle, whose storages tell their sizes between them, is fetched as a whole up to so many bytes."""

LEAST_DISK = 2 * 10**9
"""Bytes that a disk should have free for images and temporary files."""


def check_line(tunnel: Tunnel) -> list[Finding]:
    """SOS-X005 for a host key that was new, SOS-X006 where a new login would fail although the line is open."""
    name, findings = tunnel.host.name, list[Finding]()
    if tunnel.new_key:
        findings.append(taken_key(name, tunnel.new_key))
    if error := tunnel.check():
        message = f"the open line to {name} works, a new one would not: {error.message}"
        findings.append(X006.at(name, message, error.hint))
    return findings


def taken_key(name: str, key: str) -> Finding:
    """SOS-X005: a machine was not known, and its host key was taken; another one later is an error."""
    message = f"{name} was not known before; its host key was taken: {key}"
    return X005.at(name, message, "compare it with what the provider shows")


def check_remote_machine(machine: Remote, folder: str, needs: Needs | None = None) -> list[Finding]:
    """The findings of `check_machine`; without `needs`, whether the disk of `folder` has room for images."""
    needs = replace(needs or Needs(gpu=False, disk_bytes=LEAST_DISK), far=True)
    findings = check_machine(machine.facts(folder), needs)
    return [replace(found, subject=f"{machine.host.name}: {found.subject}") for found in findings]


def examine_on(machine: Machine, file: MachineFile, known: Path | None = None) -> Examined:
    """As `examine_file`; of a file on another machine a few ranges are read.

    `known` is the user's table of variants. Raises `SosieError` if the machine cannot be asked.
    """
    if not file.machine:
        return examine_file(Path(file.path), file.path, known)
    with temporary_folder() as folder:
        try:
            copy = _Copy(machine, file, folder)
        except OSError as error:
            why = f"a copy of its header cannot be written here ({error.strerror or error})"
            return Examined(file.name, findings=(_not_examined(file, why),))
        found = _look(copy, known)
        names = {str(copy.path): file.name, str(copy.samples): file.name}
        what = found.what and replace(found.what, path=Path(file.path))
        return replace(found, what=what, findings=tuple(_renamed(finding, names) for finding in found.findings))


class _Copy:
    """A file of the same name and size as the one on the machine, with holes where nothing was fetched."""

    def __init__(self, machine: Machine, file: MachineFile, folder: Path) -> None:
        self.machine = machine
        self.file = file
        self.path = folder / PurePosixPath(file.path).name
        self.samples = folder / f"samples of {self.path.name}"[:200]
        make_file(self.path)
        with self.path.open("r+b") as stream:
            stream.truncate(file.size)
        self.start = b""
        if file.size:
            self.start = self.fetch([ByteRange(0, START)])[0]

    def fetch(self, ranges: Sequence[ByteRange]) -> list[bytes]:
        """Reads ranges, cut at the file's end, and puts them into the copy."""
        size = self.file.size
        cut = [ByteRange(one.start, max(0, min(one.length, size - one.start))) for one in ranges if one.start < size]
        pieces = self.machine.read(self.file, cut) if cut else []
        with self.path.open("r+b") as stream:
            for one, piece in zip(cut, pieces, strict=True):
                stream.seek(one.start)
                stream.write(piece)
        return pieces


def _look(copy: _Copy, known: Path | None) -> Examined:
    file, header = copy.file, None
    if copy.start.startswith(b"GGUF"):
        copy.fetch([ByteRange(0, gguf.MAX_HEADER + START)])
    elif is_pickled(copy.start):
        if not _fetch_pickle(copy):
            why = f"it is a pickle in torch's old format of {file.size:,} bytes, which tells its sizes all over"
            return Examined(file.name, findings=(_not_examined(file, why),))
    else:
        header = _fetch_safetensors(copy)
    found = examine_file(copy.path, file.name, known, header)
    if header is None or (found.what and found.what.role == "lora"):
        return found
    # The copy's holes are zeros, of which its probe has nothing to say.
    findings = [finding for finding in found.findings if finding.code not in PROBES]
    return replace(found, findings=(*findings, *_probe(copy, header)))


def _fetch_safetensors(copy: _Copy) -> Header | None:
    """The header, single numbers and the fingerprint; None if there is no valid header."""
    length = int.from_bytes(copy.start[:8], "little")
    if 2 <= length <= MAX_HEADER and 8 + length > len(copy.start):
        copy.fetch([ByteRange(0, 8 + length)])
    try:
        header = read_header(copy.path)
    except BadModelError:
        return None
    base = 8 + length
    small = [info.offsets for info in header.tensors.values() if info.offsets[1] - info.offsets[0] <= SCALAR]
    answer = identify_header(copy.path, header, copy.file.size, families())
    if isinstance(answer, Known) and answer.model.fingerprint:
        offsets = header.tensors[answer.model.fingerprint].offsets
        small += [offsets] if offsets[1] - offsets[0] <= MAX_TENSOR else []
    copy.fetch([ByteRange(base + first, end - first) for first, end in small if end > first])
    return header


def _fetch_pickle(copy: _Copy) -> bool:
    """The pickle, and of a zip archive its directory; False for an old one that is too long to be fetched."""
    size = copy.file.size
    if not copy.start.startswith(b"PK"):
        if size > WHOLE:
            return False
        copy.fetch([ByteRange(0, size)])
        return True
    first = MAX_PICKLE + START
    tail_at = max(0, size - MAX_DIRECTORY - 2 * START)
    tail = copy.fetch([ByteRange(0, first), ByteRange(tail_at, size - tail_at)])[1]
    # torch writes the pickle first; an archive that was packed anew may have it elsewhere.
    for entry in re.finditer(rb"PK\x01\x02.{38}(.{4})[^\0/]{1,200}/data\.pkl", tail, re.DOTALL):
        at = int.from_bytes(entry[1], "little")
        if first < at < size:
            copy.fetch([ByteRange(at, first)])
        break
    return True


def _probe(copy: _Copy, header: Header) -> list[Finding]:
    """`model_probe` on samples of the weights, evenly spaced over the file."""
    names = _sampled(header)
    base = 8 + int.from_bytes(copy.start[:8], "little")
    wanted: list[ByteRange] = []
    entries: dict[str, object] = {}
    at = 0
    for name in names:
        info = header.tensors[name]
        item = BITS[info.dtype] // 8
        length = min(info.offsets[1] - info.offsets[0], READ) // item * item
        wanted.append(ByteRange(base + info.offsets[0], length))
        entries[name] = {"dtype": info.dtype, "shape": [length // item], "data_offsets": [at, at + length]}
        at += length
    if not names:
        return []
    pieces = copy.machine.read(copy.file, wanted)
    text = json.dumps(entries).encode()
    write_whole(copy.samples, len(text).to_bytes(8, "little") + text + b"".join(pieces))
    return probe(copy.samples, read_header(copy.samples))


def _sampled(header: Header) -> list[str]:
    """Names of at most `SAMPLES` weights in the order of their place, the last one among them."""

    def fits() -> Iterator[str]:
        for name, info in header.tensors.items():
            looked_at = info.dtype in EXPONENTS or info.dtype in PACKED
            if looked_at and name.endswith("weight") and info.offsets[1] - info.offsets[0] >= LEAST:
                yield name

    names = sorted(fits(), key=lambda name: header.tensors[name].offsets)
    if len(names) <= SAMPLES:
        return names
    return [names[round(i * (len(names) - 1) / (SAMPLES - 1))] for i in range(SAMPLES)]


def _not_examined(file: MachineFile, why: str) -> Finding:
    return X010.at(file.name, f"{file.name} was not examined: {why}", "examine it on that machine")


def _renamed(finding: Finding, names: dict[str, str]) -> Finding:
    """The finding with the file's own name in place of the copy's."""
    parts = {"subject": finding.subject, "message": finding.message, "hint": finding.hint}
    for copy, name in names.items():
        parts = {part: text.replace(copy, name) for part, text in parts.items()}
    return replace(finding, **parts)
