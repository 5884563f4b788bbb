"""Characters as one file: what goes out comes in, and no archive of a stranger writes or reads where it should not."""

from __future__ import annotations

import hashlib
import io
import json
import stat
import struct
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from places import EXAMPLES
from safetensors.numpy import save_file

from sosie.api.character_files import export_character, import_character, is_char_file
from sosie.core.errors import BadFileError, ConfigError, SosieError, UsageError
from sosie.workspace.archive.members import is_plain_name, open_members
from sosie.workspace.archive.openchar import MAGIC, extract, read_char
from sosie.workspace.characters import CharacterFile, load_character, write_character
from sosie.workspace.workspace import Workspace, open_workspace

pytestmark = pytest.mark.once

PICTURES = sorted(EXAMPLES.glob("*.jpg"))[:3]


def place(folder: Path) -> Workspace:
    folder.mkdir(parents=True, exist_ok=True)
    return open_workspace(folder)


@pytest.fixture
def home(tmp_path: Path) -> Workspace:
    """A workspace with mira: three references, a calibration, a LoRA."""
    workspace = place(tmp_path / "home")
    details = CharacterFile("mira", "fictional", True, "a young woman, auburn hair", "m1ra", ("a scar",))
    write_character(details, PICTURES, workspace.characters / "mira")
    folder = workspace.characters / "mira"
    (folder / "calibration").mkdir()
    (folder / "calibration" / "mini.npz").write_bytes(b"a cohort")
    (folder / "loras").mkdir()
    save_file({"a.lora_down.weight": np.ones((4, 8), np.float16)}, folder / "loras" / "m.safetensors")
    with (folder / "character.toml").open("a") as toml:
        toml.write('\n[[loras]]\nfile = "loras/m.safetensors"\nfamily = "sdxl"\nweight = 0.8\ntrigger = "m1ra"\n')
    return workspace


def test_a_character_comes_in_as_it_went_out(home: Workspace, tmp_path: Path) -> None:
    out = tmp_path / "mira.sosie"
    done = export_character(home, "mira", out, with_loras=True)
    assert (done.references, done.calibration, done.loras, done.left) == (3, 1, 1, ())
    away = place(tmp_path / "away")
    made = import_character(away, out)
    assert made.character == load_character(home, "mira")
    assert made.left == ()
    one, other = home.characters / "mira", away.characters / "mira"
    files = [path.relative_to(one) for path in one.rglob("*") if path.is_file() and path.name != "character.toml"]
    assert len(files) == 5
    assert all((one / path).read_bytes() == (other / path).read_bytes() for path in files)


def test_the_same_character_gives_the_same_bytes(home: Workspace, tmp_path: Path) -> None:
    for name in ("a.sosie", "b.sosie"):
        export_character(home, "mira", tmp_path / name, with_loras=True)
    assert (tmp_path / "a.sosie").read_bytes() == (tmp_path / "b.sosie").read_bytes()


def test_a_lora_that_is_only_named_is_found_by_its_weights(home: Workspace, tmp_path: Path) -> None:
    out = tmp_path / "mira.sosie"
    assert export_character(home, "mira", out).left == ("loras/m.safetensors",)
    bare, stocked = place(tmp_path / "bare"), place(tmp_path / "stocked")
    stocked.models.mkdir()
    save_file({"a.lora_down.weight": np.zeros((4, 8), np.float16)}, stocked.models / "m.safetensors")
    found = home.characters / "mira" / "loras" / "m.safetensors"
    (stocked.models / "renamed.safetensors").write_bytes(found.read_bytes())
    without, with_it = import_character(bare, out), import_character(stocked, out)
    assert [file for file, _ in without.left] == ["loras/m.safetensors"]
    assert without.character.loras == ()
    assert with_it.left == ()
    assert with_it.character.loras == load_character(home, "mira").loras


