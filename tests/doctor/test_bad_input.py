"""Bad input: what happened, what was expected, what to do; and nothing finished is lost."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from places import ROOT

pytestmark = pytest.mark.once

Sosie = Callable[..., Any]
NEW = ("--likeness", "fictional", "--adult", "--description", "a woman")


def mounted(path: Path, options: str) -> Iterator[Path]:
    """A tmpfs at `path`; skipped where mounting is not permitted."""
    path.mkdir(parents=True, exist_ok=True)
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(path)], capture_output=True, check=False)
    if done.returncode:
        pytest.skip(f"cannot mount a tmpfs: {done.stderr.decode().strip()}")
    try:
        yield path
    finally:
        subprocess.run(["umount", "-l", str(path)], check=True)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of one megabyte."""
    yield from mounted(tmp_path / "small", "size=1m")


@pytest.fixture
def read_only(tmp_path: Path) -> Iterator[Path]:
    """A disk that cannot be written to, even by root."""
    yield from mounted(tmp_path / "readonly", "ro")


def test_a_text_file_as_a_reference_is_left_out_by_name(sosie: Sosie, tmp_path: Path, references: list[Path]) -> None:
    text = tmp_path / "notes.png"
    text.write_text("not an image")
    result = sosie("new", "x", text, *references, *NEW, "--workspace", tmp_path)
    assert result.code == 1
    assert "notes.png" in result.err
    assert "hint:" in result.err
    assert len(list((tmp_path / "characters" / "x" / "references").iterdir())) == 12


def test_only_bad_references_make_no_character(sosie: Sosie, tmp_path: Path) -> None:
    corrupt = tmp_path / "corrupt.png"
    Image.effect_noise((64, 64), 50).convert("RGB").save(corrupt)
    corrupt.write_bytes(corrupt.read_bytes()[:200])
    result = sosie("new", "x", corrupt, *NEW, "--workspace", tmp_path)
    assert (result.code, result.out) == (2, "")
    assert "corrupt.png" in result.err
    assert not (tmp_path / "characters" / "x").exists()


def test_an_image_bomb_is_refused_before_it_is_decoded(sosie: Sosie, workspace: Path, tmp_path: Path) -> None:
    bomb = tmp_path / "bomb.png"
    Image.new("1", (30000, 30000)).save(bomb)
    result = sosie("score", bomb, "--character", "mira", "--workspace", workspace)
    assert result.code == 1
    assert "bomb.png" in result.err
    assert "million pixels" in result.err


def test_images_of_every_usual_kind_are_scored_alike(
    sosie: Sosie, workspace: Path, tmp_path: Path, references: list[Path]
) -> None:
    plain = Image.open(references[0]).convert("RGB")
    exif = Image.Exif()
    exif[0x0112] = 6
    plain.rotate(90, expand=True).save(tmp_path / "rotated.jpg", quality=97, exif=exif)
    plain.convert("CMYK").save(tmp_path / "cmyk.jpg", quality=97)
    plain.convert("RGBA").save(tmp_path / "alpha.png")
    plain.resize((5400, 5600)).save(tmp_path / "large.jpg", quality=85)
    grey = np.asarray(plain.convert("L")).astype(np.uint16) * 257
    Image.fromarray(grey).save(tmp_path / "deep.png")
    files = [tmp_path / name for name in ("rotated.jpg", "cmyk.jpg", "alpha.png", "large.jpg", "deep.png")]
    result = sosie("score", *files, "--character", "mira", "--workspace", workspace, "--json")
    import json

    values = [json.loads(line)["scores"]["identity"][0]["value"] for line in result.out.splitlines()]
    assert len(values) == 5, result.err
    assert all(value > 0.6 for value in values), values


def test_one_bad_file_does_not_stop_the_scoring_of_the_others(
    sosie: Sosie, workspace: Path, tmp_path: Path, references: list[Path]
) -> None:
    result = sosie(
        "score", tmp_path / "nowhere.png", references[0], "--character", "mira", "--workspace", workspace, "--json"
    )
    assert result.code == 1
    assert len(result.out.splitlines()) == 1
    assert "nowhere.png" in result.err


def test_a_read_only_output_folder_is_found_before_anything_is_rendered(
    sosie: Sosie, workspace: Path, read_only: Path
) -> None:
    result = sosie("generate", "mira", "--engine", "fake", "--out", read_only / "o", "--workspace", workspace)
    assert (result.code, result.out) == (2, "")
    assert "SOS-D001" in result.err
    assert "--out" in result.err
    assert not (workspace / ".sosie" / "images").exists()


def test_a_disk_that_fills_up_loses_nothing_that_was_finished(
    sosie: Sosie, workspace: Path, small_disk: Path, tmp_path: Path
) -> None:
    command = ("generate", "mira", "-n", 3, "--size", "512x512", "--engine", "fake", "--workspace", workspace)
    (small_disk / "ballast").write_bytes(os.urandom(700_000))
    full = sosie(*command, "--out", small_disk)
    assert full.code == 2
    assert "hint:" in full.err
    assert str(small_disk) in full.err
    assert not list(small_disk.glob(".*.part*"))
    moved = sosie(*command, "--out", tmp_path / "roomy", "-v")
    assert moved.code == 0, moved.err
    assert "(from the store)" in moved.err
    assert len(list((tmp_path / "roomy").glob("mira-*.png"))) == 3


def test_a_read_only_workspace_is_named(sosie: Sosie, read_only: Path, references: list[Path]) -> None:
    result = sosie("new", "x", *references, *NEW, "--workspace", read_only)
    assert result.code == 2
    assert str(read_only) in result.err


def test_a_missing_weight_file_is_named_before_anything_is_rendered(
    sosie: Sosie, workspace: Path, tmp_path: Path
) -> None:
    text = (ROOT / "recipes" / "mini.toml").read_text()
    (workspace / "recipes").mkdir()
    (workspace / "recipes" / "lost.toml").write_text(
        text.replace('"mini"\nsumm', '"lost"\nsumm').replace("faceid_mini", "faceid_gone")
    )
    result = sosie(
        "generate", "mira", "--recipe", "lost", "--engine", "fake", "--out", tmp_path / "o", "--workspace", workspace
    )
    assert result.code == 2
    assert "ip-adapter-faceid_gone.safetensors" in result.err


def test_a_character_without_consent_adulthood_or_images_cannot_be_drawn(sosie: Sosie, workspace: Path) -> None:
    toml = workspace / "characters" / "mira" / "character.toml"
    good = toml.read_text()
    for before, after, message in [
        ("adult = true", "adult = false", "adults only"),
        ('likeness = "fictional"', 'likeness = "celebrity"', "is not allowed"),
        ('likeness = "fictional"', "", "'likeness' is missing"),
    ]:
        toml.write_text(good.replace(before, after))
        result = sosie("generate", "mira", "--engine", "fake", "--workspace", workspace)
        assert result.code == 2
        assert message in result.err


def test_an_image_on_the_store_that_was_damaged_is_made_again(sosie: Sosie, workspace: Path, tmp_path: Path) -> None:
    command = (
        "generate",
        "mira",
        "-n",
        1,
        "--engine",
        "fake",
        "--out",
        tmp_path / "o",
        "--workspace",
        workspace,
        "--json",
    )
    first = sosie(*command)
    for image in (workspace / ".sosie" / "images").glob("*/*.png"):
        image.write_bytes(image.read_bytes()[:-20])
    again = sosie(*command)
    assert again.code == 0, again.err
    assert [line.split('"plan"')[1][:70] for line in again.out.splitlines()] == [
        line.split('"plan"')[1][:70] for line in first.out.splitlines()
    ]
