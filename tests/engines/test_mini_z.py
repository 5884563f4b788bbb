"""The embedded Z-Image through the whole loop: planned, drawn, judged, stored; and the hybrid, whose face is mini's."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from json_lines import lines
from places import ROOT

from sosie.faces.detect import Detector
from sosie.files.images import read_image

pytestmark = [pytest.mark.local, pytest.mark.once]
Sosie = Callable[..., Any]

PROMPT = "smiling, soft daylight, forest background"


def draw(sosie: Sosie, workspace: Path, recipe: str, steps: int, out: Path) -> tuple[Any, list[dict[str, Any]]]:
    """One attempt at one image by a shipped recipe with fewer steps in every stage."""
    text = (ROOT / "recipes" / f"{recipe}.toml").read_text().replace("steps = 20", f"steps = {steps}")
    (workspace / "recipes").mkdir(exist_ok=True)
    (workspace / "recipes" / "quick.toml").write_text(text.replace(f'name = "{recipe}"', 'name = "quick"'))
    asked = ("--recipe", "quick", "-n", "1", "--attempts", "1", "--seed", "7", "--workspace", workspace, "--out", out)
    done = sosie("generate", "mira", PROMPT, *asked, "--json")
    return done, [line for line in lines(done.out) if "scores" in line]


def test_mini_z_draws_a_face_that_is_judged_and_the_same_seed_draws_it_again(
    sosie: Sosie, workspace: Path, tmp_path: Path
) -> None:
    done, (made,) = draw(sosie, workspace, "mini-z", 8, tmp_path / "one")
    assert done.code in (0, 1), done.err
    scores = {score["name"]: score["value"] for score in made["scores"]}
    assert 0.2 < scores["sface"] < 0.9
    image = np.asarray(read_image(Path(made["image"]) if "image" in made else Path(made["path"])))
    assert image.shape == (256, 256, 3)
    assert len(Detector().detect(image)) == 1


def test_the_hybrid_gives_minis_face_to_mini_zs_body(sosie: Sosie, workspace: Path, tmp_path: Path) -> None:
    done, (made,) = draw(sosie, workspace, "mini-hybrid", 8, tmp_path / "two")
    assert done.code in (0, 1), done.err
    assert "detail.seam" in made["measures"]
    assert {score["name"]: score["value"] for score in made["scores"]}["sface"] > 0.45
