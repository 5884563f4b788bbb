"""A character's training set: where its images come from, what is left out, captions, the judge's share."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import shutil
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from catalogues import ask
from hostile import Hostile, Served, hostile
from hypothesis import given
from hypothesis import strategies as st
from json_lines import lines
from moments import each_kill
from PIL import Image, ImageEnhance
from places import ROOT
from recipe_graphs import shipped
from seen_once import look_once

from sosie.core import Environment, Finding, Plan, Progress, Reference, Render
from sosie.core.errors import CheckFailedError, ConfigError, UsageError
from sosie.core.recipe import Calibration
from sosie.dataset import build, captions, image_set
from sosie.dataset.balance import POSES, Kind, asked, is_wanted
from sosie.dataset.build import OfferedImage
from sosie.dataset.captions import Seen, lead, trigger_for
from sosie.dataset.listing import read_listing
from sosie.scorers.sample import Sample
from sosie.workspace.characters import load_character
from sosie.workspace.session import Session
from sosie.workspace.workspace import open_workspace

pytestmark = pytest.mark.once

Sosie = Callable[..., Any]


def dataset(workspace: Path) -> Path:
    return workspace / "characters" / "mira" / "dataset"


def rows(workspace: Path) -> list[dict[str, Any]]:
    return lines((dataset(workspace) / "captions.jsonl").read_text())


def cropped(source: Path, target: Path, place: int = 0) -> Path:
    """Another picture of the same person: mirrored, cut and lit otherwise."""
    with Image.open(source) as image:
        side = image.width
        cut = image.convert("RGB").transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    edge = round(side * (0.04 + 0.03 * (place % 3)))
    cut = cut.crop((edge, 0, side, side - edge)).resize((side, side), Image.Resampling.LANCZOS)
    ImageEnhance.Brightness(cut).enhance(0.85 + 0.1 * (place % 3)).save(target, quality=95)
    return target


@pytest.fixture(autouse=True)
def _each_picture_is_looked_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    look_once(monkeypatch)


@pytest.fixture
def pictures(tmp_path: Path, references: list[Path]) -> Path:
    """Five pictures of the character that are no references."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    for place, source in enumerate(references[:5]):
        cropped(source, folder / f"picture{place}.jpg", place)
    return folder


# Where images come from


def test_references_become_a_set_but_for_a_third_that_judges(sosie: Sosie, workspace: Path) -> None:
    done = sosie("dataset", "build", "mira", "--workspace", workspace, "--json")
    assert done.code == 0, done.err
    made = lines(done.out)
    assert len(made) == 8
    inside = {row["sha256"] for row in rows(workspace)}
    for row in rows(workspace):
        file = workspace / "characters" / "mira" / row["source"].removeprefix("reference:")
        assert hashlib.sha256(file.read_bytes()).hexdigest() == row["sha256"]
        assert (dataset(workspace) / row["file"]).read_bytes() == file.read_bytes()
        assert set(row["scores"]) >= {"sface"}
        assert row["scores"]["sface"] > 0.5
    checked = lines(sosie("dataset", "check", "mira", "--workspace", workspace, "--json").out)[0]
    assert (checked["images"], checked["judging_references"]) == (8, 4)
    assert len(inside) == 8


