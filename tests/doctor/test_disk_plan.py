"""The disk plan: what a run takes is known before it starts."""

from __future__ import annotations

import shutil
from collections import namedtuple
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rules import codes_in

from sosie.core.finding import has_errors
from sosie.core.recipe import Guide, Recipe, Stage
from sosie.doctor import disk
from sosie.doctor.disk import (
    FLOOR,
    GB,
    DiskFile,
    DiskNeeds,
    DiskPlan,
    DiskRow,
    OutputImages,
    TrainingRun,
    check_free,
    check_leftovers,
    check_quota,
    disk_files,
    disk_table,
    plan_disk,
)
from sosie.workspace.bill import resolve
from sosie.workspace.workspace import Config, Workspace

CODES = codes_in("doctor/disk.py", "doctor/leftovers.py")

Usage = namedtuple("Usage", "total used free")

ZIMAGE = (
    DiskFile("z_image_bf16.safetensors", 12_310_000_000),
    DiskFile("qwen_3_4b.safetensors", 8_045_000_000),
    DiskFile("ae.safetensors", 335_304_388),
)


def rows(plan: DiskPlan) -> dict[str, int]:
    return {row.name: row.bytes for row in plan.rows}


def free(monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(size, 0, size))


def test_disk_full_at_52_of_50_gb_is_an_error_before_the_run() -> None:
    plan = DiskPlan(
        (DiskRow("models", 35 * GB, ""), DiskRow("checkpoints", 17 * GB, ""), DiskRow("reserve", 8 * GB, ""))
    )
    findings = check_quota(plan, 50 * GB)
    assert [(finding.code, finding.severity) for finding in findings] == [("SOS-D010", "error")]
    assert findings[0].message.startswith("disk full at 52.0 GB of 50.0 GB: ")
    assert "models 35.0 GB, checkpoints 17.0 GB" in findings[0].message
    assert "at least 60 GB" in findings[0].hint
    assert check_quota(plan, 60 * GB) == []


def test_a_lora_run_of_zimage_never_fits_a_pod_of_50_gb() -> None:
    run = TrainingRun(170_000_000, kept=4, images=40)
    plan = plan_disk(DiskNeeds(ZIMAGE, ("zimage",), training=run, pod=True))
    assert has_errors(check_quota(plan, 50 * GB))
    assert not has_errors(check_quota(plan, 90 * GB))


def test_the_plan_is_the_formula() -> None:
    files = (DiskFile("a", 10 * GB), DiskFile("b", 4 * GB))
    run = TrainingRun(checkpoint=GB, kept=3, images=100, optimiser=2 * GB)
    plan = plan_disk(DiskNeeds(files, training=run, outputs=OutputImages(1000), pod=True))
    assert rows(plan) == {
        "models": 14 * GB,
        "environment": 7 * GB,
        "image": 10 * GB,
        "downloads": 20 * GB,
        "checkpoints": 4 * GB + 4 * GB,
        "cache": 100 * (524_288 + 1_000_000),
        "outputs": 1000 * 1_572_864,
        "reserve": 31 * GB * 15 // 100 + FLOOR,
    }
    assert plan.bytes == sum(rows(plan).values()) == plan.to_come


def test_a_hundred_thousand_images_take_about_150_gb_as_png_and_40_as_webp() -> None:
    png = plan_disk(DiskNeeds(outputs=OutputImages(100_000)))
    webp = plan_disk(DiskNeeds(outputs=OutputImages(100_000, format="webp")))
    assert rows(png)["outputs"] / GB == pytest.approx(157, abs=1)
    assert rows(webp)["outputs"] / GB == pytest.approx(42, abs=1)


def test_one_more_checkpoint_than_are_kept_is_counted() -> None:
    plan = plan_disk(DiskNeeds(training=TrainingRun(checkpoint=7 * GB, kept=1, images=0)))
    assert rows(plan)["checkpoints"] == 14 * GB


def test_only_the_reserve_missing_is_a_warning() -> None:
    plan = DiskPlan((DiskRow("models", 40 * GB, ""), DiskRow("reserve", 11 * GB, "")))
    found = check_quota(plan, 50 * GB)
    assert [(finding.code, finding.severity) for finding in found] == [("SOS-D011", "warning")]
    assert "leaves 10.0 GB, expected 11.0 GB" in found[0].message


