"""This machine as a `Machine`: folders that somebody else names are not believed."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from sosie.core.errors import BadModelError
from sosie.machines import here as here_module
from sosie.machines.here import Here
from sosie.machines.machine import ByteRange, MachineFile


def test_only_regular_files_that_are_named_as_models_and_lie_below_the_folders_are_listed(tmp_path: Path) -> None:
    told, secret = tmp_path / "told", tmp_path / "secret"
    (told / "sub").mkdir(parents=True)
    secret.mkdir()
    (secret / "key.safetensors").write_bytes(b"s3cret")
    (secret / "passwd").write_bytes(b"s3cret")
    for name in ("a.safetensors", "sub/B.GGUF", "notes.txt"):
        (told / name).write_bytes(b"x")
    (told / "out.safetensors").symlink_to(secret / "key.safetensors")
    (told / "passwd.safetensors").symlink_to(secret / "passwd")
    (told / "gone.safetensors").symlink_to(tmp_path / "gone")
    (told / "folder.safetensors").mkdir()
    (told / "linked").symlink_to(secret)
    (told / "up").symlink_to(tmp_path)
    (told / "inside.safetensors").symlink_to(told / "a.safetensors")
    (told / "text.safetensors").symlink_to(told / "notes.txt")
    os.mkfifo(told / "pipe.safetensors")
    deep = told
    for level in range(here_module.MAX_DEPTH + 1):
        deep = deep / str(level)
        deep.mkdir()
    (deep / "deep.safetensors").write_bytes(b"x")
    found = Here().files([str(told), f"{told}/sub", f"{told}/sub/../sub", str(tmp_path / "none")])
    assert sorted(str(Path(file.path).relative_to(told)) for file in found) == [
        "a.safetensors",
        "inside.safetensors",
        "sub/B.GGUF",
    ]


def test_a_folder_that_is_a_link_itself_is_looked_into(tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    (tmp_path / "disk" / "a.safetensors").write_bytes(b"x")
    (tmp_path / "models").symlink_to(tmp_path / "disk")
    assert [Path(file.path).name for file in Here().files([str(tmp_path / "models")])] == ["a.safetensors"]


def test_a_whole_disk_is_no_folder_of_models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    looked: list[str] = []
    monkeypatch.setattr(here_module, "_below", lambda root: looked.append(root) or [])
    assert Here().files(["/", "/etc/..", "//", str(tmp_path)]) == ()
    assert looked == [os.path.realpath(tmp_path)]


def test_endless_folders_are_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(60):
        (tmp_path / f"{number:02}.safetensors").write_bytes(b"x")
    monkeypatch.setattr(here_module, "MAX_ENTRIES", 20)
    assert len(Here().files([str(tmp_path)])) < 20


def test_ranges_are_read_in_their_order_and_a_file_that_became_shorter_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    path.write_bytes(bytes(range(100)))
    (file,) = Here().files([str(tmp_path)])
    assert (file.name, file.size, file.stamp) == (str(path), 100, f"100 {path.stat().st_mtime_ns}")
    assert Here().read(file, [ByteRange(90, 10), ByteRange(0, 3), ByteRange(5, 0)]) == [
        bytes(range(90, 100)),
        b"\0\1\2",
        b"",
    ]
    for wrong in (MachineFile(str(path), 200), MachineFile(str(tmp_path / "none"), 200)):
        with pytest.raises(BadModelError, match=r"became shorter|cannot be read"):
            Here().read(wrong, [ByteRange(90, 100)])