@given(st.sets(st.text("0123456789abcdef", min_size=64, max_size=64), min_size=1, max_size=40))
def test_the_split_of_references_depends_on_their_digests_alone(digests: set[str]) -> None:
    references = [Reference(f"references/{place}.png", sha) for place, sha in enumerate(sorted(digests))]
    teaching, judged = image_set.split(references)
    assert len(judged) == -(-len(references) // 3)
    assert set(teaching) | set(judged) == set(references)
    assert not set(teaching) & set(judged)
    again = image_set.split(references[::-1])
    assert (set(again[0]), set(again[1])) == (set(teaching), set(judged))


def test_a_judges_reference_never_enters_a_set_even_as_a_smaller_copy(
    sosie: Sosie, workspace: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "copies"
    folder.mkdir()
    own = sorted((workspace / "characters" / "mira" / "references").iterdir())
    for path in own:
        with Image.open(path) as image:
            image.resize((400, 400), Image.Resampling.LANCZOS).save(folder / f"{path.stem}.png")
    done = sosie("dataset", "build", "mira", "--from", folder, "--workspace", workspace)
    assert done.code == 0
    assert len(rows(workspace)) == 8
    assert "SOS-T024" not in done.err
    assert done.err.count("SOS-T007") == 1
    assert "4 of 12 images are among the references that judge (4: a third is kept for that)" in done.err
    assert "8 new, 4 kept for judging, 0 left out" in done.err
    checked = lines(sosie("dataset", "check", "mira", "--workspace", workspace, "--json").out)[0]
    assert checked["judging_references"] == 4


def test_a_set_that_holds_all_references_leaves_nothing_to_judge_by(sosie: Sosie, workspace: Path) -> None:
    shutil.copytree(workspace / "characters" / "mira" / "references", dataset(workspace))
    done = sosie("dataset", "check", "mira", "--workspace", workspace)
    assert done.code == 2
    assert "nothing is left to judge by" in done.err


def test_one_reference_cannot_both_teach_and_judge(sosie: Sosie, workspace: Path) -> None:
    for path in sorted((workspace / "characters" / "mira" / "references").iterdir())[1:]:
        path.unlink()
    done = sosie("dataset", "build", "mira", "--workspace", workspace)
    assert done.code == 2
    assert "--bootstrap" in done.err


def test_a_folder_comes_with_its_captions_and_the_same_command_again_adds_nothing(
    sosie: Sosie, workspace: Path, pictures: Path
) -> None:
    (pictures / "picture0.txt").write_text("in a red  coat,\nmira laughs")
    (pictures / "captions.jsonl").write_text('{"file": "picture1.jpg", "caption": "m1ra at the window"}\n')
    done = sosie("dataset", "build", "mira", "--from", pictures, "--workspace", workspace, "--json")
    assert done.code == 0, done.err
    by_source = {row["source"]: row for row in rows(workspace)}
    assert by_source["file:picture0.jpg"]["caption"] == "m1ra, in a red coat, mira laughs"
    assert by_source["file:picture1.jpg"]["caption"] == "m1ra at the window"
    assert by_source["file:picture0.jpg"]["by"] == "given"
    assert by_source["file:picture2.jpg"]["by"] == "template"
    again = sosie("dataset", "build", "mira", "--from", pictures, "--workspace", workspace, "--json")
    assert (again.code, again.out) == (0, "")
    assert len(rows(workspace)) == 5


def test_what_would_do_harm_is_left_out_with_the_reason(
    sosie: Sosie, workspace: Path, pictures: Path, references: list[Path]
) -> None:
    Image.new("RGB", (1, 1)).save(pictures / "pixel.png")
    (pictures / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\nnothing")
    shutil.copy(pictures / "picture0.jpg", pictures / "zcopy.jpg")
    with Image.open(pictures / "picture1.jpg") as image:
        pair = Image.new("RGB", (2 * image.width, image.height))
        pair.paste(image, (0, 0))
        pair.paste(image, (image.width, 0))
        pair.save(pictures / "two.png")
        image.resize((24, 24)).resize((512, 512), Image.Resampling.BICUBIC).save(pictures / "blur.png")
    done = sosie("dataset", "build", "mira", "--from", pictures, "--workspace", workspace)
    assert done.code == 1
    assert {row["source"] for row in rows(workspace)} == {f"file:picture{place}.jpg" for place in range(5)}
    for code, name in (("T025", "pixel"), ("T002", "broken"), ("T024", "zcopy"), ("T026", "two.png")):
        assert [line for line in done.err.splitlines() if f"SOS-{code}" in line and name in line], (code, done.err)
    assert "SOS-C" not in done.err


def test_another_person_is_left_out_however_many_pictures_there_are(tmp_path: Path, workspace: Path) -> None:
    from sosie.dataset.build import looks
    from sosie.workspace.characters import load_character
    from sosie.workspace.session import Session
    from sosie.workspace.workspace import open_workspace

    with Session(open_workspace(workspace)) as session:
        paths = list(session.reference_paths(load_character(session.workspace, "mira")).values())
        models = looks(session)
        turned = _Turned(models.encoder)
        strangers = [cropped(path, tmp_path / f"{path.stem}.jpg", place) for place, path in enumerate(paths)]
        turned.strangers = {np.asarray(Image.open(path).convert("RGB")).tobytes() for path in strangers}
        kept, findings = image_set.sift(strangers, [], paths[:4], replace(models, encoder=turned))
        assert kept == []
        assert {finding.code for finding in findings} == {"SOS-T027"}
        kept, _ = image_set.sift(strangers, [], paths[:4], models)
        assert len(kept) >= 10


class _Turned:
    """An encoder to which some pictures show somebody else: their vectors are turned by half a right angle and more."""

    def __init__(self, encoder: Any) -> None:
        self.strangers: set[bytes] = set()
        self._encoder = encoder
        self.name, self.sha256, self.metric = encoder.name, encoder.sha256, encoder.metric

    def embed(self, image: Any, face: Any) -> Any:
        vector = self._encoder.embed(image, face)
        return np.roll(vector, 7) if image.tobytes() in self.strangers else vector


# Lists


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hostile]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1,localhost")
    for name in ("HF_TOKEN", "CIVITAI_TOKEN", "HF_ENDPOINT", "CIVITAI_ENDPOINT"):
        monkeypatch.delenv(name, raising=False)
    with hostile() as running:
        yield running


def test_a_list_is_downloaded_resumed_and_not_fetched_twice(
    sosie: Sosie, workspace: Path, pictures: Path, server: Hostile, tmp_path: Path
) -> None:
    for place in range(3):
        data = (pictures / f"picture{place}.jpg").read_bytes()
        server.files[f"/a/picture{place}.jpg"] = Served(data, kind="image/jpeg")
    served: Any = server.files["/a/picture1.jpg"]
    served.drop = [20_000]
    listing = tmp_path / "list.txt"
    addresses = [f"{server.url}/a/picture{place}.jpg" for place in range(3)]
    listing.write_text("# mine\n" + "\n".join([*addresses, f"{server.url}/a/gone.jpg", addresses[0]]) + "\n")
    done = sosie("dataset", "build", "mira", "--urls", listing, "--workspace", workspace, "--json")
    assert done.code == 1
    assert "SOS-N004" in done.err
    assert [row["source"] for row in rows(workspace)] == addresses
    assert server.asked[2].headers.get("range") == "bytes=20000-"
    asked_for = len(server.asked)
    again = sosie("dataset", "build", "mira", "--urls", listing, "--workspace", workspace, "--json")
    assert [item.path for item in server.asked[asked_for:]] == ["/a/gone.jpg"]
    assert again.out == ""
    left = list((workspace / ".sosie" / "downloads" / "mira").iterdir())
    assert left == []


def test_a_file_that_is_not_what_the_list_says_is_left_out_and_no_signature_is_shown(
    sosie: Sosie, workspace: Path, pictures: Path, server: Hostile, tmp_path: Path
) -> None:
    data = (pictures / "picture0.jpg").read_bytes()
    server.files["/x.jpg?X-Amz-Signature=5ecret"] = Served(data, kind="image/jpeg")
    server.files["/y.jpg"] = Served(data[:-7], kind="image/jpeg")
    listing = tmp_path / "list.json"
    right = {"url": f"{server.url}/x.jpg?X-Amz-Signature=5ecret", "sha256": hashlib.sha256(data).hexdigest()}
    wrong = {"url": f"{server.url}/y.jpg", "sha256": hashlib.sha256(data).hexdigest(), "caption": "wrong"}
    listing.write_text(json.dumps([right, wrong]))
    done = sosie("dataset", "build", "mira", "--urls", listing, "--workspace", workspace, "--json", "-v")
    assert [row["source"] for row in rows(workspace)] == [f"{server.url}/x.jpg"]
    assert "SOS-N003" in done.err
    assert "5ecret" not in done.err + done.out + (dataset(workspace) / "captions.jsonl").read_text()


def test_exports_of_cloudinary_and_s3_are_read(tmp_path: Path) -> None:
    cloudinary = {
        "resources": [
            {
                "public_id": "mira/one",
                "resource_type": "image",
                "secure_url": "https://res.example.com/demo/image/upload/v1/mira/one.jpg",
                "bytes": 1234,
                "context": {"custom": {"caption": "by the sea"}},
            },
            {"public_id": "clip", "resource_type": "video", "secure_url": "https://res.example.com/clip.mp4"},
        ],
        "next_cursor": "abc",
    }
    file = tmp_path / "cloudinary.json"
    file.write_text(json.dumps(cloudinary))
    found = read_listing(file)
    assert [(item.source, item.size, item.caption) for item in found.images] == [
        ("https://res.example.com/demo/image/upload/v1/mira/one.jpg", 1234, "by the sea")
    ]
    assert "next_cursor" in found.notes[0]
    digest = hashlib.sha256(b"x").digest()
    s3 = {
        "Contents": [
            {"Key": "mira/a b.png", "Size": 7, "ETag": '"x"', "ChecksumSHA256": base64.b64encode(digest).decode()},
            {"Key": "mira/notes.pdf", "Size": 9},
        ]
    }
    file = tmp_path / "s3.json"
    file.write_text(json.dumps(s3))
    with pytest.raises(UsageError, match="does not name its bucket"):
        read_listing(file)
    listed = read_listing(file, "https://bucket.s3.amazonaws.com/").images
    assert [(item.url, item.size, item.sha256) for item in listed] == [
        ("https://bucket.s3.amazonaws.com/mira/a%20b.png", 7, digest.hex())
    ]


def test_the_same_image_signed_anew_has_the_same_key(tmp_path: Path) -> None:
    file = tmp_path / "list.txt"
    urls = ("https://h/x.jpg?X-Amz-Date=1&id=2", "https://h/x.jpg?id=2&X-Amz-Date=9", "https://h/x.jpg?id=3")
    file.write_text("\n".join(urls))
    assert len(read_listing(file).images) == 2


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "lists no image"),
        ("ftp://host/x.png", "not an address to fetch"),
        ("https://user:word@host/x.png", "not an address to fetch"),
        ("[1]", "not an object"),
        ('{"pages": []}', "has the keys pages"),
        ('[{"url": "https://h/x.png", "sha256": "12"}]', "not 64 hex digits"),
        ("[" * 100_000, "not JSON"),
    ],
)
def test_a_list_that_is_none_says_what_was_expected(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "list").write_text(text)
    with pytest.raises((ConfigError, UsageError), match=message):
        read_listing(tmp_path / "list")


