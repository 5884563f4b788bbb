"""Renders and scorecards to store, without a model."""

from __future__ import annotations

import random
from pathlib import Path

from PIL import Image

from sosie.core import (
    Calibrated,
    Character,
    CohortRate,
    Draw,
    Environment,
    Guide,
    Recipe,
    Render,
    Request,
    Score,
    Scorecard,
    Stage,
    Verdict,
    plan,
)
from sosie.store import Outgoing, Store

GUIDE = Guide("faceid", "mini:faceid.safetensors", "sface")
RECIPE = Recipe("mini", (Stage("generate", "sdxl", "mini", guides=(GUIDE,)),), "{prompt}", 64, 64)
MIRA = Character("mira", "fictional", adult=True)
DIGESTS = {"mini": "a" * 64, GUIDE.weights: "b" * 64, GUIDE.encoder: ""}
ENVIRONMENT = Environment("3.11", "linux", "cpu", (("torch", "2.14"), ("diffusers", "0.42")))
RATED = Calibrated(CohortRate("mini", 300, 2, 2 / 300, 0.021))
GUIDED = Calibrated(guided_by=("sface", "arcface"))
CARD = Scorecard(
    (
        Score("identity", "sface", 0.61, 0.4, passed=True, evidence=RATED),
        Score("identity", "dlib", None, 0.9, passed=None, reason="not installed", evidence=GUIDED),
        Score("defect", "noise", 0.01, 0.1, passed=True),
    )
)
KEEP = Verdict("keep", ("all judges pass",))


def picture(seed: int, side: int = 64) -> Image.Image:
    """Noise: the same for the same seed, and as large as PNG can be."""
    return Image.frombytes("RGB", (side, side), random.Random(seed).randbytes(3 * side * side))


def a_render(seed: int, parent: str = "", prompt: str = "smiling", side: int = 64) -> Render:
    drawn = plan(RECIPE, MIRA, Request("mini", "mira", prompt, seed=seed), Draw(parent=parent), DIGESTS)
    return Render(picture(seed, side), drawn, "fake", ENVIRONMENT, 1.5)


def deliver(store: Store, run: int, render: int, path: Path, signed: bool) -> None:
    """Records a delivery whose file was written, without one."""
    with store.delivering(Outgoing(run, render, path, signed, "0" * 64)):
        pass
