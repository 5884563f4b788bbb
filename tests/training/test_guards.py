"""What must never happen: torch in light commands, and imports that point up."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

PROBE = """
import sys
from sosie.cli import main
sys.argv = ["sosie", *sys.argv[1:]]
code = None
try:
    main()
except SystemExit as stop:
    code = stop.code
heavy = sorted({"torch", "diffusers", "transformers"} & set(sys.modules))
print("\\n##", code, *heavy)
"""


def ending(*arguments: object) -> list[str]:
    """The exit code and the heavy modules that a command leaves behind, in a process of its own."""
    command = [sys.executable, "-c", PROBE, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    return done.stdout.rpartition("##")[2].split() or [done.stderr]


def test_help_and_recipes_import_no_torch(workspace: Path) -> None:
    assert ending("--help") == ["0"]
    assert ending("recipe", "check", "mini", "--workspace", workspace) == ["0"]


def test_score_imports_no_torch(workspace: Path, references: list[Path]) -> None:
    assert ending("score", references[0], "--character", "mira", "--workspace", workspace) == ["0"]


def test_model_show_imports_no_torch(workspace: Path) -> None:
    assert ending("model", "show", "mini", "--workspace", workspace) == ["0"]


@pytest.mark.local
def test_the_guard_sees_torch_when_it_is_there() -> None:
    probe = PROBE.replace("import sys\n", "import sys, torch\n", 1)
    done = subprocess.run(
        [sys.executable, "-c", probe, "--help"], capture_output=True, text=True, check=False, timeout=300
    )
    assert done.stdout.rpartition("##")[2].split() == ["0", "torch"]


@pytest.mark.local
def test_engines_and_the_trainer_import_where_opencv_is_missing() -> None:
    probe = (
        "import sys; sys.modules['cv2'] = None\n"
        "import sosie.engines.diffusers, sosie.diffusion.face_pass, sosie.families.esrgan.on_diffusers\n"
        "import sosie.training.run, sosie.families.sdxl.training\n"
        "from sosie.families.contract.draws import Settings\n"
        "from sosie.families.sdxl.on_diffusers import Runner\n"
        "Runner('cpu', Settings()); print('imported')\n"
    )
    done = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=False, timeout=300)
    assert done.stdout.strip() == "imported", done.stderr