def test_another_name_is_taken_and_a_taken_one_refused(home: Workspace, tmp_path: Path) -> None:
    out = tmp_path / "mira.sosie"
    export_character(home, "mira", out)
    with pytest.raises(UsageError, match="exists already"):
        import_character(home, out)
    assert import_character(home, out, "nora").character.name == "nora"
    with pytest.raises(UsageError, match="is there already"):
        export_character(home, "mira", out)
    with pytest.raises(UsageError, match=r"expected \.sosie, or \.char"):
        export_character(home, "mira", tmp_path / "mira.zip")


def changed(source: Path, target: Path, change: Callable[[dict[str, Any], dict[str, bytes]], None]) -> Path:
    """An archive with another manifest and other members; digests and sizes of the manifest are put right."""
    with zipfile.ZipFile(source) as archive:
        members = {info.filename: archive.read(info) for info in archive.infolist()}
    manifest = json.loads(members.pop("manifest.json"))
    change(manifest, members)
    for row in filter(None, manifest["files"]):
        if row.get("path") in members and "kept" not in row:
            content = members[row["path"]]
            row.update(bytes=len(content), sha256=hashlib.sha256(content).hexdigest())
    with zipfile.ZipFile(target, "w") as archive:
        archive.writestr("manifest.json", json.dumps(manifest))
        for name, content in members.items():
            archive.writestr(name, content)
    return target


def _rename(old: str, new: str) -> Callable[[dict[str, Any], dict[str, bytes]], None]:
    def change(manifest: dict[str, Any], members: dict[str, bytes]) -> None:
        members[new] = members.pop(old)
        next(row for row in manifest["files"] if row["path"] == old)["path"] = new

    return change


def _toml(old: str, new: str) -> Callable[[dict[str, Any], dict[str, bytes]], None]:
    def change(_: dict[str, Any], members: dict[str, bytes]) -> None:
        members["character.toml"] = members["character.toml"].replace(old.encode(), new.encode())

    return change


def _set(**values: Any) -> Callable[[dict[str, Any], dict[str, bytes]], None]:
    return lambda manifest, _: manifest.update(values)


def _flip(manifest: dict[str, Any], members: dict[str, bytes]) -> None:
    row = next(row for row in manifest["files"] if row["path"] == "references/00.jpg")
    row["kept"] = True
    members["references/00.jpg"] = members["references/00.jpg"][:-1] + b"\0"


def _weights(_: dict[str, Any], members: dict[str, bytes]) -> None:
    members["loras/m.safetensors"] = members["loras/m.safetensors"][:-2] + b"\0\0"


HOSTILE: Mapping[str, tuple[Callable[[dict[str, Any], dict[str, bytes]], None], type[SosieError], str]] = {
    "a path upwards": (_rename("references/00.jpg", "references/../../00.jpg"), BadFileError, "not plain"),
    "an absolute path": (_rename("references/00.jpg", "/tmp/00.jpg"), BadFileError, "not plain"),
    "a backslash": (_rename("references/00.jpg", "references\\..\\00.jpg"), BadFileError, "not plain"),
    "a hidden file": (_rename("references/00.jpg", "references/.new"), BadFileError, "not plain"),
    "a device": (_rename("references/00.jpg", "references/NUL.jpg"), BadFileError, "not plain"),
    "another folder": (_rename("references/00.jpg", "dataset/00.jpg"), BadFileError, "no character has"),
    "a deeper folder": (_rename("references/00.jpg", "references/a/00.jpg"), BadFileError, "no character has"),
    "a pickle": (_rename("loras/m.safetensors", "loras/m.pt"), BadFileError, "no character has"),
    "the same name in capitals": (
        lambda _, members: members.update({"REFERENCES/00.jpg": b"x"}), BadFileError, "two members",
    ),
    "a stowaway": (lambda _, members: members.update({"references/zz.jpg": b"x"}), BadFileError, "does not name"),
    "no picture": (lambda _, members: members.update({"references/00.jpg": b"#!/bin/sh"}), BadFileError, "no picture"),
    "a flipped byte": (_flip, BadFileError, "another SHA-256"),
    "other weights": (_weights, BadFileError, "other weights"),
    "a minor": (_toml("adult = true", "adult = false"), UsageError, "adults only"),
    "a declaration that differs": (_toml('"fictional"', '"consented"'), BadFileError, "another likeness"),
    "a newer version": (_set(version=2), BadFileError, "version 2"),
    "another format": (_set(format="x"), BadFileError, "no archive of a character"),
    "an unknown field": (_toml("adult = true", "adult = true\nshell = 1"), ConfigError, "shell"),
    "rows that are none": (_set(files=[None]), BadFileError, "lacks"),
    "a row without a path": (_set(files=[{}]), BadFileError, "no character has"),
}  # fmt: skip


