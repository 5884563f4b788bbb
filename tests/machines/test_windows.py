"""What Windows cannot do has an answer: another way, or an error with a hint."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from sosie.core.errors import UsageError
from sosie.fetch.part_file import PartFile, part_path
from sosie.files import whole
from sosie.machines.ssh.connection import control_path


@pytest.fixture
def windows(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:  # the folder is made before
    monkeypatch.setattr(sys, "platform", "win32")
    for missing in ("getuid", "sysconf", "getloadavg"):
        monkeypatch.delattr(os, missing)
    monkeypatch.setitem(sys.modules, "fcntl", None)  # importing it fails
    monkeypatch.setitem(sys.modules, "resource", None)


@pytest.mark.usefixtures("windows")
def test_a_machine_by_ssh_is_an_error_that_names_the_two_ways_round() -> None:
    with pytest.raises(UsageError, match="cannot share a connection") as caught:
        control_path()
    assert "WSL" in caught.value.hint
    assert "--engine comfy:http://127.0.0.1" in caught.value.hint


@pytest.mark.usefixtures("windows")
def test_a_file_is_written_whole_without_syncing_its_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[object] = []
    real = os.open
    monkeypatch.setattr(os, "open", lambda path, *rest: opened.append(path) or real(path, *rest))
    whole.write_whole(tmp_path / "a", "text")
    assert (tmp_path / "a").read_text() == "text"
    assert tmp_path not in opened


@pytest.mark.usefixtures("windows")
def test_a_download_is_closed_before_it_gets_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "model.safetensors"
    part = PartFile(path)
    part.append(b"whole")
    rename = Path.replace

    def as_windows(self: Path, target: Path) -> Path:
        open_files = [Path(f"/proc/self/fd/{entry.name}") for entry in Path("/proc/self/fd").iterdir()]
        if any(file.exists() and file.samefile(self) for file in open_files):
            raise PermissionError(13, "the process cannot access the file", str(self))
        return rename(self, target)

    monkeypatch.setattr(Path, "replace", as_windows)
    part.finish()
    assert path.read_bytes() == b"whole"
    assert not part_path(path).exists()
