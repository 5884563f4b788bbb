"""`docs/your-own-models.md` runs as printed: a creator's folder without weights, the embedded model, a fake server."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from creators_folder import PACKED, make
from far_machine import SMI, FarMachine, far_machine
from places import ROOT

from sosie.engines.comfy.fake import Behaviour, FakeServer, Scripted
from sosie.engines.comfy.fake.pictures import pictures_of
from sosie.files.digest import stamp

pytestmark = [pytest.mark.local, pytest.mark.once]

PAGE = ROOT / "docs" / "your-own-models.md"
MAIN = "from sosie.cli import main; main()"
NEAR, FAR = "127.0.0.1:8188", "port=8188"
"""Where the page has its two servers; a test takes ports that are free."""


def commands(page: str) -> list[tuple[str, int]]:
    """Every `$ ...` line of the console blocks, and its exit code."""
    blocks = re.findall(r"```console\n(.*?)```", page, re.DOTALL)
    lines = [line[2:] for block in blocks for line in block.splitlines() if line.startswith("$ ")]
    return [(line, int(found[1]) if (found := re.search(r"# exit (\d)", line)) else 0) for line in lines]


def serving(models: Path) -> FakeServer:
    """A server that has what lies in a folder, says where that is, and answers with pictures of the character."""
    folders = {folder.name: folder for folder in sorted(models.iterdir()) if folder.name != "insightface"}
    files = {
        name: tuple(sorted(file.relative_to(folder).as_posix() for file in folder.rglob("*") if file.is_file()))
        for name, folder in folders.items()
    }
    told = json.dumps({name: [str(folder)] for name, folder in folders.items()}).encode()
    scripted = {"/internal/folder_paths": Scripted(body=told)}
    return FakeServer(Behaviour(files=files, pictures=pictures_of(ROOT / "examples" / "mira"), scripted=scripted))


def remember_digests(cache: Path, models: Path) -> None:
    """As if the files had been read once: they are gigabytes of nothing."""
    cache.mkdir()
    with sqlite3.connect(cache / "digests.sqlite") as memory:
        memory.execute("CREATE TABLE stamped (path BLOB PRIMARY KEY, stamp TEXT NOT NULL, sha256 TEXT NOT NULL)")
        for file in (path.resolve() for path in models.rglob("*") if path.is_file()):
            made_up = hashlib.sha256(os.fsencode(file)).hexdigest()
            memory.execute("INSERT INTO stamped VALUES (?, ?, ?)", (os.fsencode(file), str(stamp(file)), made_up))
    memory.close()


@pytest.fixture
def far(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FarMachine:
    """The rented machine, whose folder still has both files of Z-Image."""
    machine = far_machine(tmp_path, lambda path: monkeypatch.setenv("PATH", path))
    make(machine.root / "ComfyUI" / "models")
    machine.program("nvidia-smi", f"cat <<'END'\n{SMI}\nEND")
    machine.program(
        "df", "echo Filesystem 1024-blocks Used Available Capacity Mounted; echo x 100000000 0 90000000 1% /"
    )
    return machine


@pytest.fixture
def here(tmp_path: Path) -> Path:
    folder = tmp_path / "work"
    shutil.copytree(ROOT / "examples", folder / "examples")
    make(folder / "ComfyUI" / "models")
    remember_digests(tmp_path / "cache", folder / "ComfyUI" / "models")
    return folder


@pytest.fixture
def ports(here: Path, far: FarMachine) -> Iterator[dict[str, str]]:
    with serving(here / "ComfyUI" / "models") as near, serving(far.root / "ComfyUI" / "models") as distant:
        yield {NEAR: near.url.removeprefix("http://"), FAR: f"port={distant.url.rpartition(':')[2]}"}


def test_every_command_of_the_page_runs_as_printed(
    here: Path, far: FarMachine, tmp_path: Path, ports: dict[str, str]
) -> None:
    path = os.environ["PATH"].split(os.pathsep)[0]  # the fake ssh
    environment = {
        "PATH": f"{path}:{Path(sys.executable).parent}:/usr/bin:/bin",
        "HOME": str(Path.home()),
        "SOSIE_CACHE": str(tmp_path / "cache"),
        "PYTHONPATH": os.environ.get("PYTHONPATH", ""),
        "COLUMNS": "200",
    }
    said: dict[str, str] = {}
    for command, code in commands(PAGE.read_text()):
        line = command
        for printed, free in ports.items():
            line = line.replace(printed, free)
        done = subprocess.run(
            ["bash", "-c", line], cwd=here, env=environment, capture_output=True, text=True, check=False, timeout=600
        )
        assert done.returncode == code, f"{command}\n{done.stdout}\n{done.stderr}"
        said[command] = done.stdout + done.stderr
    told = "\n".join(said.values())
    assert len(said) >= 20
    assert "recipe sdxl-instantid: all 9 files are here" in told
    assert "480 of 480 tensors" in told
    assert "SOS-L020" in told
    every, ours = (text for command, text in said.items() if "doctor" in command and "ssh" in command)
    assert f"{far.root}/ComfyUI/models/{PACKED}" in every
    assert "SOS-F103" in every
    assert PACKED not in ours
    assert len(list((here / "pictures").glob("elena-*.png"))) == 3


def test_what_the_page_prints_is_what_the_commands_print(here: Path) -> None:
    """The output of the first block, but for its columns."""
    block = re.search(r"```\n(text_encoders/.*?)```", PAGE.read_text(), re.DOTALL)
    assert block
    command = [sys.executable, "-c", MAIN, "model", "add", "ComfyUI/models", "--dry-run"]
    done = subprocess.run(command, cwd=here, capture_output=True, text=True, check=False, timeout=600)
    printed = re.sub(r"\s+", " ", done.stdout + done.stderr)
    for line in re.sub(r"\n  (?!→)", " ", block[1]).splitlines():
        for part in re.sub(r"\s+", " ", line).split("..."):
            assert part.strip() in printed, part
