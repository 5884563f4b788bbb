"""A finished experiment, made by hand: three arms of which one is better."""

from __future__ import annotations

from sosie.core import Asset, Environment, Finding
from sosie.core.experiment_result import (
    ArmResult,
    Cell,
    Contrast,
    Design,
    ExperimentResult,
    Measured,
    Winner,
)

PROMPTS = ("smiling, soft daylight", "neutral, studio light")
SEEDS = (1, 2)


def arm(name: str, value: float) -> ArmResult:
    measured = Measured(value, value - 0.02, value + 0.02, 4, "seed")
    kept = Measured(0.75, 0.3, 0.95, 4, "Wilson")
    return ArmResult(
        name, "", (f"stages.generate.sampler.cfg = {name[-1]}",), {"cfg": name[-1]}, "fake", 4, 0, 0, measured, kept
    )


def cell(name: str, prompt: int, seed: int, score: float | None, error: Finding | None = None) -> Cell:
    plan = f"{name}{prompt}{seed}".encode().hex().rjust(64, "0")
    if error is not None:
        return Cell(name, prompt, seed, False, plan, -1.0, error=error)
    scores = {"sface": score}
    counted = -1.0 if score is None else score
    return Cell(name, prompt, seed, False, plan, counted, "fake", "0" * 64, score, score is not None, (), scores, 1.5)


def result(name: str = "cfg") -> ExperimentResult:
    """Two prompts, two seeds; cfg=5 is better and confirmed, cfg=6 undecided, one image failed and one has no face."""
    failed = Finding("SOS-Q010", "error", "cfg=6", "the server went away", "sosie experiment resume cfg")
    cells = [cell(f"cfg={cfg}", p, s, 1.0 + cfg / 10) for cfg in (4, 5) for p in range(2) for s in SEEDS]
    cells += [cell("cfg=6", 0, 1, 1.4), cell("cfg=6", 0, 2, None), cell("cfg=6", 1, 1, 1.3)]
    cells.append(cell("cfg=6", 1, 2, None, failed))
    base = ("cfg=4",)
    better = Contrast("cfg=5 against cfg=4", ("cfg=5",), base, 4, 0.1, 0.05, 0.15, 0.975, 0.01, "better", decided=4)
    open_ = Contrast("cfg=6 against cfg=4", ("cfg=6",), base, 4, -0.2, -1.0, 0.6, 0.975, 1.0, "undecided", 0.25)
    fresh = Contrast("cfg=5 against cfg=4", ("cfg=5",), base, 4, 0.08, 0.01, 0.15, 0.95, 0.02, "better", decided=4)
    return ExperimentResult(
        id=f"{name}-0123abcd",
        name=name,
        design_digest="0123abcd" * 8,
        question="Which CFG keeps the face?",
        character="mira",
        recipe="mini",
        state="finished",
        started="2026-11-30T10:00:00+00:00",
        finished="2026-11-30T11:00:00+00:00",
        design=Design("cfg=4", "identity", margin=0.1, clip=1.0, sd=0.4, confirm=2),
        scale="standard deviations of the cohort mini",
        floor=-1.0,
        smallest=0.4,
        blocks=4,
        prompts=PROMPTS,
        seeds=SEEDS,
        fresh_seeds=(3, 4),
        arms=(arm("cfg=4", 1.4), arm("cfg=5", 1.5), arm("cfg=6", 0.2)),
        contrasts=(better, open_),
        winner=Winner("cfg=5", fresh, True),
        cells=tuple(cells),
        deviations=("1 image could not be drawn",),
        findings=(),
        models=(Asset("mini", "a" * 64),),
        judges=(Asset("sface", "b" * 64),),
        environments=(Environment("3.11.9", "linux", "cpu", (("torch", "2.6"),)),),
        command="sosie experiment run cfg.toml",
        version="0.1.0",
        declared={"axes": {"stages": {"generate": {"sampler": {"cfg": [4, 5, 6]}}}}},
    )
