"""Spectacles in every reference: said when the character is made, and no rate that would not hold is shown."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageDraw

from sosie.faces.detect import Detector
from sosie.scorers import accessories

Sosie = Callable[..., Any]
pytestmark = pytest.mark.local


@pytest.fixture
def bespectacled(tmp_path: Path, references: list[Path]) -> list[Path]:
    """Five references with square frames, without the one that is turned furthest."""
    made: list[Path] = []
    for path in (*references[:3], *references[4:6]):
        with Image.open(path) as opened:
            image = opened.convert("RGB")
        face = Detector().detect(np.asarray(image))[0]
        wide, pen = face.interocular, ImageDraw.Draw(image)
        for x, y in face.points[:2]:
            box = (x - 0.4 * wide, y - 0.3 * wide, x + 0.4 * wide, y + 0.34 * wide)
            pen.rounded_rectangle(box, radius=0.1 * wide, outline=(20, 16, 14), width=round(0.08 * wide))
        made.append(tmp_path / f"{path.stem}.png")
        image.save(made[-1])
    return made


def test_spectacles_in_all_references_are_said_and_the_rate_is_withdrawn(
    sosie: Sosie, tmp_path: Path, bespectacled: list[Path]
) -> None:
    place = ("--workspace", tmp_path)
    details = ("--likeness", "fictional", "--adult", "--description", "a young woman, light skin, auburn hair")
    made = sosie("new", "specs", *bespectacled, *details, *place)
    assert made.code == 0
    assert "SOS-J009" in made.err
    assert "had spectacles" in made.err
    scored = sosie("score", "--character", "specs", "--json", bespectacled[0], *place)
    assert "SOS-J009" in scored.err
    for judge in json.loads(scored.out.splitlines()[-1])["scores"]["identity"]:
        assert judge["threshold_from"].endswith("matched to spectacles")
        assert (judge["fmr"], judge["joint"], judge["others"]) == (None, None, None)
        assert judge["pass"]


def test_what_they_only_may_have_withdraws_the_rate_and_leaves_the_thresholds(
    sosie: Sosie, tmp_path: Path, bespectacled: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    place = ("--workspace", tmp_path)
    details = ("--likeness", "fictional", "--adult", "--description", "a young woman, light skin, auburn hair")
    judges = {}
    for name, limit, doubt in (("bare", 99.0, 99.0), ("doubt", 99.0, accessories.DOUBT)):
        monkeypatch.setattr(accessories, "LIMIT", limit)
        monkeypatch.setattr(accessories, "DOUBT", doubt)
        made = sosie("new", name, *bespectacled, *details, *place)
        assert ("may all have spectacles" in made.err) == (name == "doubt")
        scored = sosie("score", "--character", name, "--json", bespectacled[0], *place)
        judges[name] = json.loads(scored.out.splitlines()[-1])["scores"]["identity"]
    for bare, doubted in zip(judges["bare"], judges["doubt"], strict=True):
        assert bare["fmr"] is not None
        assert (doubted["fmr"], doubted["joint"], doubted["others"]) == (None, None, None)
        assert doubted["threshold_from"].endswith("though the references may have spectacles")
        assert (bare["value"], bare["threshold"]) == (doubted["value"], doubted["threshold"])
