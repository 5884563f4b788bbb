"""Runs the light core's tests on every other supported Python that is at hand: no torch, no test marked `once`.

    python tests/other_pythons.py

Interpreters are looked for on the PATH and among pyenv's versions. None at hand is not an error:
it is said.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parent.parent
VERSIONS = ("3.11", "3.12", "3.13")


def interpreter(version: str) -> str | None:
    """A Python of that version which starts, or None."""
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    candidates = [shutil.which(f"python{version}"), *sorted(map(str, pyenv.glob(f"{version}.*/bin/python3")))]
    code = "import sys; print('%d.%d' % sys.version_info[:2])"
    for candidate in filter(None, candidates):
        done = subprocess.run([candidate, "-c", code], capture_output=True, text=True, check=False)
        if done.stdout.strip() == version:
            return candidate
    return None


def run(python: str, folder: Path) -> int:
    """The light core and its tests in a new environment."""
    subprocess.run([python, "-m", "venv", str(folder)], check=True)
    own = str(folder / "bin" / "python")
    install = [
        own,
        "-m",
        "pip",
        "install",
        "--quiet",
        str(ROOT),
        str(ROOT / "packages" / "sosie-mini"),
        str(ROOT / "packages" / "sosie-mini-z"),
        "pytest",
        "pytest-xdist",
        "hypothesis",
    ]
    subprocess.run(install, check=True)
    return subprocess.run(
        [
            own,
            "-m",
            "pytest",
            "-n",
            "auto",
            "--dist",
            "loadfile",
            "-m",
            "not local and not once",
            "-p",
            "no:cacheprovider",
        ],
        cwd=ROOT,
        check=False,
    ).returncode


def main() -> int:
    current = f"{sys.version_info.major}.{sys.version_info.minor}"
    worst = 0
    for version in VERSIONS:
        python = interpreter(version) if version != current else None
        if version == current:
            continue
        if python is None:
            print(f"Python {version}: not at hand, not tested")
            continue
        print(f"Python {version}: light core, without torch", flush=True)
        with tempfile.TemporaryDirectory() as folder:
            worst = max(worst, run(python, Path(folder) / "venv"))
    return worst


if __name__ == "__main__":
    sys.exit(main())
