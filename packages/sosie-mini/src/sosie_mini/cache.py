"""The expanded folder's life in the user's cache: made once, whole or not at all, checked, repaired.

A new folder is built under a temporary name beside its place and takes its
name in one rename; whoever loses that race throws an equal copy away. A damaged file is replaced
by one rename of its own, so a process that is reading the folder never finds a file missing.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import secrets
import shutil
import sys
import time
from collections.abc import Callable, Generator
from dataclasses import dataclass
from pathlib import Path

from platformdirs import user_cache_dir

from sosie_mini.errors import MiniError
from sosie_mini.manifest import Manifest, PackedFile, file_digest

MARKER = ".complete"
STALE_SECONDS = 3600
"""A temporary folder untouched for this long belongs to no living process: building takes seconds."""

FRESH_SECONDS = 10
"""A temporary folder touched within this may be one that its process is about to hold."""

_REINSTALL = "reinstall the package: pip install --force-reinstall --no-deps packages/sosie-{}"

Expand = Callable[[bytes, str], bytes]
"""What the packed file at a path expands to."""

_checked: dict[Path, tuple[tuple[int, ...], ...]] = {}
"""Folders whose digests this process has checked, with what `_state` said of each file then."""


def cache_folder() -> Path:
    """`SOSIE_CACHE`, or the user's cache folder for Sosie; it may not exist yet."""
    named = os.environ.get("SOSIE_CACHE")
    return Path(named).expanduser().absolute() if named else Path(user_cache_dir("sosie", appauthor=False))


def expanded_bytes(packed: bytes, path: str) -> bytes:
    """What the packed file `path` expands to: safetensors are unpacked, all others stay as they are."""
    if not path.endswith(".safetensors"):
        return packed
    from sosie_mini.packing import expand  # numpy, which a folder that is ready does not need

    return expand(packed)


@dataclass(frozen=True)
class Package:
    """What a package of weights holds: its model's name, the folder `weights` of packed files, and what they become.

    The distribution is called `sosie-NAME`.
    """

    name: str
    weights: Path
    manifest: Manifest
    expand: Expand = expanded_bytes

    @property
    def reinstall(self) -> str:
        """How the user gets a damaged one whole again."""
        return _REINSTALL.format(self.name)


def ensure_folder(package: Package, models: Path, verify: bool = False) -> Path:
    """The folder below `models` that holds what the package's manifest says, expanded if need be.

    Every call checks sizes and the marker. Digests of all files are checked when this process
    asks for the first time, when a file has changed since, and when `verify` is set. Raises
    `MiniError` for a damaged file in the package and for a cache that cannot be written.
    """
    manifest = package.manifest
    target = models / f"{package.name}-{manifest.weights_digest[:12]}"
    _sweep(models)
    if _is_marked(target, manifest):
        seen = _state(target, manifest)
        if seen is not None and not verify and _checked.get(target) == seen:
            return target
        if not damaged_files(target, manifest):
            if seen is not None:
                _checked[target] = seen
            return target
    with _explained(models, manifest):
        _build(package, target)
    state = _state(target, manifest)
    if state is None or damaged_files(target, manifest):
        raise MiniError(
            f"{target} does not hold what was just written to it", "check the disk, or set SOSIE_CACHE to another"
        )
    _checked[target] = state
    return target


def damaged_files(folder: Path, manifest: Manifest) -> list[str]:
    """The paths in `manifest` whose file in `folder` is missing, of another size or of another digest."""
    bad: list[str] = []
    for file in manifest.expanded:
        path = folder / file.path
        try:
            good = path.stat().st_size == file.size and file_digest(path) == file.sha256
        except OSError:
            good = False
        if not good:
            bad.append(file.path)
    return bad


def _is_marked(folder: Path, manifest: Manifest) -> bool:
    try:
        return (folder / MARKER).read_text(encoding="ascii", errors="replace").strip() == manifest.digest
    except OSError:
        return False


def _state(folder: Path, manifest: Manifest) -> tuple[tuple[int, ...], ...] | None:
    """What tells whether a file was changed, of every file, or None if one is missing or has another size."""
    state: list[tuple[int, ...]] = []
    for file in manifest.expanded:
        try:
            found = (folder / file.path).stat()
        except OSError:
            return None
        if found.st_size != file.size:
            return None
        state.append((found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_dev, found.st_ino))
    return tuple(state)


