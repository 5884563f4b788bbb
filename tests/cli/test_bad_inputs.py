"""Every command with every kind of bad input: one line, exit 0, 1 or 2, no traceback, and it does not wait."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from every_command import SPOILED, WORDS, bad_files, calls, commands, plain, spoilers

pytestmark = pytest.mark.once
Sosie = Callable[..., Any]
COMMANDS = dict(commands())
READERS = ("recipe list", "model list", "generate", "dataset check", "worker status")
"""Commands that read a workspace's own files, all together."""


def check(sosie: Sosie, label: str, words: list[str], workspace: Path) -> None:
    at = words.index("--") if "--" in words else len(words)
    done = sosie(*words[:at], "--workspace", workspace, *words[at:])
    printed = done.out + done.err
    assert done.code in (0, 1, 2), label
    assert "Traceback" not in printed, label
    assert "the details are in" not in printed, f"{label}: {printed[:1000]}"
    assert not {"\x1b", "\x9b", "\u202e"} & set(printed), label
    assert "anna" not in printed, label


@pytest.mark.parametrize("words", COMMANDS)
def test_every_command_takes_every_kind_of_bad_input(
    sosie: Sosie, workspace: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: str
) -> None:
    monkeypatch.chdir(workspace)
    values = {**WORDS, **{name: str(path) for name, path in bad_files(tmp_path / "bad").items()}}
    for label, call in calls(words, COMMANDS[words], values):
        if "\0" in label and "workspace" in label:
            continue
        check(sosie, label, call, workspace)


@pytest.mark.parametrize("name", SPOILED)
def test_a_spoiled_file_of_the_workspace_is_one_line(
    sosie: Sosie, workspace: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.chdir(tmp_path)
    found = list(spoilers(name, bad_files(tmp_path / "bad")))
    for index, (label, spoil) in enumerate(found):
        spoiled = tmp_path / "spoiled"
        shutil.copytree(workspace, spoiled, symlinks=True)
        spoil(spoiled)
        check(sosie, label, plain(READERS[index % len(READERS)]), spoiled)
        shutil.rmtree(spoiled)