# Captions


@given(
    st.lists(st.tuples(st.sampled_from(("a", "b")), st.lists(st.sampled_from(("x", "y", "z")), max_size=3)), max_size=9)
)
def test_captions_differ_from_each_other_and_begin_with_the_trigger(
    shown: Sequence[tuple[str, Sequence[str]]],
) -> None:
    texts = captions.captions("m1ra", [Seen(text, tuple(details)) for text, details in shown], ["m1ra, a"])
    assert len({*texts, "m1ra, a"}) == len(shown) + 1
    assert all(text.startswith("m1ra, ") for text in texts)


def test_the_trigger_comes_first_and_once() -> None:
    assert lead("m1ra", "photo of M1RA, smiling") == "m1ra, photo of, smiling"
    assert lead("m1ra", "m1ra") == "m1ra"
    assert lead("m1ra", "m1randa smiles") == "m1ra, m1randa smiles"
    assert (trigger_for("mira"), trigger_for("Otto"), trigger_for("mrs")) == ("m1ra", "0tto", "mrs01")


class _Classifier:
    def __init__(self) -> None:
        from sosie.scorers.attributes import Attribute, Value

        self.attributes = (
            Attribute("background", (Value("forest", ("forest", "forest background")),)),
            Attribute("hair colour", (Value("red", ("red",)),), ("hair",)),
            Attribute("beard", (Value("beard", ("beard",)),)),
            Attribute("expression", (Value("smiling", ("smiling",)), Value("sad", ("sad",)))),
            Attribute("shirt colour", (Value("blue", ("blue",)),), ("shirt",)),
        )

    def see(self, pixels: Any) -> dict[str, dict[str, float]]:
        one = {attribute.name: {value.name: 1.0 for value in attribute.values} for attribute in self.attributes}
        return {**one, "expression": {"smiling": 0.55, "sad": 0.45}}


