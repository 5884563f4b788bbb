"""A laboratory without a model: pictures of one grey, which is their score, so that truths are known."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from sosie.core import Character, Environment, Finding, Plan, Progress, Render, Score, Scorecard, Verdict
from sosie.core.errors import EngineError
from sosie.core.plan import asset_names, needed_stages
from sosie.core.schema import digest
from sosie.lab.arms import arm_recipes
from sosie.lab.course import Course
from sosie.lab.drawing import Drawer, Lane
from sosie.lab.endpoint import EndPoint, Part, filled
from sosie.lab.experiment import Experiment
from sosie.lab.questions import baseline, questions
from sosie.lab.trial import Ask, Trial
from sosie.loop.judge import Judge
from sosie.loop.task import Bench
from sosie.store import Store
from sosie.workspace.workspace import open_workspace

MIRA = Character("mira", "fictional", True, "a woman")
CFG = {"stages": {"generate": {"sampler": {"cfg": [3.0, 4.0, 5.0]}}}}
STEP = 0.005
"""Of a score, between two greys."""


class GreyEngine:
    """Draws the truth: the score of a plan is `effect` of its sampler plus noise of its seed and arm."""

    name = "grey"

    def __init__(self, effect: Callable[[Plan], float], spread: float = 0.05) -> None:
        self.effect = effect
        self.spread = spread
        self.drawn: list[str] = []
        self.fails: Callable[[Plan], bool] = lambda plan: False

    def check(self, plan: Plan) -> list[Finding]:
        return []

    def run(self, plans: Sequence[Plan]) -> Iterator[Progress | Render]:
        for plan in plans:
            if self.fails(plan):
                raise EngineError(f"seed {plan.requested.seed} burst")
            noise = np.random.default_rng(zlib.crc32(plan.id.encode())).normal(0, self.spread)
            grey = round((self.effect(plan) + noise) / STEP)
            self.drawn.append(plan.id)
            image = Image.new("RGB", (64, 64), (min(255, max(0, grey)),) * 3)
            yield Render(image, plan, self.name, Environment("3", "any", "none", ()), 0.5)

    def close(self) -> None:
        return None


class GreyJudge:
    """Reads the grey. Black is no face."""

    id = digest("grey")

    def __call__(self, image: Image.Image, origin: Any = None) -> tuple[Scorecard, Verdict]:
        grey = int(np.asarray(image)[0, 0, 0])
        value = None if grey == 0 else grey * STEP
        reason = "" if value is not None else "no face was found"
        score = Score("identity", "grey", value, 0.5, value is not None and value >= 0.5, reason, higher_is_better=True)
        return Scorecard((score,)), Verdict("keep") if score.passed else Verdict("retry", (reason or "low",))


def experiment(**changes: Any) -> Experiment:
    """Three values of CFG on mini; the middle one is the baseline."""
    usual: dict[str, Any] = {"axes": CFG, "prompts": ("a", "b"), "seeds": tuple(range(1, 25))}
    return Experiment("cfg", "mira", "mini", **{**usual, **changes})


def trial(folder: Path, asked: Experiment, engine: GreyEngine, store: Store, stopped: Sequence[str] = ()) -> Trial:
    """The trial of an experiment on the grey engine."""
    arms = arm_recipes(open_workspace(folder), asked, "cfg.toml")
    names = dict.fromkeys(name for arm in arms for name in asset_names(needed_stages(arm.whole, MIRA)))
    bench = Bench(engine, store, dict.fromkeys(names, ""))
    judge: Any = GreyJudge()
    lanes = {arm.name: Lane(arm, _as_judge(judge), bench) for arm in arms if arm.name not in stopped}
    why = Finding("SOS-R002", "error", "x", "a file is missing", "")
    design = filled(asked.design, len(asked.prompts), len(asked.seeds))
    parts: Mapping[str, str] = {"file": digest(asked)}
    return Trial(
        Ask(asked, Path("cfg.toml"), "grey"),
        MIRA,
        _with_baseline(design, baseline(asked.design, arms).name),
        EndPoint("grey", "grey", 0.2, (Part("grey", True),)),
        tuple(arms),
        questions(asked.design, arms),
        lanes,
        dict.fromkeys(stopped, why),
        (),
        parts,
        (),
        (),
    )


def course(made: Trial, known: Mapping[str, Finding] | None = None) -> Course:
    """A course that nothing is known of yet."""
    return Course(made, Drawer(made.experiment, made.who, made.endpoint, known or {}))


def _as_judge(judge: Any) -> Judge:
    return judge


def _with_baseline(design: Any, name: str) -> Any:
    from dataclasses import replace

    return replace(design, baseline=name)