def test_what_is_on_this_disk_already_is_not_asked_for_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    there = DiskFile("big", 40 * GB, present=True)
    plan = plan_disk(DiskNeeds((there, DiskFile("small", GB))))
    assert plan.to_come == GB + 2 * GB + plan.reserve
    free(monkeypatch, 10 * GB)
    assert check_free(plan, tmp_path) == []
    free(monkeypatch, 2 * GB)
    short = check_free(plan, tmp_path)
    assert [finding.code for finding in short] == ["SOS-D012"]
    assert "(downloads 2.0 GB, models 1.0 GB)" in short[0].message
    free(monkeypatch, 4 * GB)
    assert [finding.code for finding in check_free(plan, tmp_path / "not" / "yet")] == ["SOS-D013"]
    pod = plan_disk(DiskNeeds((there,), pod=True))
    assert pod.to_come == pod.bytes
    assert rows(pod)["downloads"] == 80 * GB


def test_a_file_of_unknown_size_is_named_and_estimated() -> None:
    plan = plan_disk(DiskNeeds((DiskFile("juggernaut", None), DiskFile("vae", GB)), ("sdxl", "zimage", "sdxl")))
    assert rows(plan)["models"] == 36_600_000_000
    assert rows(plan)["downloads"] == 24_620_000_000
    found = check_quota(plan, 500 * GB)
    assert [(finding.code, finding.severity) for finding in found] == [("SOS-D015", "info")]
    assert "juggernaut" in found[0].message


def test_partial_downloads_are_found_and_summed(tmp_path: Path) -> None:
    assert check_leftovers(tmp_path) == []
    (tmp_path / "blobs").mkdir()
    (tmp_path / "blobs" / "abc.incomplete").write_bytes(b"x" * 3000)
    (tmp_path / "model.safetensors.part").write_bytes(b"x" * 1000)
    (tmp_path / "model.safetensors").write_bytes(b"x" * 1000)
    (tmp_path / "loop").symlink_to(tmp_path, target_is_directory=True)
    finding = check_leftovers(tmp_path)[0]
    assert (finding.code, finding.severity) == ("SOS-D016", "warning")
    assert finding.message.startswith("2 partial downloads")
    assert "abc.incomplete" in finding.message


def test_the_files_of_a_recipe_are_measured_once(tmp_path: Path) -> None:
    folder = tmp_path / "models" / "mini"
    folder.mkdir(parents=True)
    (folder / "unet.safetensors").write_bytes(b"x" * 700)
    (folder / "encoder.onnx").write_bytes(b"x" * 300)
    (folder / "again.onnx").hardlink_to(folder / "encoder.onnx")
    guide = Guide("faceid", "mini:encoder.onnx", "nowhere")
    recipe = Recipe("test", (Stage("generate", "sdxl", "mini", guides=(guide,)),), "{prompt}", 512, 512)
    found = disk_files(resolve(Workspace(tmp_path, Config()), recipe.stages))
    assert found == (DiskFile("mini", 1000, present=True), DiskFile("nowhere", None))


def test_the_table_shows_gb_and_gib() -> None:
    text = disk_table(plan_disk(DiskNeeds(ZIMAGE, pod=True)), 50 * GB)
    assert "models           20.7     19.3  3 files" in text
    assert "available        50.0     46.6" in text
    assert text.splitlines()[0].split() == ["part", "GB", "GiB", "how"]
    assert "to come" not in text


@given(st.lists(st.integers(0, 10**13), max_size=5), st.integers(0, 10**14), st.booleans())
def test_a_plan_fits_exactly_when_nothing_is_found(sizes: list[int], quota: int, pod: bool) -> None:
    plan = plan_disk(DiskNeeds(tuple(DiskFile(f"f{i}", size) for i, size in enumerate(sizes)), pod=pod))
    findings = check_quota(plan, quota)
    assert (findings == []) == (plan.bytes <= quota)
    assert has_errors(findings) == (plan.bytes - plan.reserve > quota)
    assert {finding.code for finding in findings} <= CODES
    assert all(row.bytes >= 0 for row in plan.rows)


def test_a_disk_that_cannot_be_asked_is_said_to_be_unknown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: Path) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(shutil, "disk_usage", refuse)
    found = check_free(plan_disk(DiskNeeds()), tmp_path)
    assert [(finding.code, finding.severity) for finding in found] == [("SOS-D017", "warning")]


def test_a_huge_folder_is_not_walked_to_its_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for index in range(20):
        (tmp_path / f"{index}.part").write_bytes(b"x")
    monkeypatch.setattr(disk, "MAX_ENTRIES", 5)
    assert check_leftovers(tmp_path)[0].message.startswith("5 partial downloads")