def test_a_caption_names_clothes_and_background_and_never_the_face(references: list[Path]) -> None:
    from sosie.faces.detect import Detector

    pixels = np.asarray(Image.open(references[0]).convert("RGB"))
    classifier: Any = _Classifier()
    seen = captions.see(Sample(pixels, Detector().detect(pixels)), classifier)
    assert seen.text == "close-up portrait, facing the camera, blue shirt, forest background"


def test_pose_and_framing_are_measured(references: list[Path]) -> None:
    from sosie.faces.detect import Detector

    detector = Detector()
    with Image.open(references[9]) as image:
        small = Image.new("RGB", (1024, 1536), "grey")
        small.paste(image.convert("RGB").resize((256, 256)), (300, 100))
    pixels = np.asarray(small)
    seen = captions.see(Sample(pixels, detector.detect(pixels)), None)
    assert seen.text.startswith("full body, turned right, ")
    assert "grey background" in seen.text
    assert captions.see(Sample(np.full((64, 64, 3), 10, np.uint8)), None).text == "low light, plain black background"


def test_captions_are_written_anew_but_for_those_of_the_user(
    sosie: Sosie, workspace: Path, pictures: Path, tmp_path: Path
) -> None:
    (pictures / "picture0.txt").write_text("in a red coat")
    sosie("dataset", "build", "mira", "--from", pictures, "--workspace", workspace)
    program = tmp_path / "captioner.py"
    program.write_text("import sys, pathlib\nprint('a hat,', pathlib.Path(sys.argv[1]).suffix)\n")
    beside = rows(workspace)[4]["file"]
    (dataset(workspace) / Path(beside).with_suffix(".txt")).write_text("m1ra, my own words")
    shutil.copy(pictures / "picture2.jpg", dataset(workspace) / "by-hand.jpg")
    done = sosie(
        *("dataset", "caption", "mira", "--caption-command", f"{sys.executable} {program}", "--workspace", workspace)
    )
    assert done.code == 0, done.err
    found = {row["file"]: row for row in rows(workspace)}
    assert len(found) == 6
    assert Counter(row["by"] for row in found.values()) == {"command": 4, "given": 1, "template": 1}
    assert len({row["caption"] for row in found.values()}) == 6
    assert all(row["caption"].startswith("m1ra, ") for row in found.values())
    assert found["by-hand.jpg"]["caption"].startswith("m1ra, a hat, .jpg")
    assert found[beside]["by"] == "template"


