"""The documents: README commands run as printed, and links lead somewhere."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import click
import pytest
from places import ROOT

from sosie.cli.group import cli

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


DOCUMENTS = [
    *ROOT.glob("*.md"),
    *ROOT.glob("docs/**/*.md"),
    *ROOT.glob("packages/*/*.md"),
    *ROOT.glob("recipes/*.toml"),
]


def options_of(words: list[str]) -> tuple[list[str], set[str]]:
    """The command that these words begin with (`dataset build`), and its options; none if there is no such command."""
    found: click.Command = cli
    path: list[str] = []
    for word in words:
        inner = found.get_command(click.Context(found), word) if isinstance(found, click.Group) else None
        if inner is None:
            break
        found, path = inner, [*path, word]
    options = [name for param in found.params for name in (*param.opts, *param.secondary_opts)]
    return path, {*options, "--help", "--version"} if path else set()


def commands_in(text: str) -> list[tuple[str, list[str], list[str]]]:
    """What a document writes of `sosie` commands, indented or in backquotes: the text, its words, its options."""
    found: list[tuple[str, list[str], list[str]]] = []
    written = re.findall(r"`(sosie [^`]+)`|(?m:^(?: {4,}|\$ )(sosie .+)$)", text)
    for one in (" ".join((first or second).split()) for first, second in written):
        words = re.split(r"\s+", re.sub(r"#.*|\"[^\"]*\"|'[^']*'", " ", one))[1:]
        options = re.findall(r"(?<![\w-])(--[a-z][a-z0-9-]*)", one)
        found.append((one, [part for word in words for part in word.split("|")[:1]], options))
    return found


def test_every_option_that_a_document_names_exists() -> None:
    wrong: list[str] = []
    seen = 0
    for path in DOCUMENTS:
        for one, words, options in commands_in(path.read_text(encoding="utf-8")):
            command, known = options_of(words)
            seen += len(options)
            if known:
                wrong += [
                    f"{path.name}: {one}: {' '.join(command)} has no {name}" for name in options if name not in known
                ]
    assert seen > 60
    assert wrong == []
