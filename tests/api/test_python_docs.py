"""`docs/python.md` runs as printed."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from places import ROOT


def blocks() -> list[str]:
    """The Python blocks, in order."""
    return re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "python.md").read_text(encoding="utf-8"), re.DOTALL)


def test_every_block_is_python_and_few_are_not_run() -> None:
    for block in blocks():
        compile(block, "docs/python.md", "exec")
    assert [block.splitlines()[0] for block in blocks() if block.startswith("# not run")] == [
        "# not run: it renders 60 images"
    ]


@pytest.mark.local
@pytest.mark.once
def test_the_blocks_run_as_one_program(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "examples", tmp_path / "examples")
    program = "\n".join(block for block in blocks() if not block.startswith("# not run"))
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, check=False, timeout=900
    )
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    assert len(list((tmp_path / "pictures").glob("mira-*.png"))) == 1
    for line in (" keep", "sface ", "valid", "finished", "lora", "character 'nora' does not exist"):
        assert line in done.stdout, f"no {line!r} in\n{done.stdout}"
