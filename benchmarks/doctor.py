"""How fast the doctor is: one large file in process and as a command, a folder of 500, and its memory.

python benchmarks/doctor.py [--rounds 7] [--json FILE]

Files are sparse, with the true headers of published models. Commands are also shown as a ratio to `python -c pass`,
which a busy machine slows down alike.
"""

from __future__ import annotations

import argparse
import json
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from bad_inputs import HEADERS, dotted, fixture, flat, gguf, hollow, lora

TARGETS = {
    "12.31 GB Z-Image, in process": 0.05,
    "12.31 GB Z-Image, as a command": 0.6,
    "500 model files in a folder, as a command": 5.0,
}
"""Seconds; promised for an idle machine."""

PEAK_MIB = 64

PEAK = """
import sys
from pathlib import Path

def peak():  # of this process alone; ru_maxrss is that of the parent too
    return int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0])

start = peak()
from sosie.doctor.model_files import check_model_file
answer, findings = check_model_file(Path(sys.argv[1]))
print((peak() - start) / 1024)
"""
"""MiB beyond the interpreter's start, with everything that is imported to answer."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        result = measure(Path(name), options.rounds)
    print("| what | median (least) | target | against `python -c pass` |\n| --- | --- | --- | --- |")
    for what, (median, least, ratio) in result.items():
        unit, digits = ("MiB", 0) if "memory" in what else ("s", 3)
        target = PEAK_MIB if "memory" in what else TARGETS.get(what, "")
        against = f"{ratio:.1f}x" if ratio else ""
        print(f"| {what} | {median:.{digits}f} {unit} ({least:.{digits}f}) | {target} | {against} |")
    if options.json:
        keys = ("median", "least", "ratio")
        options.json.write_text(json.dumps({what: dict(zip(keys, row, strict=True)) for what, row in result.items()}))


def measure(folder: Path, rounds: int) -> dict[str, tuple[float, float, float]]:
    """Median, least, and the median as a multiple of a bare interpreter's start (0 for what is no command)."""
    from sosie.doctor.model_files import check_model_file

    zimage = hollow(folder / "z_image.safetensors", fixture("zimage-single"))
    sdxl = hollow(folder / "sdxl.safetensors", fixture("sdxl-checkpoint"))
    many = folder / "many"
    count = mixed(many, 500)
    assert count == 500
    long_header(folder / "long.safetensors")
    sosie = [str(Path(sys.executable).with_name("sosie")), "doctor", "--json", "--workspace", str(folder)]
    check_model_file(zimage)  # families and modules are loaded once
    inside: dict[str, Callable[[], object]] = {
        "12.31 GB Z-Image, in process": lambda: check_model_file(zimage),
        "SDXL checkpoint of 2,514 tensors, in process": lambda: check_model_file(sdxl),
    }
    commands = {
        "`python -c pass`": [sys.executable, "-c", "pass"],
        "12.31 GB Z-Image, as a command": [*sosie, str(zimage)],
        "SDXL checkpoint, as a command": [*sosie, str(sdxl)],
        "500 model files in a folder, as a command": [*sosie, str(many)],
    }
    times: dict[str, list[float]] = {name: [] for name in [*inside, *commands]}
    for _ in range(rounds):
        for name, call in inside.items():
            times[name].append(timed(call))
        for name, command in commands.items():
            times[name].append(timed(lambda command=command: run(command)))
    bare = float(np.median(times["`python -c pass`"]))
    result = {
        name: (float(np.median(values)), min(values), float(np.median(values)) / bare if name in commands else 0.0)
        for name, values in times.items()
    }
    for what, path in (("12.31 GB Z-Image", zimage), ("a header of 10 MB", folder / "long.safetensors")):
        peaks = [float(run([sys.executable, "-c", PEAK, str(path)])) for _ in range(3)]
        result[f"memory beyond the interpreter's start, {what}"] = (float(np.median(peaks)), min(peaks), 0.0)
    return result


def timed(call: Callable[[], object]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def run(command: list[str]) -> str:
    """What it prints; findings (exit 1) are no failure."""
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode in (0, 1), done.stderr
    return done.stdout


def mixed(folder: Path, count: int) -> int:
    """Fills a folder with `count` model files: half LoRAs, the rest of every kind that there is, a tenth damaged."""
    folder.mkdir()
    names = sorted(path.name.removesuffix(".json.gz") for path in HEADERS.glob("*.json.gz"))
    tables = {name: fixture(name) for name in names}
    for number in range(count):
        path = folder / f"{number:03}.safetensors"
        name = names[number // 2 % len(names)]
        if number % 2:
            kohya = number % 4 == 1
            suffixes = (".lora_down.weight", ".lora_up.weight") if kohya else (".lora_A.weight", ".lora_B.weight")
            lora(path, flat if kohya else dotted, suffixes, {})
        elif number % 50 == 0:
            hollow(path, tables[name], cut=0.5)
        elif number % 50 == 10:
            path.write_text("<!DOCTYPE html><html></html>" * 50)
        elif number % 50 == 20:
            gguf(path.with_suffix(".gguf"))
        elif number % 50 == 30:
            pickled(path.with_suffix(".bin"))
        else:
            hollow(path, tables[name])
    return sum(1 for path in folder.iterdir())


def pickled(path: Path) -> None:
    """A pickle of the old kind (no zip) that names a function: refused from its opcodes."""
    path.write_bytes(b"\x80\x02}(X\x01\x00\x00\x00acbuiltins\neval\n(X\x01\x00\x00\x001tRu.")


def long_header(path: Path) -> None:
    """A header of nearly 10 MB, the longest that is read: 18,000 tensors with names of 400 bytes."""
    stem = "model.diffusion_model.input_blocks." * 13
    table = {
        f"{stem}{number:05}": {"dtype": "F16", "shape": [8, 8], "data_offsets": [128 * number, 128 * number + 128]}
        for number in range(18_000)
    }
    text = json.dumps(table, separators=(",", ":")).encode()
    assert 9_000_000 < len(text) < 10_000_000, len(text)
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        file.truncate(8 + len(text) + 128 * len(table))


if __name__ == "__main__":
    main()