@pytest.mark.parametrize("kind", HOSTILE)
def test_a_hostile_archive_is_refused_and_leaves_nothing(home: Workspace, tmp_path: Path, kind: str) -> None:
    change, error, words = HOSTILE[kind]
    whole = tmp_path / "whole.sosie"
    export_character(home, "mira", whole, with_loras=True)
    away = place(tmp_path / "away")
    with pytest.raises(error, match=words):
        import_character(away, changed(whole, tmp_path / "hostile.sosie", change))
    assert not away.characters.exists() or list(away.characters.iterdir()) == []
    assert sorted(path.name for path in tmp_path.iterdir()) == ["away", "home", "hostile.sosie", "whole.sosie"]


def test_a_lora_entry_outside_of_its_folder_is_left_out(home: Workspace, tmp_path: Path) -> None:
    whole = tmp_path / "whole.sosie"
    export_character(home, "mira", whole, with_loras=True)
    bad = changed(whole, tmp_path / "bad.sosie", _toml("loras/m.safetensors", "../../x.safetensors"))
    (tmp_path / "x.safetensors").write_bytes(b"")
    assert import_character(place(tmp_path / "away"), bad).character.loras == ()


def zipped(path: Path, *infos: tuple[zipfile.ZipInfo, bytes]) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for info, content in infos:
            archive.writestr(info, content)
    return path


def test_links_bombs_and_what_is_no_archive_are_refused(tmp_path: Path) -> None:
    link = zipfile.ZipInfo("references/00.jpg")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    packed = zipfile.ZipInfo("manifest.json")
    packed.compress_type = zipfile.ZIP_BZIP2
    many = [(zipfile.ZipInfo(f"references/{index}"), b"") for index in range(2_001)]
    bomb = zipfile.ZipInfo("manifest.json")
    bomb.compress_type = zipfile.ZIP_DEFLATED
    for words, bad in {
        "that is a link": zipped(tmp_path / "link", (link, b"/etc/passwd")),
        "method 12": zipped(tmp_path / "packed", (packed, b"{}")),
        "2,001 members": zipped(tmp_path / "many", *many),
        "at most 1,048,576 are read": zipped(tmp_path / "bomb", (bomb, b" " * 50_000_000)),
    }.items():
        with pytest.raises(BadFileError, match=words):
            import_character(place(tmp_path / "away"), bad)
    for bad in (b"", b"PK", b"\0" * 1000, zipped(tmp_path / "cut", (link, b"x" * 500)).read_bytes()[:-30]):
        (tmp_path / "bad").write_bytes(bad)
        with pytest.raises(BadFileError, match="no whole zip archive"):
            is_char_file(tmp_path / "bad")


def test_a_member_that_holds_more_than_it_declares_is_refused(tmp_path: Path) -> None:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("manifest.json", b"x" * 5000)
    data = bytearray(stream.getvalue())
    directory = data.index(b"PK\1\2")
    struct.pack_into("<I", data, directory + 24, 100)
    (tmp_path / "lies").write_bytes(data)
    with open_members(tmp_path / "lies") as members, pytest.raises(BadFileError):
        members.read("manifest.json", 1000)


