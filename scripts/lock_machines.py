"""Writes the lock files of `src/sosie/pods/locks`: versions and digests of wheels, a file a class of machine.

    python scripts/lock_machines.py

It needs `uv` on the PATH. Only wheels for Linux on x86-64 are kept, for each Python that Sosie runs on.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import tomllib
from collections import defaultdict
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
LOCKS = ROOT / "src" / "sosie" / "pods" / "locks"
PYTHONS = ("3.11", "3.12", "3.13")
TORCH = {"cu126": "2.7.1", "cu128": "2.10.0", "cu130": "2.14.1"}
"""The torch whose wheel on the index is of that CUDA (`machines.tables.PYPI_CUDA`)."""


def main() -> None:
    """One file for each class."""
    LOCKS.mkdir(exist_ok=True)
    for tag, torch in TORCH.items():
        found: dict[tuple[str, str], set[str]] = defaultdict(set)
        pythons: dict[tuple[str, str], list[str]] = defaultdict(list)
        size = 0
        for python in PYTHONS:
            packages = locked([*requirements(), f"torch=={torch}"], python)
            size = max(size, sum(min(wheel["size"] for wheel in one["wheels"]) for one in packages))
            for one in packages:
                key = (one["name"], one["version"])
                pythons[key].append(python)
                found[key] |= {wheel["hashes"]["sha256"] for wheel in one["wheels"]}
        lines = [f"# torch: {torch}+{tag}", f"# bytes: {size}"]
        for (name, version), hashes in sorted(found.items()):
            lines.append(f"{name}=={version}{marker(pythons[name, version])} \\")
            lines += [f"    --hash=sha256:{one} \\" for one in sorted(hashes)]
            lines[-1] = lines[-1].removesuffix(" \\")
        (LOCKS / f"{tag}.txt").write_text("\n".join(lines) + "\n", encoding="ascii")
        sys.stdout.write(f"{tag}: {len(found)} packages, {size / 1e9:.1f} GB\n")


def marker(pythons: list[str]) -> str:
    """For which Pythons a version is, where it is not for all."""
    if len(pythons) == len(PYTHONS):
        return ""
    return " ; " + " or ".join(f"python_version == '{one}'" for one in pythons)


def requirements() -> list[str]:
    """What Sosie needs to draw, without torch."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    local = [one for one in project["optional-dependencies"]["local"] if not one.startswith(("sosie", "torch>="))]
    return [*project["dependencies"], *local]


def locked(wanted: list[str], python: str) -> list[dict[str, Any]]:
    """The packages that uv chooses for a Python."""
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder) / "in.txt", Path(folder) / "pylock.toml"
        source.write_text("\n".join(wanted))
        words = ["uv", "pip", "compile", str(source), "--python-version", python, "--format", "pylock.toml", "-q"]
        more = ["--python-platform", "x86_64-manylinux_2_28", "--no-header", "--only-binary", ":all:", "-o"]
        subprocess.run([*words, *more, str(target)], check=True)  # noqa: S603
        return tomllib.loads(target.read_text())["packages"]


if __name__ == "__main__":
    main()
