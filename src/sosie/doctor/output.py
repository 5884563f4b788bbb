"""Checks that finished images can be written, and that the disk holds what a run will make."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

from sosie.core import Finding
from sosie.core.finding import Rule
from sosie.files.whole import make_folder

D001 = Rule("SOS-D001", "error", "The output folder cannot be written to")
D002 = Rule("SOS-D002", "warning", "The disk is too small for the output")

RESERVE = 64 * 2**20


def check_output(folder: Path, images: int, pixels: int) -> list[Finding]:
    """SOS-D001 if `folder` cannot be written to, SOS-D002 if its disk is too small.

    `images` images of `pixels` pixels each are counted at 4 bytes a pixel, above what a PNG needs.
    """
    try:
        make_folder(folder)
        with tempfile.TemporaryFile(dir=folder) as probe:
            probe.write(b"\0" * 4096)
            probe.flush()
            os.fsync(probe.fileno())
    except OSError as error:
        message = f"the output folder {folder} cannot be written to: {error.strerror or error}"
        return [D001.at(str(folder), message, "choose another folder with --out, or free its disk")]
    free, needed = shutil.disk_usage(folder).free, images * pixels * 4 + RESERVE
    if free < needed:
        message = f"the disk of {folder} has {_mib(free)} free; {images} images and a reserve need about {_mib(needed)}"
        return [D002.at(str(folder), message, "free some space, or choose another --out")]
    return []


def _mib(size: int) -> str:
    return f"{size / 2**20:.0f} MiB"