def test_a_captioning_program_that_says_or_waits_too_much_is_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    endless = f"{sys.executable} -c 'while True: print(\"a hat \" * 1000)'"
    with pytest.raises(UsageError, match=r"said more than 1,000,000 bytes on x\.png"):
        captions.from_command(endless, tmp_path / "x.png")
    loud = f'{sys.executable} -c \'import sys; sys.stderr.write("n" * 10_000_000 + "\\nno card"); sys.exit(1)\''
    with pytest.raises(UsageError, match=r"ended with 1 on x\.png: no card"):
        captions.from_command(loud, tmp_path / "x.png")
    monkeypatch.setattr(captions, "COMMAND_SECONDS", 0.5)
    # The pipe is held by what the program started, too.
    inner = "import time; time.sleep(60)"
    asleep = f'{sys.executable} -c \'import subprocess, sys; subprocess.run([sys.executable, "-c", "{inner}"])\''
    began = time.monotonic()
    with pytest.raises(UsageError, match="timed out after"):
        captions.from_command(asleep, tmp_path / "x.png")
    assert time.monotonic() - began < 20


def test_a_captioning_program_that_fails_says_why(tmp_path: Path) -> None:
    for command, message in (
        ("nowhere-to-be-found", "was not found"),
        (f"{sys.executable} -c 'import sys; sys.exit(\"no card\")'", "no card"),
        (f"{sys.executable} -c pass", "said nothing"),
        ("", "is empty"),
    ):
        with pytest.raises(UsageError, match=message):
            captions.from_command(command, tmp_path / "x.png")


