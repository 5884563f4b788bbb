"""Files are written whole or not at all, and in one place."""

from __future__ import annotations

import ast
import errno
import json
import os
import sys
from pathlib import Path

import pytest
from places import ROOT

from sosie.files.drafts import DRAFT, PART, sweep
from sosie.files.whole import change_text, whole_draft, whole_folder, whole_stream, write_json, write_whole

SOURCE = ROOT / "src" / "sosie"

WRITERS = frozenset(
    {
        *("write_text", "write_bytes", "rename", "renames", "touch", "symlink_to", "hardlink_to", "mkdir", "makedirs"),
        *("mkdtemp", "mkstemp", "NamedTemporaryFile", "TemporaryDirectory", "copyfile", "copy2", "copytree"),
    }
)
"""What makes, copies or renames files, as a method of a path or a function; `replace` and `open` are looked at."""

ALLOWED = {
    "files/whole.py": "the one place",
    "files/drafts.py": "its drafts",
    "files/lock.py": "makes files that stay empty",
    "files/pickles/child.py": "runs alone, without the package; writes the draft that its parent opened",
    "fetch/part_file.py": "a download that goes on in its own part, over days",
    "training/log.py": "adds lines to the log of a run; one that was cut off is passed over",
    "engines/resident.py": "gives the worker its log, which the system writes",
    "engines/resident_protocol.py": "a folder for a socket whose own path would be too long",
    "machines/ssh/connection.py": "a folder for ssh's sockets",
    "api/jobs/process.py": "gives the worker its log, which the system writes",
    "panels/votes.py": "adds lines to a file of votes; one that was cut off is passed over",
    "loop/judge_process.py": "writes answers to a pipe",
    "engines/ray/engine.py": "a token in a folder of this run alone, which nobody outlives",
    "api/workers/ray_host.py": "pixels on their way to the driver, in its folder of this run",
    "api/trainings/home.py": "samples on their way here, in a temporary folder",
    "api/trainings/journal.py": "adds lines to a journal; one that was cut off is passed over",
    "api/character_files.py": "pictures on their way into a character, in a temporary folder",
    "workspace/archive/openchar.py": "the same",
    "engines/far/attendant.py": "gives the worker its log, which the system writes",
    "engines/far/engine.py": "adds lines of what was drawn; one that was cut off is passed over",
    "engines/far/spool.py": "what a worker is at, many times a minute and for as long; renamed, never synced",
    "machines/ssh/pull.py": "a download that goes on in its own part",
    "pods/pod.py": "a private key, which must be new and its owner's alone from its first byte on",
    "pods/providers/fake_vast.py": "a fake: adds keys to the file of the sshd that stands for its machines",
    "pods/setup/trees.py": "packs what is sent away, in a temporary folder",
    "studio/routes/uploads.py": "an upload on its way, in a temporary folder",
    "workspace/archive/portable.py": "files of a folder that appears when it is whole",
}
"""Modules that write, make or rename files and folders themselves, and why."""


def writes(tree: ast.AST) -> list[int]:
    """Lines where a file is made, overwritten, added to or renamed."""
    found: list[int] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and node.attr == "O_CREAT":
            found.append(node.lineno)
        if not isinstance(node, ast.Call):
            continue
        name = getattr(node.func, "attr", getattr(node.func, "id", ""))
        texts = [arg.value for arg in (*node.args, *(k.value for k in node.keywords)) if isinstance(arg, ast.Constant)]
        modes = [text for text in texts if isinstance(text, str) and set(text) <= set("rwxabt+")]
        module = isinstance(node.func, ast.Attribute) and isinstance(node.func.value, ast.Name) and node.func.value.id
        if (
            name in WRITERS
            or (name in ("open", "fdopen") and any(set(mode) & set("wxa") for mode in modes))
            # A path's `replace` takes one argument, a text's two; that of dataclasses and time takes keywords.
            or (name == "replace" and (module == "os" or (len(node.args) == 1 and not node.keywords)))
            or (module, name) in (("shutil", "move"), ("shutil", "copy"), ("os", "link"))
        ):
            found.append(node.lineno)
    return found


