"""The captions that people give with their pictures: every common place is read, or named with its reason."""

from __future__ import annotations

import json
import os
import unicodedata
from collections.abc import Mapping
from pathlib import Path

import pytest
from PIL import Image

from sosie.core import Finding
from sosie.dataset.given import Captions, layout_of, read_captions
from sosie.dataset.given.words import of_record, of_text

WORDS = {
    "0.jpg": "mira laughs, grey jumper",
    "1.jpg": "mira in a library",
    "2.jpg": "caf\u00e9 terrace, \u201cplain\u201d",
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three pictures."""
    return pictures(tmp_path / "photos of mira", *WORDS)


def pictures(folder: Path, *names: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for place, name in enumerate(names):
        Image.new("RGB", (8, 8), (40 * place, 90, 90)).save(folder / name, "JPEG")
    return folder


def read(folder: Path) -> Captions:
    return read_captions(folder, [placed.name for placed in layout_of(folder).pictures])


def codes(found: Captions) -> dict[str, Finding]:
    return {finding.code: finding for finding in found.findings}


def rows(words: Mapping[str, str] = WORDS) -> list[tuple[str, str]]:
    return list(words.items())


# Sidecars


@pytest.mark.parametrize(
    "name",
    ["0.txt", "0.TXT", "0.Txt", "0.caption", "0.captions", "0.cap", "0.jpg.txt", "0.JPG.TXT", "0.tags", "0.json"],
)
def test_a_caption_file_of_every_spelling_is_read(folder: Path, name: str) -> None:
    text = json.dumps({"caption": "in a coat"}) if name.endswith("json") else "in a coat"
    (folder / name).write_text(text)
    found = read(folder)
    assert found.texts == {"0.jpg": "in a coat"}
    assert found.findings == ()


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ({"caption": "a coat"}, ("a coat",)),
        ({"Text": "a coat", "tags": "x"}, ("a coat",)),
        ({"captions": ["a coat", "a hat"]}, ("a coat", "a hat")),
        ({"caption": {"short": "a coat", "long": "a long coat"}}, ("a coat", "a long coat")),
        ({"tags": ["coat", "hat"]}, ("coat, hat",)),
        ({"tags": {"coat": 0.9, "hat": 0.4}}, ("coat, hat",)),
        ({"/data/img/0": {"caption": "a coat", "tags": "x"}}, ("a coat",)),
        ("a coat", ("a coat",)),
        (["a coat", "a hat"], ("a coat", "a hat")),
        ({"conversations": [{"from": "human", "value": "?"}, {"from": "gpt", "value": "a coat"}]}, ("a coat",)),
    ],
)
def test_a_json_file_beside_an_image_is_read_in_every_usual_shape(
    folder: Path, value: object, words: tuple[str, ...]
) -> None:
    (folder / "0.json").write_text(json.dumps(value))
    assert read(folder).of("0.jpg") == words


def test_json_that_is_about_something_else_is_named(folder: Path) -> None:
    (folder / "0.json").write_text(json.dumps({"nodes": [1, 2], "links": []}))
    (folder / "1.json").write_text("{")
    found = read(folder)
    assert found.texts == {}
    assert "0.json (JSON without captions)" in codes(found)["SOS-T005"].message
    assert "1.json" in codes(found)["SOS-T013"].message
    assert found.waiting == {"1.jpg"}


def test_accents_and_case_do_not_keep_a_caption_from_its_image(tmp_path: Path) -> None:
    folder = pictures(tmp_path / "a", unicodedata.normalize("NFC", "\u00e9t\u00e9.jpg"), "IMG_1.JPG")
    (folder / unicodedata.normalize("NFD", "\u00e9t\u00e9.txt")).write_text("summer")
    (folder / "img_1.txt").write_text("one")
    assert sorted(read(folder).texts.values()) == ["one", "summer"]


def test_a_caption_file_that_is_exactly_another_images_is_not_taken(tmp_path: Path) -> None:
    folder = pictures(tmp_path / "a", "x.jpg", "X.jpg")
    if len(layout_of(folder).pictures) < 2:
        pytest.skip("this file system does not tell letters apart by case")
    (folder / "x.txt").write_text("small")
    assert read(folder).texts == {"x.jpg": "small"}


@pytest.mark.parametrize("place", ["photos of mira/captions", "captions", "txt", "photos of mira/labels"])
def test_captions_in_a_folder_of_their_own_are_read(folder: Path, place: str) -> None:
    beside = folder.parent / place
    beside.mkdir()
    (beside / "1.txt").write_text("in a coat")
    assert read(folder).texts == {"1.jpg": "in a coat"}


def test_the_file_beside_wins_and_the_difference_is_told(folder: Path) -> None:
    (folder / "metadata.csv").write_text("file_name,text\n0.jpg,a hat\n1.jpg,a cap\n")
    (folder / "0.txt").write_text("a coat")
    found = read(folder)
    assert found.texts == {"0.jpg": "a coat", "1.jpg": "a cap"}
    assert "0.jpg (0.txt, metadata.csv)" in codes(found)["SOS-T014"].message


# Several captions


def test_lines_are_alternatives_and_this_is_said(folder: Path) -> None:
    (folder / "0.txt").write_text("a photo of mira\r\nmira, a woman\n\n  mira,\nlaughing \nmira, a woman\n")
    found = read(folder)
    assert found.of("0.jpg") == ("a photo of mira", "mira, a woman", "mira, laughing")
    assert "1 of 3 images have several captions" in codes(found)["SOS-T009"].message


def test_a_line_separator_inside_a_caption_parts_nothing() -> None:
    assert of_text("soft \u2028 daylight\nforest") == ("soft \u2028 daylight", "forest")


def test_several_rows_of_one_image_are_alternatives(folder: Path) -> None:
    (folder / "captions.txt").write_text("image,caption\n0.jpg,a coat\n0.jpg,a hat\n1.jpg#0\ta cap\n")
    found = read(folder)
    assert found.of("0.jpg") == ("a coat", "a hat")
    assert found.of("1.jpg") == ("a cap",)


# Encodings


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "cp1252"])
def test_captions_of_every_usual_encoding_are_read(folder: Path, encoding: str) -> None:
    (folder / "2.txt").write_bytes(WORDS["2.jpg"].encode(encoding))
    found = read(folder)
    assert found.texts["2.jpg"] == WORDS["2.jpg"]
    assert ("SOS-T008" in codes(found)) == (encoding == "cp1252")


@pytest.mark.parametrize("encoding", ["cp1251", "gbk", "shift_jis"])
def test_an_image_waits_for_a_caption_whose_encoding_is_not_certain(folder: Path, encoding: str) -> None:
    text = "\u043c\u0438\u0440\u0430" if encoding == "cp1251" else "\u7b11\u9854"
    (folder / "0.txt").write_bytes(text.encode(encoding, "ignore"))
    found = read(folder)
    assert found.waiting == {"0.jpg"}
    assert "save it again as UTF-8" in codes(found)["SOS-T013"].hint
    (folder / "metadata.csv").write_text("file_name,text\n0.jpg,a hat\n")
    assert read(folder).waiting == frozenset()


# Tables


def csv_of(separator: str, header: str = "file_name{}text") -> str:
    lines = [header.format(separator)] + [separator.join((name, f'"{text}"')) for name, text in rows()]
    return "\r\n".join([*lines, separator, ""])


TABLES = {
    "metadata.csv": csv_of(","),
    "captions.csv": csv_of(";", "image{}caption"),
    "METADATA.CSV": csv_of(",", "Image{}Prompt"),
    "metadata.tsv": csv_of("\t"),
    "excel.csv": "sep=;\r\n" + csv_of(";"),
    "list.csv": "\n".join(f'{name},"{text}"' for name, text in rows()),
    "metadata.jsonl": "\n".join(json.dumps({"file_name": name, "text": text}) for name, text in rows()),
    "prompts.ndjson": "\n".join(json.dumps({"image_path": f"./{name}", "caption": text}) for name, text in rows()),
    "dataset.json": json.dumps([{"file": name, "caption": text} for name, text in rows()]),
    "meta_cap.json": json.dumps({f"/data/{name[0]}": {"caption": text} for name, text in rows()}),
    "pairs.json": json.dumps(dict(rows())),
    "lists.json": json.dumps({name: [text] for name, text in rows()}),
    "data.json": json.dumps({"version": 1, "data": [{"image": f"x/{name}", "caption": text} for name, text in rows()]}),
    "two.json": json.dumps([list(pair) for pair in rows()]),
    "llava.json": json.dumps(
        [{"image": name, "conversations": [{"from": "gpt", "value": text}]} for name, text in rows()]
    ),
    "coco.json": json.dumps(
        {
            "images": [{"id": place, "file_name": name} for place, (name, _) in enumerate(rows())],
            "annotations": [{"image_id": place, "caption": text} for place, (_, text) in enumerate(rows())],
        }
    ),
    "captions.txt": "\n".join(f"{name}: {text}" for name, text in rows()),
    "list.txt": "\n".join(f"{name}|{text}" for name, text in rows()),
}


@pytest.mark.parametrize("name", TABLES)
def test_a_table_of_every_usual_shape_is_read(folder: Path, name: str) -> None:
    (folder / name).write_text(TABLES[name], encoding="utf-8", newline="")
    found = read(folder)
    assert found.texts == WORDS
    assert [finding.code for finding in found.findings] == []


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "cp1252"])
def test_a_table_in_every_usual_encoding_is_read(folder: Path, encoding: str) -> None:
    (folder / "metadata.csv").write_bytes(csv_of(";").encode(encoding))
    assert read(folder).texts == WORDS


@pytest.mark.parametrize("depth", [1, 2])
def test_a_table_above_the_folder_is_read(tmp_path: Path, depth: int) -> None:
    folder = pictures(tmp_path / "a" / "train" / "mira", *WORDS)
    above = folder.parents[depth - 1]
    path = folder.relative_to(above).as_posix()
    lines = [json.dumps({"file_name": f"{path}/{name}", "text": text}) for name, text in rows()]
    lines.append(json.dumps({"file_name": "train/nora/0.jpg", "text": "nora"}))
    (above / "metadata.jsonl").write_text("\n".join(lines))
    found = read(folder)
    assert found.texts == WORDS
    assert found.findings == ()


def test_a_table_above_that_is_about_others_says_nothing_of_these(tmp_path: Path) -> None:
    folder = pictures(tmp_path / "a" / "mira", *WORDS)
    pictures(tmp_path / "a" / "nora", *WORDS)
    (tmp_path / "a" / "metadata.csv").write_text("file_name,text\nnora/0.jpg,nora laughs\nnora/1.jpg,nora\n")
    assert read(folder).texts == {}
    assert read(folder).findings == ()


def test_paths_of_another_machine_and_other_endings_find_their_images(folder: Path) -> None:
    table = [("C:\\Users\\me\\set\\0.png", "a coat"), ("/content/drive/1", "a hat"), ("gone.png", "nobody")]
    (folder / "metadata.csv").write_text("file_name,text\n" + "".join(f"{name},{text}\n" for name, text in table))
    found = read(folder)
    assert found.texts == {"0.jpg": "a coat", "1.jpg": "a hat"}
    assert "gone.png" in codes(found)["SOS-T012"].message


def test_a_caption_with_commas_and_without_quotes_is_whole(folder: Path) -> None:
    (folder / "metadata.csv").write_text("file_name,text\n0.jpg,mira, laughing, in a coat\n")
    assert read(folder).texts == {"0.jpg": "mira, laughing, in a coat"}


@pytest.mark.parametrize("name", ["metadata.parquet", "captions.xlsx"])
def test_a_table_that_is_not_read_is_named_with_the_way_out_and_its_images_wait(folder: Path, name: str) -> None:
    (folder / name).write_bytes(b"PAR1" + bytes(20))
    (folder / "0.txt").write_text("a coat")
    found = read(folder)
    assert name in codes(found)["SOS-T013"].message
    assert "CSV" in codes(found)["SOS-T013"].hint
    assert found.waiting == {"1.jpg", "2.jpg"}


@pytest.mark.parametrize("content", [b"\x81\x8d,\xff\n", b"[" * 100_000, b"{"])
def test_a_damaged_table_is_a_finding_and_never_a_template(folder: Path, content: bytes) -> None:
    (folder / "metadata.json").write_bytes(content)
    found = read(folder)
    assert "metadata.json" in codes(found)["SOS-T013"].message
    assert found.waiting == set(WORDS)


def test_repeats_of_a_table_count(folder: Path) -> None:
    (folder / "metadata.csv").write_text("file_name,text,repeats\n0.jpg,a coat,5\n1.jpg,a hat,\n")
    assert read(folder).repeats == {"0.jpg": 5}


# Other files


def test_every_file_that_is_not_read_is_named_with_what_it_is(folder: Path) -> None:
    (folder / "clip.mp4").write_bytes(b"\0\0\0\x18ftypmp42" + bytes(60))
    (folder / "cache.npz").write_bytes(b"PK\x03\x04" + bytes(60))
    (folder / "config.json").write_text('{"lr": 1}')
    for name in (
        "._0.txt",
        ".DS_Store",
        "Thumbs.db",
        "desktop.ini",
        "README.txt",
        "LICENSE",
        "~$0.txt",
        "Icon\r",
        "$RECYCLE.BIN",
    ):
        (folder / name).write_bytes(b"\0\5\x16\7")
    found = codes(read(folder))
    assert set(found) == {"SOS-T005"}
    for words in ("clip.mp4 (a video)", "cache.npz (a ZIP archive)", "config.json (JSON without captions)"):
        assert words in found["SOS-T005"].message
    assert "._" not in found["SOS-T005"].message


def test_names_that_are_no_utf_8_are_read_and_shown(tmp_path: Path) -> None:
    folder = tmp_path / "a"
    folder.mkdir()
    name = os.fsdecode(b"gar\xe7on")
    try:
        Image.new("RGB", (8, 8)).save(folder / f"{name}.jpg", "JPEG")
    except OSError:
        pytest.skip("this file system has no such names")
    (folder / f"{name}.txt").write_text("a coat")
    (folder / os.fsdecode(b"\xe9.pdf")).write_bytes(b"%PDF")
    found = read(folder)
    assert list(found.texts.values()) == ["a coat"]
    assert "\\xe9.pdf (a PDF document)" in codes(found)["SOS-T005"].message


# Folders


def test_kohyas_folders_are_taken_with_their_repeats(tmp_path: Path) -> None:
    root = tmp_path / "mira"
    pictures(root / "img" / "10_mira woman", "0.jpg", "1.jpg")
    pictures(root / "img" / "3_mira smiling", "0.jpg")
    pictures(root / "reg" / "1_woman", "9.jpg")
    (root / "img" / "3_mira smiling" / "0.txt").write_text("mira smiles")
    (root / "log").mkdir()
    for given, prefix in ((root, "img/"), (root / "img", "")):
        layout = layout_of(given)
        assert [(placed.name, placed.repeats) for placed in layout.pictures] == [
            (f"{prefix}10_mira woman/0.jpg", 10),
            (f"{prefix}10_mira woman/1.jpg", 10),
            (f"{prefix}3_mira smiling/0.jpg", 3),
        ]
        assert read(given).texts == {f"{prefix}3_mira smiling/0.jpg": "mira smiles"}
    assert layout_of(root).passed == ("reg/1_woman",)
    assert "reg/1_woman" in layout_of(root).findings[0].message


def test_folders_with_pictures_that_are_not_taken_are_named(folder: Path) -> None:
    pictures(folder / "rejected", "9.jpg")
    pictures(folder / ".thumbnails", "9.jpg")
    layout = layout_of(folder)
    assert [placed.name for placed in layout.pictures] == list(WORDS)
    assert [(finding.code, finding.severity) for finding in layout.findings] == [("SOS-T006", "info")]
    assert "rejected" in layout.findings[0].message


def test_an_image_folder_of_hugging_face_is_taken(tmp_path: Path) -> None:
    pictures(tmp_path / "set" / "train", *WORDS)
    (tmp_path / "set" / "train" / "metadata.csv").write_text(csv_of(","), encoding="utf-8")
    assert list(read(tmp_path / "set").texts.values()) == list(WORDS.values())
    (tmp_path / "set" / "train" / "metadata.csv").rename(tmp_path / "set" / "metadata.csv")
    assert list(read(tmp_path / "set").texts.values()) == list(WORDS.values())


def test_a_record_without_words_has_none() -> None:
    assert of_record({"file": "a", "gender": "female"}) is None
    assert of_record({"caption": None, "tags": 3}) is None
    assert of_record({"caption": ""}) == ()
