"""A kill at any moment loses nothing finished and leaves no half record."""

from __future__ import annotations

import json
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from catalogues import ask

from sosie.files.images import read_image
from sosie.store import Store, pixels_digest

pytestmark = pytest.mark.once

N = 6


def command(workspace: Path, out: Path) -> list[str]:
    return [
        sys.executable,
        "-c",
        "from sosie.cli import main; main()",
        "generate",
        "mira",
        "smiling",
        "-n",
        str(N),
        "--seed",
        "11",
        "--engine",
        "fake",
        "--workspace",
        str(workspace),
        "--out",
        str(out),
        "--json",
    ]


def check_store(workspace: Path) -> int:
    """The store opens, is whole, and every render has its image; the number of renders."""
    with Store.open(workspace / ".sosie") as store:
        renders = store.counts()["renders"]
    catalogue = workspace / ".sosie" / "catalogue.sqlite"
    assert ask(catalogue, "PRAGMA integrity_check") == [("ok",)]
    assert ask(catalogue, "PRAGMA foreign_key_check") == []
    rows = ask(catalogue, "SELECT image, pixels FROM renders JOIN images ON images.sha256 = renders.image")
    assert len(rows) == renders
    for sha256, pixels in rows:
        path = workspace / ".sosie" / "images" / sha256[:2] / f"{sha256}.png"
        assert pixels_digest(read_image(path)) == pixels
    assert ask(catalogue, "SELECT id FROM scorecards WHERE id NOT IN (SELECT scorecard FROM scores)") == []
    return renders


def test_kill_9_at_any_moment_and_the_same_command_does_only_the_missing_work(workspace: Path, tmp_path: Path) -> None:
    moments = random.Random(4)
    survived = [0]
    for _ in range(5):
        process = subprocess.Popen(
            command(workspace, tmp_path / "out"), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        )
        assert process.stdout is not None
        for _ in range(moments.randint(0, 2)):
            process.stdout.readline()
        time.sleep(moments.random() * 0.3)
        process.send_signal(signal.SIGKILL)
        process.wait()
        process.stdout.close()
        if (workspace / ".sosie" / "catalogue.sqlite").exists():
            survived.append(check_store(workspace))
    assert survived == sorted(survived)
    assert survived[-1] > 0
    finished = subprocess.run(
        command(workspace, tmp_path / "out"), capture_output=True, text=True, check=False, timeout=300
    )
    assert finished.returncode == 0, finished.stderr
    assert check_store(workspace) == len(finished.stdout.splitlines())
    straight = subprocess.run(
        command(workspace, tmp_path / "out2"), capture_output=True, text=True, check=False, timeout=300
    )
    plans = [[json.loads(line)["plan"] for line in run.stdout.splitlines()] for run in (finished, straight)]
    assert plans[0] == plans[1]
    assert len(list((tmp_path / "out").glob("mira-*.png"))) == N
    assert not list((tmp_path / "out").glob(".*"))


def test_an_interrupt_exits_130_and_says_how_to_go_on(workspace: Path, tmp_path: Path) -> None:
    process = subprocess.Popen(
        command(workspace, tmp_path / "out"),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # A job in the background is started with the interrupt ignored, and passes that on.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # noqa: PLW1509
    )
    assert process.stdout is not None
    process.stdout.readline()
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=120)
    assert process.returncode == 130
    assert "run the same command again" in err
    assert check_store(workspace) >= 1
