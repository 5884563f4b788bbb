"""`sosie new`: what is offered to it, and what characters and files may be called."""

from __future__ import annotations

import os
import shutil
import unicodedata
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from json_lines import lines
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from sosie.core.errors import UsageError
from sosie.workspace.workspace import check_name

Sosie = Callable[..., Any]
DECLARED = ("--likeness", "fictional", "--adult", "--description", "a woman")


@pytest.fixture
def folder(tmp_path: Path, references: list[Path]) -> Path:
    """Pictures as a browser and a phone save them, and what lies beside them."""
    place = tmp_path / "pictures"
    place.mkdir()
    shutil.copy(references[0], place / "a.jfif")
    shutil.copy(references[1], place / "b")
    shutil.copy(references[2], place / "c.png")
    with Image.open(references[3]) as image:
        image.save(place / "d.avif", quality=90)
    text = PngInfo()
    text.add_itxt("workflow", "{}" * 1_000_000, zip=True)
    with Image.open(references[4]) as image:
        image.save(place / "e.png", pnginfo=text)
    (place / "clip.mp4").write_bytes(b"\0\0\0\x18ftypmp42" + bytes(60))
    (place / "._a.jfif").write_bytes(b"\0\5\x16\7")
    return place


def test_a_folder_is_taken_with_all_its_pictures_under_their_true_endings(
    sosie: Sosie, tmp_path: Path, folder: Path
) -> None:
    done = sosie("new", "web", folder, *DECLARED, "--workspace", tmp_path)
    assert done.code == 0, done.err
    assert "5 of 5 images became references" in done.err
    assert "clip.mp4 (a video)" in done.err
    kept = sorted(path.name for path in (tmp_path / "characters" / "web" / "references").iterdir())
    assert kept == ["00.jpg", "01.jpg", "02.jpg", "03.avif", "04.png"]
    scored = sosie("score", "--character", "web", folder / "a.jfif", folder / "b", "--workspace", tmp_path, "--json")
    assert [row["scores"]["identity"][0]["value"] is not None for row in lines(scored.out)] == [True, True]
    drawn = sosie("generate", "web", "smiling", "-n", 5, "--engine", "fake", "--workspace", tmp_path)
    assert drawn.code in (0, 1), drawn.err
    assert (tmp_path / "outputs" / "web").is_dir()


def test_a_folder_without_pictures_names_those_that_have_them(sosie: Sosie, tmp_path: Path, folder: Path) -> None:
    done = sosie("new", "web", folder.parent, *DECLARED, "--workspace", tmp_path)
    assert done.code == 2
    assert "give the folder that has them: pictures" in done.err


@pytest.mark.parametrize(
    "name",
    [
        "\u7f8e\u73b2",
        "\u041c\u0438\u0440\u0430",
        "Zo\u00eb",
        "\u0639\u0627\u0626\u0634\u0629",
        "\u0928\u093f\u0936\u093e",
    ],
)
def test_a_character_has_a_name_in_any_script(sosie: Sosie, tmp_path: Path, references: list[Path], name: str) -> None:
    done = sosie("new", name, *references[:4], *DECLARED, "--workspace", tmp_path)
    assert done.code == 0, done.err
    other = unicodedata.normalize("NFD", name)
    drawn = sosie("generate", other, "smiling", "--engine", "fake", "--workspace", tmp_path, "--json")
    assert drawn.code == 0, drawn.err
    assert Path(lines(drawn.out)[0]["image"]).name.startswith(unicodedata.normalize("NFC", name))


@pytest.mark.parametrize(
    "name", ["", "a b", "../x", "a/b", ".", "x" * 65, "\u7f8e" * 34, "con", "LPT1", "\u0301a", "a\udce9"]
)
def test_what_is_no_name_on_every_system_is_refused(name: str) -> None:
    with pytest.raises(UsageError, match="is not a name"):
        check_name(name)


def test_words_that_are_no_utf_8_are_refused_in_one_line_before_anything_is_drawn(
    sosie: Sosie, workspace: Path, tmp_path: Path, references: list[Path]
) -> None:
    word = os.fsdecode(b"caf\xe9")
    for done in (
        sosie("generate", "mira", word, "--engine", "fake", "--workspace", workspace),
        sosie("generate", "mira", "smiling", "--negative", word, "--engine", "fake", "--workspace", workspace),
        sosie("new", "other", *references[:4], *DECLARED[:-1], word, "--workspace", tmp_path),
    ):
        assert (done.code, done.out) == (2, "")
        assert "is not UTF-8 text" in done.err


def test_files_whose_names_are_no_utf_8_are_read_by_every_command(
    sosie: Sosie, tmp_path: Path, references: list[Path]
) -> None:
    place = tmp_path / os.fsdecode(b"gar\xe7on")
    try:
        place.mkdir()
    except OSError:
        pytest.skip("this file system has no such names")
    for number, path in enumerate(references[:4]):
        shutil.copy(path, place / os.fsdecode(b"\xe9t\xe9%d.jpg" % number))
    home = ("--workspace", tmp_path)
    assert sosie("new", "web", place, *DECLARED, *home).code == 0
    for path in references[4:8]:
        shutil.copy(path, place / os.fsdecode(b"\xe0" + path.name.encode()))
    built = sosie("dataset", "build", "web", "--from", place, *home, "--json")
    assert built.code == 0, built.err
    assert all("\\xe" in row["source"] for row in lines(built.out))
    assert sosie("dataset", "check", "web", *home).code in (0, 1)
    scored = sosie("score", "--character", "web", *sorted(place.iterdir()), *home)
    assert scored.code in (0, 1), scored.err
    assert sosie("doctor", place, "--trigger", "web", *home).code in (0, 1)
    drawn = sosie("generate", "web", "smiling", "--engine", "fake", "--out", place / "out", *home)
    assert drawn.code == 0, drawn.err


def test_a_cut_out_to_work_on_is_said_to_be_put_on_white_before_anything_is_drawn(
    sosie: Sosie, workspace: Path, tmp_path: Path, references: list[Path]
) -> None:
    with Image.open(references[0]) as image:
        image.putalpha(128)
        image.save(tmp_path / "cut.png")
    order = ("generate", "mira", "smiling", "--from", tmp_path / "cut.png", "--engine", "fake")
    done = sosie(*order, "--workspace", workspace)
    assert "SOS-E031" in done.err
    assert "put on white" in done.err
    with Image.open(references[0]) as image:
        image.save(tmp_path / "whole.png")
    assert "SOS-E031" not in sosie(*order[:4], tmp_path / "whole.png", *order[5:], "--workspace", workspace).err
