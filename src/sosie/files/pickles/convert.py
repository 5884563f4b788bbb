"""A safetensors file from a pickled one, tensor by tensor the same bytes.

Two checks stand before the result: the opcodes hold nothing but tensors (`read_pickled`), and
torch's own weights-only reader, in a child process that has no rights it does not need, finds
exactly the names, dtypes and shapes that the opcodes promised.
"""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from sosie.core.errors import BadModelError, MissingExtraError, UsageError
from sosie.core.finding import Rule
from sosie.files.drafts import temporary_folder
from sosie.files.pickles.pickled import Pickled, read_pickled
from sosie.files.pickles.records import DTYPES, PickleError
from sosie.files.safetensors import Header, read_header
from sosie.files.whole import whole_draft

K020 = Rule("SOS-K020", "error", "Torch's weights-only reader refuses a pickled model")
K021 = Rule("SOS-K021", "error", "The process that converts a pickled model was stopped")
K022 = Rule("SOS-K022", "error", "A converted model is not what its pickle promised")

CHILD = Path(__file__).with_name("child.py")

BYTES_A_SECOND = 10 * 2**20
"""The slowest disk that the time limit allows for."""

START_SECONDS = 120

SPARE_MEMORY = 512 * 2**20


def convert(path: Path, out: Path, seconds: float | None = None) -> Pickled:
    """Writes `out`, a safetensors file with the tensors of the pickled file `path`.

    `out` appears whole or not at all. `seconds` limits the child; by default what the size explains.
    Raises `PickleError` if the file is refused (before torch sees it, or by torch), `UsageError` for
    an `out` that exists or has another ending, `MissingExtraError` where torch is not installed.
    """
    if out.suffix != ".safetensors":
        raise UsageError(
            f"{out} does not end in .safetensors, which is what is written", f"--out {out.stem}.safetensors"
        )
    if out.exists():
        raise UsageError(f"{out} exists already and is not overwritten", "name another file with --out")
    pickled = read_pickled(path)
    begun = False
    try:
        with whole_draft(out) as part:
            begun = True
            _run(pickled, part, seconds)
            _verify(pickled, part)
    except OSError as error:
        why = error.strerror or str(error)
        if not begun:
            raise UsageError(f"{out.parent} cannot be written to: {why}", "name another --out") from None
        raise BadModelError(f"{out} cannot be written: {why}", "free some space") from None
    return pickled


def header_bytes(header: Header, metadata: Mapping[str, str]) -> bytes:
    """The beginning of a safetensors file, padded with spaces so that the tensors are aligned to 8 bytes."""
    table: dict[str, Any] = {"__metadata__": dict(metadata)}
    for name, info in header.tensors.items():
        table[name] = {"dtype": info.dtype, "shape": list(info.shape), "data_offsets": list(info.offsets)}
    text = json.dumps(table, ensure_ascii=False, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text


def _run(pickled: Pickled, part: Path, seconds: float | None) -> None:
    header = pickled.header
    head = header_bytes(header, {"format": "pt"})
    sizes = [info.offsets[1] - info.offsets[0] for info in header.tensors.values()]
    if seconds is None:
        seconds = START_SECONDS + (pickled.bytes + sum(sizes)) / BYTES_A_SECOND
    torch_names = {name: torch_name for torch_name, name in DTYPES.items()}
    plan = {
        "header": base64.b64encode(head).decode(),
        "tensors": [
            [name, pickled.places[name], torch_names[info.dtype], info.shape] for name, info in header.tensors.items()
        ],
        "size": len(head) + sum(sizes),
        "seconds": int(seconds) + 1,
        "memory": pickled.bytes + 2 * max(sizes) + SPARE_MEMORY,
    }
    command = [sys.executable, "-I", str(CHILD), str(pickled.path.resolve()), str(part.resolve())]
    # Errors (no such thread, no space) may still come from the temp folder; they are the caller's OSError.
    with temporary_folder() as place, tempfile.TemporaryFile() as errors:
        empty = str(place)
        environment = {"HOME": empty, "TMPDIR": empty, "CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"}
        with suppress(KeyError):
            environment["SYSTEMROOT"] = os.environ["SYSTEMROOT"]  # without it Python does not start on Windows
        try:
            done = subprocess.run(  # noqa: S603 - our own script, by our own interpreter
                command,
                input=json.dumps(plan).encode(),
                stdout=subprocess.DEVNULL,
                stderr=errors,
                cwd=empty,
                env=environment,
                timeout=seconds,
                check=False,
            )
        except subprocess.TimeoutExpired:
            message = f"{pickled.path}: torch did not read it in {seconds:,.0f} s and was stopped"
            raise PickleError(K021, message, "copy the file to a faster disk") from None
        if done.returncode:
            errors.seek(max(0, errors.seek(0, os.SEEK_END) - 2000))
            raise _failure(pickled.path, done.returncode, errors.read())


def _failure(path: Path, code: int, errors: bytes) -> BadModelError | MissingExtraError:
    """What the child's end means: refused by torch, no torch, or killed by a limit."""
    text = errors.decode(errors="replace").strip()
    last = text.splitlines()[-1][:400] if text else ""
    if code == 4:
        return MissingExtraError(
            f"{path} is read with torch, which is not installed ({last})", "pip install 'sosie[local]'"
        )
    if code == 3:
        return PickleError(K020, f"{path}: torch's weights-only reader refuses it: {last}", _GET)
    why = f"signal {-code}" if code < 0 else f"exit {code}"
    return PickleError(K021, f"{path}: the process that reads it was stopped ({why}) {last}".rstrip(), _GET)


def _verify(pickled: Pickled, part: Path) -> None:
    """The new file's header is the one that the opcodes promised."""
    written = read_header(part)
    if dict(written.tensors) != dict(pickled.header.tensors):
        raise PickleError(K022, f"{pickled.path}: what was written is not what its opcodes promised", _GET)


_GET = "get the model as a .safetensors file from its publisher"
