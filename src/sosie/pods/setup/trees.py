"""Many small files brought to a machine as one: packed in the same way each time, verified there, unpacked whole."""

from __future__ import annotations

import hashlib
import io
import tarfile
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

import sosie
from sosie.core.finding import Rule
from sosie.files.digest import file_digest
from sosie.machines.ssh import Command, Host, SshError, push, run

X013 = Rule("SOS-X013", "error", "A machine could not be made ready")

UNPACK = """
rm -rf -- "$2.part" && mkdir -p -- "$2.part" && tar -xf "$1" -C "$2.part" --no-same-owner || exit 5
: >"$2.part/.whole"
rm -rf -- "$2"; mv -- "$2.part" "$2" || exit 6
rm -f -- "$1"
"""


def tree_digest(tree: Mapping[str, Path | bytes]) -> str:
    """Of the names and contents of files, 64 hex digits."""
    found = hashlib.sha256()
    for name in sorted(tree):
        content = tree[name]
        one = hashlib.sha256(content).hexdigest() if isinstance(content, bytes) else file_digest(content)
        found.update(f"{name}\0{one}\n".encode("utf-8", "surrogateescape"))
    return found.hexdigest()


def bring_tree(
    host: Host, tree: Mapping[str, Path | bytes], folder: str, report: Callable[[int, int], None] | None = None
) -> None:
    """Makes `folder` (absolute) on a machine of files by their names in it. Raises `SshError`."""
    with tempfile.TemporaryDirectory() as here:
        packed = Path(here) / "tree.tar"
        with tarfile.open(packed, "w") as archive:
            for name in sorted(tree):
                _add(archive, name, tree[name])
        push(host, packed, f"{folder}.tar", report)
        ran = run(host, Command(UNPACK, (f"{folder}.tar", folder)), 600.0)
        if ran.code:
            raise SshError(X013, f"{host.name} cannot unpack {folder}.tar: {ran.err}", "is its disk full?")


def own_tree() -> dict[str, Path | bytes]:
    """The Sosie that runs, as it is installed or checked out here, by the names below a folder for PYTHONPATH."""
    root = Path(sosie.__file__).parent
    metadata = f"Metadata-Version: 2.1\nName: sosie\nVersion: {sosie.__version__}\n"
    found: dict[str, Path | bytes] = {f"sosie-{sosie.__version__}.dist-info/METADATA": metadata.encode()}
    for path in root.rglob("*"):
        if path.is_file() and "__pycache__" not in path.parts:
            found[f"sosie/{path.relative_to(root).as_posix()}"] = path
    return found


def _add(archive: tarfile.TarFile, name: str, content: Path | bytes) -> None:
    data = content if isinstance(content, bytes) else None
    entry = tarfile.TarInfo(name)
    entry.mode = 0o644
    if data is not None:
        entry.size = len(data)
        archive.addfile(entry, io.BytesIO(data))
        return
    path = Path(str(content)) if not isinstance(content, Path) else content
    entry.size = path.stat().st_size
    with path.open("rb") as stream:
        archive.addfile(entry, stream)
