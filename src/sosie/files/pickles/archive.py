"""The two containers that `torch.save` writes, opened without trusting them.

New (since torch 1.6): a zip archive whose members all start with one folder, `FOLDER/data.pkl` the
pickle and `FOLDER/data/KEY` the storages, all of them stored and not compressed. Old: a pickle of a
magic number, of a version, of the machine, of the object, of the storages' keys in order, then for
each storage its number of elements (8 bytes, little-endian) and its bytes.

Sources: torch `serialization.py` (`_save`, `_legacy_save`), APPNOTE.TXT of PKWARE for zip.
"""

from __future__ import annotations

import tarfile
import zipfile
from collections.abc import Mapping
from io import BytesIO
from typing import IO, cast

from sosie.files.pickles.bounded import Bounded
from sosie.files.pickles.machine import PickleMachine
from sosie.files.pickles.records import K004, K005, K006, K007, K008, PickleError, shown
from sosie.files.safetensors import BITS

MAX_PICKLE = 4 * 2**20
"""Longest pickle in bytes; one with 2,500 tensors has about 400 kB."""

MAX_DIRECTORY = 2 * 2**20
"""Longest read from a zip archive's directory in bytes; one of 10,000 tensors has about 1 MB."""

MAX_MEMBERS = 20_000

LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
LEGACY_VERSION = 1001

AGAIN = "download the file again and compare its SHA-256 with the publisher's"


def read_zip(stream: IO[bytes], machine: PickleMachine) -> object:
    """The object in a zip archive of torch; every storage that it names is there, whole, once."""
    try:
        sizes, pickle = _members(stream, machine)
    except PickleError:
        raise
    # zipfile lets a dozen exception types out of hostile archives (struct.error, UnicodeDecodeError, OverflowError...).
    except Exception as error:
        raise machine.bad(K005, f"is a damaged or incomplete zip archive ({shown(error)})") from None
    data = BytesIO(pickle)
    root = machine.run(data)
    if data.read(1):
        raise machine.bad(K007, "has more after the end of its pickle, where something can hide")
    for key, storage in machine.storages.items():
        expected = storage.elements * BITS[storage.dtype] // 8
        found = sizes.get(key)
        if found is None:
            raise machine.bad(K005, f"lacks the storage '{key}' of {expected:,} bytes")
        if found != expected:
            raise machine.bad(K005, f"has {found:,} bytes in the storage '{key}'; {expected:,} were expected")
    return root


def _members(stream: IO[bytes], machine: PickleMachine) -> tuple[Mapping[str, int], bytes]:
    """The size of each storage by its key, and the bytes of the pickle."""
    size = stream.seek(0, 2)
    stream.seek(-min(22, size), 2)
    end = stream.read(22)
    if end[:4] != b"PK\5\6" or end[20:] != b"\0\0":
        raise machine.bad(K005, "is truncated, or has bytes after its zip archive: it does not end as one")

    def refuse(asked: int) -> PickleError:
        return machine.bad(K004, f"has a zip directory of {asked:,} bytes (limit {MAX_DIRECTORY:,})")

    with zipfile.ZipFile(cast("IO[bytes]", Bounded(stream, MAX_DIRECTORY, refuse))) as archive:
        infos = archive.infolist()
        if len(infos) > MAX_MEMBERS:
            raise machine.bad(K004, f"has {len(infos):,} members (limit {MAX_MEMBERS:,})")
        if not infos or min(info.header_offset for info in infos):
            raise machine.bad(K006, "has bytes before its zip archive, or nothing in it")
        folder = infos[0].filename.partition("/")[0] + "/"
        names: set[str] = set()
        for info in infos:
            _check_member(info, folder, machine)
            if info.filename in names:
                raise machine.bad(K006, f"has two members with the name '{shown(info.filename)}'")
            names.add(info.filename)
        if sum(info.file_size for info in infos) > size:
            raise machine.bad(K006, f"claims more bytes in its members than the {size:,} that it has")
        if names & {f"{folder}constants.pkl", f"{folder}code/"} or any(n.startswith(f"{folder}code/") for n in names):
            raise machine.bad(K008, "is a TorchScript program, which holds code; a table of tensors was expected")
        if f"{folder}data.pkl" not in names:
            raise machine.bad(K008, "is a zip archive without data.pkl; torch.save writes one with it")
        length = archive.getinfo(f"{folder}data.pkl").file_size
        if length > MAX_PICKLE:
            raise machine.bad(K004, f"has a pickle of {length:,} bytes (limit {MAX_PICKLE:,})")
        with archive.open(f"{folder}data.pkl") as member:
            pickle = b"".join(iter(lambda: member.read(2**16), b""))
        storages = f"{folder}data/"
        sizes = {i.filename.removeprefix(storages): i.file_size for i in infos if i.filename.startswith(storages)}
    return sizes, pickle