def test_mutated_archives_end_in_one_of_our_errors(home: Workspace, tmp_path: Path) -> None:
    whole = tmp_path / "whole.sosie"
    export_character(home, "mira", whole, with_loras=True)
    content, numbers = whole.read_bytes(), np.random.default_rng(1)
    away, refused = place(tmp_path / "away"), 0
    directory = content.rindex(b"PK\1\2") - 400
    for turn in range(150):
        data = bytearray(content)
        for _ in range(3):
            data[int(numbers.integers(directory if turn % 2 else 0, len(data)))] = int(numbers.integers(256))
        (tmp_path / "mutant").write_bytes(data)
        try:
            import_character(away, tmp_path / "mutant", f"m{turn}")
        except SosieError:
            refused += 1
    assert refused > 100
    assert all((path / "character.toml").is_file() for path in away.characters.iterdir())


@pytest.mark.parametrize(
    ("name", "plain"),
    [("references/美玲.jpg", True), ("a b.png", True), ("a/../b", False), ("./a", False), ("a//b", False),
     ("a:b", False), ("a\u202eb", False), ("e\u0301", False), ("aux", False), ("con.jpg", False), ("a.", False),
     ("x" * 201, False)],
)  # fmt: skip
def test_plain_names(name: str, plain: bool) -> None:
    assert is_plain_name(name) is plain


def test_a_char_file_holds_references_and_words(home: Workspace, tmp_path: Path) -> None:
    out = tmp_path / "mira.char"
    done = export_character(home, "mira", out)
    assert done.references == 3
    assert "calibration" in done.left
    assert out.read_bytes()[30 + len("manifest.json") :].startswith(b'{"magic":"INLINECHAR","format_version":1')
    with open_members(out) as members:
        held = read_char(members)
        paths = extract(members, held.references, tmp_path)
        manifest = json.loads(members.read("manifest.json", 10_000))
    assert (held.name, held.description) == ("mira", "a young woman, auburn hair, a scar")
    for path, source, row in zip(paths, PICTURES, manifest["refs"], strict=True):
        with Image.open(path) as one, Image.open(source) as other:
            assert one.size == other.size == (row["width"], row["height"])
            assert one.tobytes() == other.convert("RGB").tobytes()
        assert row["sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()


def char_file(path: Path, **changes: Any) -> Path:
    manifest = {"magic": MAGIC, "format_version": 1, "name": "Ada", "refs": [{"path": "refs/000.png"}], "text": {}}
    stream = io.BytesIO()
    Image.new("RGB", (4, 4)).save(stream, "PNG")
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("manifest.json", json.dumps({**manifest, **changes}, separators=(",", ":")))
        archive.writestr("refs/000.png", stream.getvalue())
        archive.writestr("text/description.md", "a woman\n\nwith  a scar")
        archive.writestr("payloads/x/adapter.safetensors", b"not read")
    return path


@pytest.mark.parametrize(
    ("changes", "words"),
    [({"magic": "OTHER"}, "no .char"), ({"format_version": 2}, "version 2"), ({"refs": []}, "0 references"),
     ({"refs": [{"path": "../x"}]}, "not in it"), ({"refs": 7}, "0 references")],
)  # fmt: skip
def test_a_char_file_of_another_kind_is_refused(tmp_path: Path, changes: dict[str, Any], words: str) -> None:
    with open_members(char_file(tmp_path / "x.char", **changes)) as members, pytest.raises(BadFileError, match=words):
        read_char(members)


def test_the_words_of_a_char_file_are_one_line_and_what_is_no_picture_is_refused(tmp_path: Path) -> None:
    path = char_file(tmp_path / "x.char", text={"path": "text/description.md"})
    with open_members(path) as members:
        assert read_char(members).description == "a woman with a scar"
        with pytest.raises(BadFileError, match="is no picture"):
            extract(members, ("text/description.md",), tmp_path)
