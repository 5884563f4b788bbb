"""Fixtures: a workspace with the example character, and the command line in process."""

from __future__ import annotations

import importlib.util
import os
import shutil
import signal
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

# Read when NumPy and torch are first imported. Several tests run at once: threads of one would wait for another's.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import pytest
from asked_once import remember_answers
from hypothesis import HealthCheck, settings
from places import DESCRIPTION, EXAMPLES

if TYPE_CHECKING:
    from sosie.engines.comfy.fake import FakeServer

remember_answers()

# A test that fails does so because of a change, not of chance or of a busy machine. To search further:
# HYPOTHESIS_PROFILE=search pytest.
settings.register_profile("search", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("repeatable", settings.get_profile("search"), derandomize=True)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "repeatable"))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skips local generation where torch or the model is missing."""
    needed = ("torch", "diffusers", "sosie_mini", "sosie_mini_z")
    missing = [name for name in needed if importlib.util.find_spec(name) is None]
    for item in items:
        if missing and item.get_closest_marker("local"):
            item.add_marker(pytest.mark.skip(reason=f"not installed: {', '.join(missing)}"))


@pytest.fixture(scope="session")
def references() -> list[Path]:
    """The twelve CC0 renders of the example character."""
    return sorted(EXAMPLES.glob("*.jpg"))


@dataclass(frozen=True)
class Outcome:
    """What a command printed and how it ended."""

    code: int
    out: str
    err: str


@pytest.fixture
def sosie(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Callable[..., Outcome]:
    """Runs the command line in this process, through the entry point that users call."""
    from sosie.cli import main

    def run(*arguments: object) -> Outcome:
        capfd.readouterr()
        monkeypatch.setattr("sys.argv", ["sosie", *map(str, arguments)])
        handlers = [(number, signal.getsignal(number)) for number in (signal.SIGINT, signal.SIGTERM)]
        try:
            with pytest.raises(SystemExit) as stop:
                main()
        finally:
            for number, handler in handlers:
                signal.signal(number, handler)
        out, err = capfd.readouterr()
        code = stop.value.code
        return Outcome(int(code) if isinstance(code, int) else 1, out, err)

    return run


@pytest.fixture(scope="session")
def _made(tmp_path_factory: pytest.TempPathFactory, references: list[Path]) -> Path:
    from sosie.api.characters import new_character
    from sosie.workspace.characters import CharacterFile
    from sosie.workspace.session import Session
    from sosie.workspace.workspace import open_workspace

    root = tmp_path_factory.mktemp("workspace")
    with Session(open_workspace(root)) as session:
        new_character(session, CharacterFile("mira", "fictional", True, DESCRIPTION), references)
    return root


@pytest.fixture
def workspace(tmp_path: Path, _made: Path) -> Path:
    """A fresh workspace that holds the character `mira`."""
    root = tmp_path / "workspace"
    shutil.copytree(_made, root)
    return root


@pytest.fixture(autouse=True)
def _judging_here(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Images are judged in this process, with nets of their own: a test that wants processes is marked `processes`."""
    from sosie.loop.judge_room import Here, Processes

    if request.node.get_closest_marker("processes") is None:
        here = Here()
        monkeypatch.setattr(Processes, "open", Here.open)
        monkeypatch.setattr(Processes, "submit", lambda _, sitting: here.submit(sitting))


@pytest.fixture(autouse=True)
def _no_intervals(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fakes of providers are asked without the pauses that Vast.ai wants, which its fake does not ask for in tests."""
    monkeypatch.setattr("sosie.pods.providers.vast.Vast.intervals", ())


@pytest.fixture
def unprobed(monkeypatch: pytest.MonkeyPatch) -> None:
    """For model files that hold no data (`header_files`): their weights are not looked at."""
    monkeypatch.setattr("sosie.doctor.model_files.probe", lambda path, header: [])


@pytest.fixture
def near() -> Iterator[FakeServer]:
    """A ComfyUI server on this machine; what `comfy_bench` opened is closed with it."""
    from comfy_bench import close_all

    from sosie.engines.comfy.fake import FakeServer

    with FakeServer() as fake:
        yield fake
        close_all()
