"""The embedded Z-Image through the whole loop: planned, drawn, judged, stored; and the hybrid, whose face is mini's."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from json_lines import lines
from places import DESCRIPTION, ROOT

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


def likeness(made: dict[str, Any]) -> float:
    """SFace's value of a line."""
    return next(score["value"] for score in made["scores"]["identity"] if score["judge"] == "sface")


def test_mini_z_draws_a_face_that_both_judges_measure(sosie: Sosie, workspace: Path, tmp_path: Path) -> None:
    done, (made,) = draw(sosie, workspace, "mini-z", 8, tmp_path / "one")
    assert done.code in (0, 1), done.err
    assert 0.2 < likeness(made) < 0.9
    assert made["path"] == "generate"
    assert {score["judge"] for score in made["scores"]["identity"]} >= {"sface", "dlib"}
    assert (made["prompt"], made["measures"]) == (f"portrait of {DESCRIPTION}, {PROMPT}", {})


def test_the_hybrid_gives_minis_face_to_mini_zs_body(sosie: Sosie, workspace: Path, tmp_path: Path) -> None:
    done, (made,) = draw(sosie, workspace, "mini-hybrid", 8, tmp_path / "two")
    assert done.code in (0, 1), done.err
    assert "detail.seam" in made["measures"]
    assert likeness(made) > 0.45