def _check_member(info: zipfile.ZipInfo, folder: str, machine: PickleMachine) -> None:
    name = info.orig_filename
    plain = "\\" not in name and "\0" not in name and ":" not in name and ".." not in name.split("/")
    if not plain or not name.startswith(folder) or folder in ("/", "./"):
        raise machine.bad(K006, f"has a member '{shown(name)}' whose name leads out of its folder")
    if info.compress_type != zipfile.ZIP_STORED or info.compress_size != info.file_size or info.flag_bits & 1:
        raise machine.bad(
            K006,
            f"has a compressed or encrypted member '{shown(name)}' ({info.compress_size:,} of {info.file_size:,} bytes)"
            "; torch.save only stores",
        )


def read_legacy(stream: IO[bytes], machine: PickleMachine) -> object:
    """The object in the old container; the storages after it are there, whole, and nothing follows them."""
    size = stream.seek(0, 2)
    stream.seek(0)
    data = BytesIO(stream.read(MAX_PICKLE))
    _refuse_tar(data.read(512), machine)
    data.seek(0)
    magic, version, system = machine.run(data), None, None
    if magic == LEGACY_MAGIC:
        version, system = machine.run(data), machine.run(data)
    if machine.refused:
        raise machine.refusal()
    if magic != LEGACY_MAGIC or version != LEGACY_VERSION or not isinstance(system, dict):
        raise machine.bad(K008, "is a pickle that torch.save did not write; a table of tensors was expected")
    root = machine.run(data)
    if machine.refused:
        raise machine.refusal()
    keys = machine.run(data)
    if not isinstance(keys, list) or not all(type(key) is str for key in cast("list[object]", keys)):
        raise machine.bad(K005, "has no list of its storages' keys")
    order = cast("list[str]", keys)
    if len(set(order)) != len(order) or set(order) != set(machine.storages):
        raise machine.bad(K005, "has a list of storages that is not that of its tensors")
    _check_storages(stream, data.tell(), (order, size), machine)
    return root


def _refuse_tar(block: bytes, machine: PickleMachine) -> None:
    """What is a tar archive too is refused: torch tries that first, and would read another file than was checked."""
    try:
        tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
    except tarfile.HeaderError:
        return
    raise machine.bad(K008, "is a pickle and a tar archive at once; torch.save writes no such file")


def _check_storages(stream: IO[bytes], position: int, listed: tuple[list[str], int], machine: PickleMachine) -> None:
    order, size = listed
    for key in order:
        storage = machine.storages[key]
        stream.seek(position)
        count = int.from_bytes(stream.read(8), "little")
        position += 8 + storage.elements * BITS[storage.dtype] // 8
        if position > size:
            raise machine.bad(K005, f"is truncated: it has {size:,} bytes and storage '{key}' ends at {position:,}")
        if count != storage.elements:
            raise machine.bad(K005, f"has {count:,} elements in storage '{key}', expected {storage.elements:,}")
    if position < size:
        raise machine.bad(K007, f"has {size - position:,} bytes after its last storage, where something can hide")