def test_no_other_module_writes_or_renames_files() -> None:
    found = {
        str(path.relative_to(SOURCE).as_posix()): lines
        for path in sorted(SOURCE.rglob("*.py"))
        if (lines := writes(ast.parse(path.read_text(encoding="utf-8"))))
    }
    others = {name: lines for name, lines in found.items() if name not in ALLOWED}
    assert not others, f"use sosie.files.whole, or say in ALLOWED why not: {others}"
    assert set(ALLOWED) <= set(found), f"no exception any more: {set(ALLOWED) - set(found)}"


@pytest.mark.parametrize(
    "line",
    [
        "part.replace(path)",
        "os.replace(a, b)",
        "path.rename(other)",
        "path.write_text(text, encoding='utf-8')",
        "path.write_bytes(data)",
        "path.open('wb')",
        "path.open(mode='x')",
        "open(path, 'w+b')",
        "os.link(a, b)",
        "shutil.move(a, b)",
        "shutil.copyfile(a, b)",
        "copytree(a, b)",
        "path.open('ab')",
        "os.open(path, os.O_RDWR | os.O_CREAT)",
        "path.mkdir(parents=True)",
        "tempfile.TemporaryDirectory()",
    ],
)
def test_the_search_sees(line: str) -> None:
    assert writes(ast.parse(line))


@pytest.mark.parametrize(
    "line", ["text.replace('a', 'b')", "replace(plan, seed=1)", "path.open('rb')", "path.open()", "table.copy()"]
)
def test_the_search_passes_over(line: str) -> None:
    assert not writes(ast.parse(line))


def test_text_bytes_and_json_are_written_as_they_are(tmp_path: Path) -> None:
    path = tmp_path / ("ü" * 120 + ".json")
    write_whole(path, "a\nb\r\n")
    assert path.read_bytes() == b"a\nb\r\n"
    write_whole(path, b"\0")
    assert path.read_bytes() == b"\0"
    write_json(path, {"b": "ü", "a": "\ud800"}, sort_keys=True)
    assert json.loads(path.read_text(encoding="utf-8")) == {"a": "\ud800", "b": "ü"}
    assert "ü" in path.read_text(encoding="utf-8")
    assert [entry.name for entry in tmp_path.iterdir()] == [path.name]


@pytest.mark.parametrize("failure", [OSError(errno.ENOSPC, "full"), KeyboardInterrupt()])
def test_a_write_that_fails_leaves_the_old_file_alone(tmp_path: Path, failure: BaseException) -> None:
    path = tmp_path / "a.txt"
    write_whole(path, "old")

    def write() -> None:
        with whole_stream(path) as stream:
            stream.write(b"half")
            stream.flush()
            assert path.read_text() == "old"
            raise failure

    with pytest.raises(type(failure)):
        write()
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_file_that_appears_meanwhile_is_not_overwritten(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.txt"

    def write() -> None:
        with whole_draft(path, overwrite=False) as part:
            part.write_text("mine", encoding="utf-8")
            path.write_text("theirs", encoding="utf-8")

    for link in (os.link, _no_links):
        monkeypatch.setattr(os, "link", link)
        path.unlink(missing_ok=True)
        with pytest.raises(FileExistsError):
            write()
        assert path.read_text() == "theirs"
        with pytest.raises(FileExistsError):  # at once, before anything is made
            write()
        assert list(tmp_path.iterdir()) == [path]
        path.unlink()
        with whole_draft(path, overwrite=False) as part:
            part.write_text("mine", encoding="utf-8")
        assert path.read_text() == "mine"
        assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("saves", ["in place", "by renaming"])
def test_what_its_owner_saves_while_a_text_is_changed_is_changed_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, saves: str
) -> None:
    path = tmp_path / "a.toml"
    path.write_text("old\n")
    path.chmod(0o640)
    saved: list[str] = []
    replace = os.replace

    def save() -> None:
        if not saved:
            saved.append("theirs")
            target = path if saves == "in place" else tmp_path / "editor"
            target.write_text("theirs\n")
            target.chmod(0o640)
            replace(target, path)

    def replaced(*paths: Path) -> None:
        if saves == "in place":
            save()  # at the very last moment
        replace(*paths)

    def change(text: str) -> str:
        if saves == "by renaming":
            save()
        return text + "mine\n"

    monkeypatch.setattr(os, "replace", replaced)
    change_text(path, change)
    assert path.read_text() == "theirs\nmine\n"
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.toml"]
    assert sys.platform == "win32" or path.stat().st_mode & 0o777 == 0o640