def test_a_table_that_is_no_table_names_the_line(sosie: Sosie, workspace: Path) -> None:
    sosie("dataset", "build", "mira", "--workspace", workspace)
    table = dataset(workspace) / "captions.jsonl"
    table.write_text(table.read_text() + "nothing\n")
    done = sosie("dataset", "caption", "mira", "--workspace", workspace)
    assert done.code == 2
    assert "captions.jsonl:9: not a JSON object" in done.err


# Check


def test_the_check_finds_strangers_even_where_all_images_show_the_same_one(
    workspace: Path, tmp_path: Path, pictures: Path
) -> None:
    from sosie.dataset.build import looks
    from sosie.workspace.characters import load_character
    from sosie.workspace.session import Session
    from sosie.workspace.workspace import open_workspace

    with Session(open_workspace(workspace)) as session:
        paths = list(session.reference_paths(load_character(session.workspace, "mira")).values())
        models = looks(session)
        assert image_set.check_strangers(pictures, paths, models) == []
        turned = _Turned(models.encoder)
        turned.strangers = {np.asarray(Image.open(path).convert("RGB")).tobytes() for path in pictures.iterdir()}
        found = image_set.check_strangers(pictures, paths, replace(models, encoder=turned))
        assert sorted(finding.subject for finding in found) == sorted(path.name for path in pictures.iterdir())


def test_sizes_are_checked_against_what_the_recipe_trains_at(sosie: Sosie, workspace: Path) -> None:
    sosie("dataset", "build", "mira", "--workspace", workspace)
    for recipe, small in (("mini", False), ("sdxl-instantid", True)):
        done = sosie("dataset", "check", "mira", "--recipe", recipe, "--workspace", workspace, "--json")
        codes = {finding["code"] for finding in lines(done.out)[0]["findings"]}
        assert ("SOS-T021" in codes) == small, recipe


def test_a_character_without_a_set_is_told_how_to_build_one(sosie: Sosie, workspace: Path) -> None:
    for verb in ("check", "caption"):
        done = sosie("dataset", verb, "mira", "--workspace", workspace)
        assert done.code == 2
        assert "sosie dataset build mira" in done.err
    both = sosie("dataset", "build", "mira", "--from", "x", "--bootstrap", 3, "--workspace", workspace)
    assert both.code == 2
    assert "more than one source" in both.err


# Bootstrap


def test_every_part_of_the_prompts_is_asked_for_equally_often() -> None:
    prompts = ("smiling, daylight, forest", "sad, neon, beach", "angry, moonlight, office")
    texts = [asked(prompts, place) for place in range(30)]
    assert len(set(texts)) == 30
    for column in zip(*(prompt.split(", ") for prompt in prompts), strict=True):
        assert {word: sum(word in text for text in texts) for word in column} == dict.fromkeys(column, 10)
    assert Counter(text.rsplit(", ", 1)[1] for text in texts) == dict.fromkeys(POSES, 6)


def test_a_recipe_that_says_nothing_of_its_own_is_asked_for_scenes() -> None:
    texts = [asked(("", " "), place) for place in range(24)]
    assert len(set(texts)) == 24
    assert texts[0] == "close-up portrait, smiling, soft daylight, in a park, facing the camera"


