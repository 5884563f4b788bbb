"""Given captions in a set: they arrive, are compared at each build, and are never replaced by made-up ones."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from json_lines import lines
from PIL import Image
from seen_once import look_once

pytestmark = pytest.mark.once

Sosie = Callable[..., Any]


@pytest.fixture(autouse=True)
def _each_picture_is_looked_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    look_once(monkeypatch)


@pytest.fixture
def pictures(tmp_path: Path, references: list[Path]) -> Path:
    """Three pictures of the character that are no references."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    for place, source in enumerate(references[:3]):
        with Image.open(source) as image:
            turned = image.convert("RGB").transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        turned.crop((20, 0, 512, 492)).save(folder / f"{place}.jpg", quality=95)
    return folder


@pytest.fixture
def build(sosie: Sosie, workspace: Path, pictures: Path) -> Callable[..., Any]:
    """Builds the set from the pictures."""

    def run(folder: Path = pictures) -> Any:
        return sosie("dataset", "build", "mira", "--from", folder, "--workspace", workspace, "--json")

    return run


def table(workspace: Path) -> Path:
    return workspace / "characters" / "mira" / "dataset" / "captions.jsonl"


def rows(workspace: Path) -> dict[str, dict[str, Any]]:
    return {row["source"].removeprefix("file:"): row for row in lines(table(workspace).read_text(encoding="utf-8"))}


def captions(workspace: Path) -> dict[str, str]:
    return {name: row["caption"] for name, row in rows(workspace).items()}


def test_a_corrected_caption_arrives_wherever_it_stands(
    build: Callable[..., Any], workspace: Path, pictures: Path
) -> None:
    (pictures / "0.txt").write_text("a coat")
    (pictures / "metadata.csv").write_text("file_name,text\n1.jpg,a hat\n")
    assert build().code == 0
    assert captions(workspace)["0.jpg"] == "m1ra, a coat"
    made_up = captions(workspace)["2.jpg"]
    (pictures / "0.txt").write_text("a red coat")
    (pictures / "metadata.csv").write_text("file_name,text\n1.jpg,a red hat\n2.jpg,m1ra in a cap\n")
    done = build()
    assert "3 captions were changed where they came from" in done.err
    assert "0 new, 3 with new captions" in done.err
    assert captions(workspace) == {"0.jpg": "m1ra, a red coat", "1.jpg": "m1ra, a red hat", "2.jpg": "m1ra in a cap"}
    assert made_up != "m1ra in a cap"
    assert "0 new, 0 left out" in build().err


def test_a_caption_that_is_taken_away_stays_and_one_that_was_edited_in_the_set_is_kept(
    build: Callable[..., Any], workspace: Path, pictures: Path
) -> None:
    (pictures / "0.txt").write_text("a coat")
    (pictures / "1.txt").write_text("a hat")
    build()
    (pictures / "0.txt").unlink()
    table(workspace).write_text(table(workspace).read_text().replace("m1ra, a hat", "m1ra, my own hat"))
    build()
    assert captions(workspace)["0.jpg"] == "m1ra, a coat"
    assert captions(workspace)["1.jpg"] == "m1ra, my own hat"
    (pictures / "1.txt").write_text("a green hat")
    build()
    assert captions(workspace)["1.jpg"] == "m1ra, a green hat"


def test_a_set_of_an_earlier_version_gets_the_captions_that_it_passed_over(
    build: Callable[..., Any], workspace: Path, pictures: Path
) -> None:
    (pictures / "metadata.jsonl").write_text('{"file": "0.jpg", "gender": "female"}\n')
    assert "came without a caption; the table's fields are file, gender: captions are made" in build().err
    assert {row["by"] for row in rows(workspace).values()} == {"template"}
    (pictures / "0.TXT").write_text("a coat")
    build()
    assert (captions(workspace)["0.jpg"], rows(workspace)["0.jpg"]["by"]) == ("m1ra, a coat", "given")


