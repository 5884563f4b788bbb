"""The documents: README commands run as printed, and links lead somewhere."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from places import ROOT

OWN = ("make demo", "make test")


def commands(document: Path) -> list[str]:
    """Every `$ ...` line of the console blocks, in order, but the two that call these tests."""
    blocks = re.findall(r"```console\n(.*?)```", document.read_text(encoding="utf-8"), re.DOTALL)
    lines = [line[2:] for block in blocks for line in block.splitlines() if line.startswith("$ ")]
    return [line for line in lines if line not in OWN]


@pytest.mark.local
def test_every_command_of_the_readme_runs_as_printed(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "examples", tmp_path / "examples")
    path = f"{Path(sys.executable).parent}:/usr/bin:/bin"
    found = commands(ROOT / "README.md")
    assert len(found) >= 6
    for command in found:
        done = subprocess.run(
            ["bash", "-c", command],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
            timeout=400,
            env={"PATH": path, "HOME": str(Path.home())},
        )
        assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
        assert done.stdout.strip()


def test_the_readme_names_the_two_commands_that_do_everything() -> None:
    text = (ROOT / "README.md").read_text()
    makefile = (ROOT / "Makefile").read_text()
    for command in OWN:
        assert f"$ {command}" in text
        assert f"\n{command.removeprefix('make ')}:" in makefile


@pytest.mark.parametrize(
    "document",
    sorted(
        str(p.relative_to(ROOT))
        for p in [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("packages/*/*.md")]
    ),
)
def test_every_relative_link_leads_to_a_file(document: str) -> None:
    path = ROOT / document
    for target in re.findall(r"\]\((?!https?://|#)([^)#]+)", path.read_text(encoding="utf-8")):
        assert (path.parent / target).exists(), f"{document}: {target}"


def test_every_command_of_the_command_line_has_a_changelog_line() -> None:
    from sosie.cli.group import COMMANDS

    changelog = (ROOT / "CHANGELOG.md").read_text()
    assert [name for name in COMMANDS if f"sosie {name}" not in changelog] == []
