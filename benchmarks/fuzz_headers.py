"""Coverage-guided fuzzing of everything that reads a file from elsewhere: model headers, LoRAs, pickles, graphs.

python benchmarks/fuzz_headers.py [CORPUS] [-max_total_time=300] [-rss_limit_mb=600]

Needs atheris (`pip install atheris`) and Sosie in the same environment; options are libFuzzer's. The first byte of an
input says what becomes of the rest: it is taken as it is, put behind a true length as a safetensors header, into
a zip archive as torch writes it, behind the letters GGUF, as a recording of nvidia-smi, or as a ComfyUI graph. Every
`SosieError` is an answer; any other exception, ten seconds for one input, or more memory than the limit is a crash.
"""

from __future__ import annotations

import io
import os
import sys
import tempfile
import zipfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["sosie"]):
    from sosie.core.errors import SosieError
    from sosie.doctor.loras import check_lora
    from sosie.doctor.machine import Needs, check_machine
    from sosie.doctor.model_files import check_model_file
    from sosie.graph.read import read_workflow
    from sosie.machines.facts import machine_from_smi

MEMORY = "/dev/shm"  # a file is written for each input: to memory where there is a disk of it
FOLDER = Path(tempfile.mkdtemp(prefix="sosie-fuzz-", dir=MEMORY if Path(MEMORY).is_dir() else None))


def safetensors(text: bytes) -> bytes:
    """The text as a header behind its own length, and a kilobyte of weights."""
    return len(text).to_bytes(8, "little") + text + b"\x3c" * 1024


def archive(body: bytes) -> bytes:
    """A zip archive as `torch.save` writes it, with `body` as its pickle and one storage."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_STORED) as members:
        members.writestr("archive/data.pkl", body)
        members.writestr("archive/data/0", bytes(64))
    return out.getvalue()


FORMS: tuple[Callable[[bytes], bytes], ...] = (bytes, safetensors, archive, b"GGUF".__add__, bytes, bytes)
MAYBE_LORA, MACHINE, GRAPH = (0, 1), 4, 5


def one_input(data: bytes) -> None:
    """Gives an input to what reads its kind."""
    kind, rest = (data[0] % len(FORMS), data[1:]) if data else (0, b"")
    if kind == MACHINE:
        check_machine(machine_from_smi(rest.decode("utf-8", "replace")), Needs(vram_mib=8000, dtype="bf16"))
        return
    path = FOLDER / "input.safetensors"
    path.write_bytes(FORMS[kind](rest))
    if kind == GRAPH:
        with suppress(SosieError):
            read_workflow(path)
        return
    check_model_file(path)
    if kind in MAYBE_LORA:
        check_lora(path, "zimage", "base")


def main() -> None:
    atheris.Setup([*sys.argv, "-print_final_stats=1", "-timeout=10"], one_input)
    atheris.Fuzz()


if __name__ == "__main__":
    os.environ.setdefault("SOSIE_CACHE", str(FOLDER))
    main()