def test_an_image_whose_caption_cannot_be_read_waits_and_comes_when_it_can(
    build: Callable[..., Any], workspace: Path, pictures: Path
) -> None:
    (pictures / "0.txt").write_bytes(
        "\u043c\u0438\u0440\u0430 \u0432 \u043f\u0430\u043b\u044c\u0442\u043e".encode("cp1251")
    )
    done = build()
    assert done.code == 1
    assert "1 of 3 images wait for captions that can be read: 0.jpg" in done.err
    assert set(captions(workspace)) == {"1.jpg", "2.jpg"}
    (pictures / "0.txt").write_text("mira in a coat", encoding="utf-8")
    assert build().code == 0
    assert captions(workspace)["0.jpg"] == "m1ra, mira in a coat"


def test_where_all_wait_nothing_is_built_and_the_way_out_is_named(
    build: Callable[..., Any], workspace: Path, pictures: Path
) -> None:
    (pictures / "metadata.parquet").write_bytes(b"PAR1" + bytes(40))
    done = build()
    assert (done.code, done.out) == (2, "")
    assert "metadata.parquet" in done.err
    assert "export it as CSV" in done.err
    assert not table(workspace).exists()


def test_alternatives_stay_alternatives_into_the_training(
    build: Callable[..., Any], workspace: Path, pictures: Path
) -> None:
    from sosie.dataset.dataset import dataset_digest, read_folder

    (pictures / "0.txt").write_text("a photo of mira\nm1ra, in a coat (grey)\n")
    (pictures / "1.json").write_text(json.dumps({"captions": ["a hat", "a cap"]}))
    done = build()
    assert {tuple(row.get("alternatives", ())) for row in lines(done.out)} == {
        ("m1ra, in a coat (grey)",),
        ("m1ra, a cap",),
        (),
    }
    images = {image.caption: image for image in read_folder(table(workspace).parent, "m1ra", "mira")}
    image = images["m1ra, a photo of mira"]
    assert image.texts == ("m1ra, a photo of mira", "m1ra, in a coat \\(grey\\)")
    assert dataset_digest([image]) != dataset_digest([images["m1ra, a hat"]])


def test_kohyas_repeats_reach_the_training(
    build: Callable[..., Any], workspace: Path, pictures: Path, tmp_path: Path
) -> None:
    from sosie.dataset.dataset import read_folder

    for name, files in (("10_mira woman", "0.jpg 1.jpg"), ("2_mira smiling", "2.jpg")):
        (tmp_path / "img" / name).mkdir(parents=True)
        for file in files.split():
            shutil.copy(pictures / file, tmp_path / "img" / name)
    (tmp_path / "img" / "10_mira woman" / "0.txt").write_text("a coat")
    done = build(tmp_path / "img")
    assert "the folders' repeats count in training: 2, 10" in done.err
    assert captions(workspace)["10_mira woman/0.jpg"] == "m1ra, a coat"
    images = read_folder(table(workspace).parent, "m1ra", "mira")
    assert sorted(image.repeats for image in images) == [2, 10, 10]
    (tmp_path / "img" / "2_mira smiling").rename(tmp_path / "img" / "4_mira smiling")
    build(tmp_path / "img")
    assert sorted(row.get("repeats", 1) for row in rows(workspace).values()) == [4, 10, 10]


def test_every_picture_that_a_viewer_shows_is_taken_or_named(
    build: Callable[..., Any], workspace: Path, pictures: Path
) -> None:
    (pictures / "0.jpg").rename(pictures / "a.jfif")
    (pictures / "1.jpg").rename(pictures / "b")
    with Image.open(pictures / "2.jpg") as image:
        image.save(pictures / "c.avif")
    (pictures / "2.jpg").unlink()
    unread = {
        "d.heic": b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(30),
        "e.jxl": b"\xff\x0a" + bytes(30),
        "f.gif": b"GIF89a" + bytes(30),
        "g": b"8BPS" + bytes(30),
        "h.nef": b"MM\0*" + bytes(30),
        "i.png": b"<html>404</html>",
    }
    for name, content in unread.items():
        (pictures / name).write_bytes(content)
    done = build()
    assert done.code == 1
    assert set(captions(workspace)) == {"a.jfif", "b", "c.avif"}
    assert {Path(row["file"]).suffix for row in rows(workspace).values()} == {".jpg", ".avif"}
    for name in unread:
        assert [line for line in done.err.splitlines() if "SOS-T002" in line and f"{pictures / name}:" in line], name
