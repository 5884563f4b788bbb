"""What scripts read of commands, key by key and in order, and what `--help` says."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import lines
import pytest
from lines import PROSE, Printed

pytestmark = [pytest.mark.local, pytest.mark.once]

RECORDED: dict[str, Any] = json.loads(lines.FILE.read_text(encoding="utf-8"))
HELP: dict[str, str] = json.loads(lines.HELP.read_text(encoding="utf-8"))
CLOSE = 0.005
"""How far a measured number may be from the recorded one, absolute and relative: CPUs round differently."""

RANKED = "generate, by its own cohort"
"""Rates of 20 impostors jump by 1 / 20 where rounding changes their order: only that there are numbers is compared."""


@pytest.fixture(scope="module")
def printed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Printed]:
    return lines.run(tmp_path_factory.mktemp("lines"))


@pytest.fixture(scope="module")
def helps() -> dict[str, str]:
    # In a process of its own: click keeps a command's help option from whoever called it first.
    code = "import json, lines; print(json.dumps(lines.helps()))"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=lines.FILE.parent, capture_output=True, text=True, check=True
    )
    return json.loads(done.stdout)


def differences(expected: Any, found: Any, where: str) -> list[str]:
    """Where two values differ, as text; keys count in their order."""
    key = where.rpartition(".")[2]
    if key in PROSE or where == "doctor, an explanation.cause":
        return [] if bool(expected) == bool(found) and type(expected) is type(found) else [f"{where}: {found!r}"]
    if isinstance(expected, dict) and isinstance(found, dict):
        if list(expected) != list(found):
            return [f"{where}: keys {list(expected)} became {list(found)}"]
        return [text for name, value in expected.items() for text in differences(value, found[name], f"{where}.{name}")]
    if isinstance(expected, list) and isinstance(found, list):
        if len(expected) != len(found):
            return [f"{where}: {len(expected)} items became {len(found)}: {found}"]
        return [text for one, other in zip(expected, found, strict=True) for text in differences(one, other, where)]
    if type(expected) is not type(found):
        return [f"{where}: {expected!r} became {found!r}"]
    if isinstance(expected, float):
        close = where.startswith(RANKED) or found == pytest.approx(expected, rel=CLOSE, abs=CLOSE)
        return [] if close else [f"{where}: {expected} became {found}"]
    return [] if expected == found else [f"{where}: {expected!r} became {found!r}"]


@pytest.mark.parametrize("name", RECORDED)
def test_a_command_prints_the_recorded_lines(printed: dict[str, Printed], name: str) -> None:
    expected, found = RECORDED[name], printed[name]
    assert differences(expected["lines"], list(found.lines), name) == []
    assert found.code == expected["code"]


def test_every_command_that_is_run_is_recorded(printed: dict[str, Printed]) -> None:
    assert list(printed) == list(RECORDED)


def test_there_are_the_recorded_commands(helps: dict[str, str]) -> None:
    assert list(helps) == list(HELP)


@pytest.mark.parametrize("command", HELP)
def test_a_command_has_the_recorded_help(helps: dict[str, str], command: str) -> None:
    assert helps[command] == HELP[command]