def _build(package: Package, target: Path) -> None:
    """Expands beside `target`, then gives it the name, or the files that `target` lacks."""
    manifest = package.manifest
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.parent / f".{target.name}.{secrets.token_hex(4)}.part"
    held = -1
    try:
        temporary.mkdir()
        held = _hold(temporary)
        write_expanded(package, temporary)
        _write(temporary / MARKER, manifest.digest.encode("ascii"))
        for folder in {temporary, *(path for path in temporary.rglob("*") if path.is_dir())}:
            _sync_folder(folder)
        try:
            temporary.rename(target)
        except OSError:
            if not target.is_dir():
                raise
            _repair(temporary, manifest, target)
        _sync_folder(target.parent)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
        if held >= 0:
            os.close(held)


def write_expanded(package: Package, folder: Path) -> None:
    """Writes every expanded file of the package into `folder` and onto the disk.

    Raises `MiniError` if a packed file is missing or damaged.
    """
    packed = {file.path: file for file in package.manifest.packed}
    for file in package.manifest.expanded:
        source = packed[file.source]
        data = package.expand(_packed_bytes(package, source), source.path)
        if hashlib.sha256(data).hexdigest() != file.sha256:
            raise MiniError(f"{file.path} did not expand to what the manifest says", package.reinstall)
        path = folder / file.path
        path.parent.mkdir(parents=True, exist_ok=True)
        _write(path, data)


def _packed_bytes(package: Package, file: PackedFile) -> bytes:
    path = package.weights / file.path
    try:
        data = path.read_bytes()
    except OSError as error:
        raise MiniError(f"{path} cannot be read: {error.strerror}", package.reinstall) from None
    if len(data) != file.size:
        raise MiniError(f"{path} is damaged: {len(data)} bytes, expected {file.size}", package.reinstall)
    if hashlib.sha256(data).hexdigest() != file.sha256:
        raise MiniError(f"{path} is damaged: its SHA-256 is not the one in the manifest", package.reinstall)
    return data


def _repair(fresh: Path, manifest: Manifest, target: Path) -> None:
    """Moves the files that `target` lacks or has damaged out of `fresh`, one rename each; the marker last."""
    for path in damaged_files(target, manifest):
        (target / path).parent.mkdir(parents=True, exist_ok=True)
        (fresh / path).replace(target / path)
    (fresh / MARKER).replace(target / MARKER)


def _write(path: Path, data: bytes) -> None:
    with path.open("wb") as stream:
        stream.write(data)
        stream.flush()
        os.fsync(stream.fileno())


def _sync_folder(folder: Path) -> None:
    """Makes the names in `folder` last, where the system can do that."""
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _sweep(models: Path) -> None:
    """Removes temporary folders that killed processes left: those that are not held, or long untouched."""
    for path in (*models.glob(".mini-*.part"), *models.glob(".mini-*.tmp")):  # .tmp: of earlier versions
        with contextlib.suppress(OSError):
            age, held = time.time() - path.stat().st_mtime, -1
            if age > FRESH_SECONDS and path.suffix == ".part":
                held = _hold(path)
            if held >= 0 or age > STALE_SECONDS:
                shutil.rmtree(path, ignore_errors=True)
            if held >= 0:
                os.close(held)


def _hold(folder: Path) -> int:
    """The descriptor of a folder that this process holds until it is closed, or ends; -1 where that is not possible."""
    if sys.platform == "win32":
        return -1
    import fcntl

    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        return -1
    return descriptor


@contextlib.contextmanager
def _explained(models: Path, manifest: Manifest) -> Generator[None, None, None]:
    """Turns a failed write into a `MiniError` that says which folder, why, and what to do."""
    try:
        yield
    except OSError as error:
        needed = sum(file.size for file in manifest.expanded) / 1e6
        full = error.errno in {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
        raise MiniError(
            f"{models} cannot take the expanded model ({needed:.0f} MB): {error.strerror or error}",
            ("free some space there" if full else "make it writable") + ", or set SOSIE_CACHE to another folder",
        ) from error
