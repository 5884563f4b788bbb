"""Content-addressed raw images: `images/ab/<sha256>.png`, whole or not there.

An image is written to a temporary in its own folder, synced, renamed, and the folder synced: after
that neither a killed process nor a power cut can take it away or leave half of it.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from sosie.core.errors import StoreError
from sosie.files.png_writing import encode_png
from sosie.files.regular import open_regular
from sosie.files.whole import make_folder, write_whole
from sosie.store.faults import disk_fault

if TYPE_CHECKING:
    from PIL.Image import Image


@dataclass(frozen=True)
class Encoded:
    """An image as it is stored: PNG bytes, their SHA-256, and the digest of the pixels."""

    data: bytes
    sha256: str
    pixels: str
    width: int
    height: int


def pixels_digest(image: Image) -> str:
    """SHA-256 over `WIDTHxHEIGHT:MODE` and the raw decoded pixels, 64 hex digits.

    Two images with one digest are equal bit for bit, whatever file they came from.
    """
    width, height = image.size
    whole = hashlib.sha256(f"{width}x{height}:{image.mode}\n".encode())
    whole.update(image.tobytes())
    return whole.hexdigest()


def encode(image: Image) -> Encoded:
    """`image` as PNG, pixels only: no profile, comment or other metadata it may carry."""
    data = encode_png(image)
    return Encoded(data, hashlib.sha256(data).hexdigest(), pixels_digest(image), *image.size)


def path_of(folder: Path, sha256: str) -> Path:
    """Where the image of this digest lies below the folder of all images."""
    return folder / sha256[:2] / f"{sha256}.png"


def complaint(folder: Path, sha256: str) -> str:
    """Why the image cannot be used ("is missing", ...), or nothing if its bytes are as recorded."""
    path = path_of(folder, sha256)
    try:
        with open_regular(path) as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
    except FileNotFoundError:
        return "is missing"
    except OSError as error:
        raise disk_fault(path, error) from error
    return "" if found == sha256 else f"is damaged: its SHA-256 is {found[:12]}..."


def read(folder: Path, sha256: str) -> bytes:
    """The file of the image of this digest; `StoreError` if its bytes are not as recorded."""
    path = path_of(folder, sha256)
    why = "is missing"
    try:
        data = path.read_bytes()
        if hashlib.sha256(data).hexdigest() == sha256:
            return data
        why = "is damaged"
    except FileNotFoundError:
        pass
    except OSError as error:
        raise disk_fault(path, error) from error
    raise StoreError(f"the stored image {path} {why}", "run the same command again to render it anew")


def write(folder: Path, image: Encoded) -> Path:
    """Makes the image durable and returns its path; one that is there and sound is kept.

    A kept file gets the time of now, so that a sweep takes it for new. Raises `StoreError`.
    """
    path = path_of(folder, image.sha256)
    if not complaint(folder, image.sha256):
        try:
            os.utime(path)
            return path
        except FileNotFoundError:
            pass  # swept by another process since: written again below
        except OSError as error:
            raise disk_fault(path, error) from error
    try:
        make_folder(path.parent)
        write_whole(path, image.data)
    except OSError as error:
        raise disk_fault(path, error) from error
    return path


def folders(folder: Path) -> list[Path]:
    """The folders below that of all images."""
    return sorted(folder.glob("??"))


def older_than(folder: Path, age: float) -> Iterator[tuple[Path, float]]:
    """Every image below `folder` last written over `age` seconds ago, with that time (epoch)."""
    limit = time.time() - age
    # Earlier versions called unfinished files .tmp.
    for pattern in (".*.tmp", "*.png"):
        for path in folder.glob(f"??/{pattern}"):
            try:
                written = path.stat().st_mtime
            except FileNotFoundError:
                continue
            if written < limit:
                yield path, written