def test_a_kind_that_is_there_enough_is_not_wanted_and_what_is_never_drawn_is_not_waited_for() -> None:
    front, left = Kind("frontal", "close-up"), Kind("left", "close-up")
    assert is_wanted(front, [front] * 9, [front] * 9, 10)
    assert not is_wanted(front, [front] * 8, [*[front] * 8, left], 10)
    assert is_wanted(left, [front] * 8, [*[front] * 8, left], 10)


@pytest.fixture
def varied(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[Plan]:
    """The fake engine with pictures that are no copies of the references; the plans that it was given."""
    from sosie.engines.fake import FakeEngine

    plans: list[Plan] = []

    def run(self: Any, wanted: Sequence[Plan]) -> Iterator[Progress | Render]:
        for plan in wanted:
            plans.append(plan)
            references = [reference.sha256 for reference in plan.character.references]
            paths = self._references
            if "grey" in plan.prompt:
                image = Image.new("RGB", (512, 512), "grey")
            else:
                file = cropped(paths[references[len(plans) % len(references)]], tmp_path / "drawn.jpg", len(plans))
                image = Image.open(file).convert("RGB")
            yield Render(image, plan, "fake", Environment("3", "any", "none", ()), 0.0)

    monkeypatch.setattr(FakeEngine, "run", run)
    return plans


def bootstrap(sosie: Sosie, workspace: Path, n: int, *more: object) -> Any:
    text = (ROOT / "recipes" / "mini.toml").read_text()
    text = text.replace('"mini"', '"quick"', 1).replace("fmr = 0.05", 'fmr = 0.05\ndefects = ["no_face"]')
    (workspace / "recipes").mkdir(exist_ok=True)
    (workspace / "recipes" / "quick.toml").write_text(text)
    flags = ("--bootstrap", n, "--recipe", "quick", "--engine", "fake", "--workspace", workspace, "--json")
    return sosie("dataset", "build", "mira", *flags, *more)


def test_a_set_is_drawn_until_it_has_its_images_and_what_is_there_is_not_drawn_again(
    sosie: Sosie, workspace: Path, varied: list[Plan]
) -> None:
    done = bootstrap(sosie, workspace, 4)
    assert done.code in (0, 1), done.err
    made = rows(workspace)
    assert len(made) == 4, done.err
    assert all(row["source"].startswith("plan:") for row in made)
    assert all(row["scores"]["sface"] > 0 and row["scores"]["dlib"] < 1 for row in made)
    assert len({row["caption"] for row in made}) == 4
    assert len({plan.seed for plan in varied}) == len(varied)
    drawn = len(varied)
    again = bootstrap(sosie, workspace, 4)
    assert (again.code, again.out) == (0, "")
    assert len(varied) == drawn
    assert len(ask(workspace / ".sosie" / "catalogue.sqlite", "SELECT id FROM deliveries")) >= 4


def test_a_drawn_copy_of_a_reference_is_taken_out_again(sosie: Sosie, workspace: Path) -> None:
    done = bootstrap(sosie, workspace, 2)  # the fake engine as it is gives references, brightened
    assert done.code == 1
    assert rows(workspace) == []
    assert image_set.image_files(dataset(workspace)) == []
    assert "SOS-T024" in done.err
    assert "stayed short: 0 of 2" in done.err


def test_with_one_judge_alone_no_set_is_drawn(sosie: Sosie, workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from sosie.core.errors import MissingExtraError
    from sosie.faces import encoders

    def missing(*_: object) -> None:
        raise MissingExtraError("dlib is not installed", 'pip install "sosie[judges]"')

    monkeypatch.setitem(encoders._BUILT_IN, "dlib", missing)  # pyright: ignore
    done = bootstrap(sosie, workspace, 2)
    assert done.code == 2
    assert "two judges" in done.err


def test_an_image_that_a_user_put_there_gets_its_caption_with_the_others(
    sosie: Sosie, workspace: Path, pictures: Path
) -> None:
    dataset(workspace).mkdir()
    shutil.copy(pictures / "picture0.jpg", dataset(workspace) / "left.jpg")
    done = sosie("dataset", "build", "mira", "--from", pictures, "--workspace", workspace)
    assert done.code == 0, done.err
    assert len(rows(workspace)) == 5
    assert next(row for row in rows(workspace) if row["file"] == "left.jpg")["caption"] == ""
    sosie("dataset", "caption", "mira", "--workspace", workspace)
    assert all(row["caption"].startswith("m1ra, ") for row in rows(workspace))


def test_a_build_that_is_killed_at_any_moment_leaves_no_image_without_its_row(
    workspace: Path, references: list[Path]
) -> None:
    folder, item = dataset(workspace), OfferedImage(references[0], "file:a.jpg", ("a red coat",))
    with Session(open_workspace(workspace)) as session:
        who = load_character(session.workspace, "mira")

        def add() -> None:
            build.add(session, who, list(image_set.read_members(folder)), item, build.Captioning())

        def prepare() -> None:
            shutil.rmtree(folder, ignore_errors=True)

        for moment in each_kill(add, prepare):
            members = image_set.read_members(folder)
            assert all(member.source == "file:a.jpg" for member in members), moment
            if not members:
                add()
            (member,) = image_set.read_members(folder)
            assert (member.caption, member.by, set(member.scores)) == ("m1ra, a red coat", "given", {"sface", "dlib"})
            assert len(list(folder.iterdir())) == 2, moment


def test_a_row_whose_image_a_killed_build_did_not_write_is_taken_out_by_the_next_look(
    sosie: Sosie, workspace: Path
) -> None:
    sosie("dataset", "build", "mira", "--workspace", workspace)
    gone = next(dataset(workspace).glob("*.jpg"))
    gone.unlink()
    sosie("dataset", "check", "mira", "--workspace", workspace)
    assert gone.name not in (dataset(workspace) / "captions.jsonl").read_text()
    assert len(rows(workspace)) == 7


def test_two_builds_at_once_keep_each_others_images(workspace: Path, references: list[Path]) -> None:
    folder = dataset(workspace)
    with Session(open_workspace(workspace)) as session:
        who = load_character(session.workspace, "mira")
        one, other = list[image_set.Member](), list[image_set.Member]()
        build.add(session, who, one, OfferedImage(references[0], "file:a"), build.Captioning())
        build.add(session, who, other, OfferedImage(references[1], "file:b"), build.Captioning())
        build.add(session, who, one, OfferedImage(references[2], "file:c"), build.Captioning())
    assert [member.source for member in image_set.read_members(folder)] == ["file:a", "file:b", "file:c"]
    assert one == list(image_set.read_members(folder))


def test_a_full_disk_leaves_the_table_as_it_was(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from sosie.core.errors import DeliveryError

    folder = dataset(workspace)
    image_set.write_members(folder, [image_set.Member("x.png", "0" * 64, "m1ra, one")])
    before = (folder / "captions.jsonl").read_bytes()

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(DeliveryError, match="No space left"):
        image_set.write_members(folder, [image_set.Member("x.png", "0" * 64, "m1ra, two")])
    assert (folder / "captions.jsonl").read_bytes() == before
    assert [path.name for path in folder.iterdir()] == ["captions.jsonl"]


def test_drawing_a_training_set_looks_for_files_on_the_server(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from sosie.api import datasets as module
    from sosie.workspace.characters import load_character

    monkeypatch.setattr(module, "make_judge", lambda *_: (None, ()))
    with Session(open_workspace(workspace)) as session:
        recipe = replace(shipped("zimage"), calibration=Calibration(("smiling",)))
        who = load_character(session.workspace, "mira")
        order = module.Bootstrap(who, recipe, 1, engine="comfy:http://127.0.0.1:1")
        run, found = module.bootstrap(session, order), list[Any]()
        with contextlib.suppress(CheckFailedError):
            found.extend(iter(run.__next__, None))
    told = [event.code for event in found if isinstance(event, Finding)]
    assert "SOS-Y001" in told
    assert not {"SOS-R002", "SOS-R004"} & set(told)