def test_a_text_that_cannot_be_changed_stays_as_its_owner_saved_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, replace = tmp_path / "a.toml", os.replace
    path.write_text("old")

    def replaced(*paths: Path) -> None:
        if path.read_text() == "old":
            path.write_text("broken")
        replace(*paths)

    def change(text: str) -> str:
        if text == "broken":
            raise ValueError(text)
        return text + "!"

    monkeypatch.setattr(os, "replace", replaced)
    with pytest.raises(ValueError, match="broken"):
        change_text(path, change)
    assert path.read_text() == "broken"


def test_dead_drafts_are_removed_and_living_ones_and_other_files_are_not(tmp_path: Path) -> None:
    others = (".gitignore", "a.part", ".a.part", ".a.0123456.part")
    for name in (*others, ".a.01234567.part"):
        (tmp_path / name).touch()
    (tmp_path / ".dead.89abcdef.part").mkdir()
    (tmp_path / ".dead.89abcdef.part/file").touch()
    with whole_draft(tmp_path / "file"), whole_folder(tmp_path / "folder"):
        sweep(tmp_path)
        drafts = [entry.name for entry in tmp_path.iterdir() if DRAFT.fullmatch(entry.name)]
        assert sorted(name.split(".")[1] for name in drafts) == ["file", "folder"]
    assert {entry.name for entry in tmp_path.iterdir()} == {*others, "file", "folder"}


def test_a_folder_appears_whole_and_replaces_nothing(tmp_path: Path) -> None:
    with whole_folder(tmp_path / "a") as part:
        write_whole(part / "x", "1")
        assert not (tmp_path / "a").exists()
    assert (tmp_path / "a/x").read_text() == "1"

    def again() -> None:
        with whole_folder(tmp_path / "a"):
            pass

    with pytest.raises(FileExistsError):
        again()
    assert [entry.name for entry in tmp_path.iterdir()] == ["a"]


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has other rights")
def test_the_mode_is_that_of_any_new_file_or_the_one_asked_for(tmp_path: Path) -> None:
    (tmp_path / "plain").touch()
    write_whole(tmp_path / "a", "")
    with whole_stream(tmp_path / "b", mode=0o600):
        assert [part.stat().st_mode & 0o777 for part in tmp_path.glob(f".b*{PART}")] == [0o600]
    assert (tmp_path / "a").stat().st_mode == (tmp_path / "plain").stat().st_mode
    assert (tmp_path / "b").stat().st_mode & 0o777 == 0o600


@pytest.mark.skipif(sys.platform == "win32", reason="Windows does not sync folders")
def test_a_folder_that_cannot_be_synced_is_no_error_and_a_broken_disk_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sync = os.fsync
    answer = [errno.EINVAL]

    def refuse(descriptor: int) -> None:
        if Path(f"/proc/self/fd/{descriptor}").resolve() == tmp_path.resolve():
            raise OSError(answer[0], os.strerror(answer[0]))
        sync(descriptor)

    monkeypatch.setattr(os, "fsync", refuse)
    write_whole(tmp_path / "a", "whole")
    answer[0] = errno.EIO
    with pytest.raises(OSError, match="Input/output"):
        write_whole(tmp_path / "a", "again")
    assert (tmp_path / "a").read_text() == "again"


def _no_links(*_: object) -> None:
    raise OSError(errno.EPERM, "no hard links here")
