"""What an experiment found: one noun from which pages, tables and decisions are made. Plain JSON and back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Literal

from sosie.core.finding import Finding
from sosie.core.plan import Asset
from sosie.core.render import Environment
from sosie.core.schema import digest, from_table, to_table

Verdict = Literal["better", "worse", "same", "undecided"]
"""Of an arm against another; `same`: no difference beyond the margin was shown to be left."""

State = Literal["finished", "stopped", "empty"]
"""`stopped`: blocks of the design are missing, and `resume` draws them; `empty`: nothing was drawn."""


@dataclass(frozen=True)
class Design:
    """How the question is answered, declared before anything is drawn.

    `baseline` is the arm that the others are compared with; empty: the first. `endpoint` is what is compared:
    `identity` (the mean over the judges of how many standard deviations of the cohort an image is nearer the character
    than its mean), or the name of a score. Differences up to `margin`, in its unit, do not matter; `clip` bounds them,
    `sd` is what paired ones are expected to spread. `compare`: every arm (or those of `contrasts`), or the levels of
    each axis, averaged over the others. `every` is blocks between looks, rounded up to whole passes of the prompts.
    `confirm` fresh seeds a prompt measure the winner again. `floor` counts for an image without a value: the cohort's
    5th percentile, where there is one. Unset numbers follow the end point.
    """

    baseline: str = ""
    endpoint: str = "identity"
    unit: Literal["image", "training run"] = "image"
    compare: Literal["arms", "axes"] = "arms"
    contrasts: tuple[str, ...] = ()
    stopping: Literal["anytime", "none"] = "anytime"
    margin: float | None = None
    clip: float | None = None
    sd: float | None = None
    alpha: float = 0.05
    every: int = 4
    confirm: int | None = None
    floor: float | None = None


@dataclass(frozen=True)
class Measured:
    """A value and its 95 % interval (None where there are too few), of `n` images, and what the interval is over."""

    value: float
    low: float | None
    high: float | None
    n: int
    by: str = ""


@dataclass(frozen=True)
class Contrast:
    """What was found of one question: `arms` against `against`, as differences of the end point within blocks.

    `low` and `high` hold the mean difference at `level`, together with those of all contrasts; None: not known.
    `p` holds for all contrasts together. `clipped` is the share of differences beyond the clip. `decided` says after
    how many of the `n` blocks a verdict was reached; None: at none. `note` says why nothing is claimed.
    """

    name: str
    arms: tuple[str, ...]
    against: tuple[str, ...]
    n: int
    estimate: float | None
    low: float | None
    high: float | None
    level: float
    p: float | None
    verdict: Verdict
    clipped: float = 0.0
    decided: int | None = None
    note: str = ""


@dataclass(frozen=True)
class Cell:
    """One image of an experiment, drawn or not: `plan` is its plan's id, `image` the SHA-256 of its file.

    `score` is the end point as it was measured (None: it could not be), `counted` what stands for it. `scores` are all
    that was measured. With an `error` nothing was drawn. `fresh`: of the seeds that measure the winner again.
    """

    arm: str
    prompt: int
    seed: int
    fresh: bool
    plan: str
    counted: float
    engine: str = ""
    image: str = ""
    score: float | None = None
    kept: bool | None = None
    reasons: tuple[str, ...] = ()
    scores: dict[str, float | None] = field(default_factory=dict[str, float | None])
    seconds: float | None = None
    error: Finding | None = None


@dataclass(frozen=True)
class ArmResult:
    """An arm and what was measured of it; failed and faceless images are in all of it.

    `levels` are its values on the axes, `treatment` what its training run is one of. `failed` images could not be
    drawn, `faceless` ones not be judged. `dropped` says after how many blocks a race gave it up as behind; None: never.
    """

    name: str
    summary: str
    changes: tuple[str, ...]
    levels: dict[str, str]
    engine: str
    blocks: int
    failed: int
    faceless: int
    endpoint: Measured | None
    kept: Measured | None
    others: dict[str, Measured] = field(default_factory=dict[str, Measured])
    seconds: float | None = None
    dropped: int | None = None
    treatment: str = ""


@dataclass(frozen=True)
class Winner:
    """The arm that won, and how it did on fresh seeds. Only a confirmed one may be called a decision.

    `fresh` counts the blocks of earlier experiments that measured the same again (`earlier`, their ids) too. `key` is
    the digest from which the fresh seeds come: of what was compared, and of nothing that could be asked anew.
    """

    arm: str
    fresh: Contrast | None
    is_confirmed: bool
    key: str = ""
    earlier: tuple[str, ...] = ()


@dataclass(frozen=True)
class ExperimentResult:
    """A finished, stopped or empty experiment. Times are ISO 8601 in UTC.

    `id` is its name and the beginning of `design_digest`, which covers the design, the recipes and the digests of all
    files. `declared` is its file, `scale` what the end point is in, `floor` what counts for an image without a score.
    `smallest` is the smallest difference that the plan could show (None: none). `models` and `judges` are files with
    their SHA-256, `deviations` what departed from the design.
    """

    id: str
    name: str
    design_digest: str
    question: str
    character: str
    recipe: str
    state: State
    started: str
    finished: str
    design: Design
    scale: str
    floor: float
    smallest: float | None
    blocks: int
    prompts: tuple[str, ...]
    seeds: tuple[int, ...]
    fresh_seeds: tuple[int, ...]
    arms: tuple[ArmResult, ...]
    contrasts: tuple[Contrast, ...]
    winner: Winner | None
    cells: tuple[Cell, ...]
    deviations: tuple[str, ...]
    findings: tuple[Finding, ...]
    models: tuple[Asset, ...]
    judges: tuple[Asset, ...]
    environments: tuple[Environment, ...]
    command: str
    version: str
    declared: dict[str, object]

    @cached_property
    def digest(self) -> str:
        """SHA-256 of what was asked and found: what a decision names as its evidence.

        When, where and by what it was written down is not in it: the same images give the same digest at every report.
        """
        return digest(replace(self, started="", finished="", environments=(), command="", version=""))

    def arm(self, name: str) -> ArmResult:
        """The arm of that name."""
        return next(arm for arm in self.arms if arm.name == name)

    def contrast(self, name: str) -> Contrast | None:
        """The contrast of that name, None if there is none."""
        return next((one for one in self.contrasts if one.name == name), None)

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values, with the digest; `from_json` gives an equal result."""
        return {**to_table(self), "digest": self.digest}

    @staticmethod
    def from_json(table: Mapping[str, Any], where: str = "experiment") -> ExperimentResult:
        """The result that `to_json` wrote; unknown keys are errors."""
        return from_table(ExperimentResult, {key: value for key, value in table.items() if key != "digest"}, where)
