"""An Experiment: a question, and the arms that answer it. A TOML file, read strictly.

    name = "cfg"                    # as its file
    question = "Which CFG keeps the face?"
    character = "elena"
    recipe = "zimage"
    prompts = ["portrait, soft daylight"]
    seeds = [1, 2]

    [change]                        # of the recipe, for all arms
    stages.generate.sampler.steps = 30

    [axes]                          # an arm for each combination of these values
    stages.generate.sampler.cfg = [3.0, 4.0, 5.0]

    [[arms]]                        # and arms by name
    name = "no lora"
    [arms.change]
    stages.generate.loras = []

    [design]                        # how it is answered: `core.experiment_result.Design`
    baseline = "no lora"
    margin = 0.2

A field of the recipe is named as in its file; an entry of a list by its `kind`, its `file`, or its place from 0 on.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sosie.core.errors import SosieError, UsageError
from sosie.core.experiment_result import Design
from sosie.core.finding import Rule, RuleError
from sosie.core.ranges import Range
from sosie.core.schema import from_table
from sosie.files.toml import parse_toml, read_toml

Q001 = Rule("SOS-Q001", "error", "An experiment's file is wrong")

OWN_KEYS = ("question", "axes", "arms", "design")
"""Keys by which a TOML file is an experiment's; a recipe has stages."""

MOST_CELLS = 100_000

SEEDS = Range(0, 2**63 - 1)


@dataclass(frozen=True)
class Arm:
    """What one arm does otherwise than the experiment: changes of the recipe, or prompts in place of its own.

    `prompts` are as many as the experiment's: images of two arms are compared by their prompt's place and their seed.
    Arms of one `treatment` differ by their training run alone. `engine` draws this arm, where it is not the run's.
    """

    name: str
    summary: str = ""
    prompts: tuple[str, ...] = ()
    treatment: str = ""
    engine: str = ""
    change: dict[str, object] = field(default_factory=dict[str, object])


@dataclass(frozen=True)
class Experiment:
    """A question and what is drawn to answer it: each arm with each prompt and each seed.

    `change` changes the recipe for all arms, `axes` maps its fields to lists of values, nested as in a recipe.
    """

    name: str
    character: str
    recipe: str
    question: str = ""
    prompts: tuple[str, ...] = ("",)
    seeds: tuple[int, ...] = (0,)
    change: dict[str, object] = field(default_factory=dict[str, object])
    axes: dict[str, object] = field(default_factory=dict[str, object])
    arms: tuple[Arm, ...] = ()
    design: Design = field(default_factory=Design)

    @property
    def blocks(self) -> int:
        """How many images an arm draws."""
        return len(self.prompts) * len(self.seeds)


def is_experiment(path: Path) -> bool:
    """Whether a TOML file is an experiment's rather than a recipe's; a file that cannot be read is none."""
    try:
        table = read_toml(path)
    except SosieError:
        return False
    return "stages" not in table and any(key in table for key in OWN_KEYS)


def read_experiment(path: Path) -> Experiment:
    """Raises `RuleError` (SOS-Q001) that names the place of what is wrong, and the nearest that is right."""
    return _of_table(lambda: read_toml(path), path)


def experiment_of(text: str, path: Path) -> Experiment:
    """As `read_experiment`, of the text that the file `path` is to have."""
    return _of_table(lambda: parse_toml(text, str(path)), path)


def _of_table(read: Callable[[], dict[str, Any]], path: Path) -> Experiment:
    try:
        return _checked(from_table(Experiment, read(), str(path)), path)
    except RuleError:
        raise
    except SosieError as error:
        raise RuleError(Q001, error.message, error.hint) from None


def _about_design(design: Design) -> Iterator[tuple[bool, str]]:
    """What is wrong with numbers of the design."""
    for name in ("margin", "clip", "sd"):
        value: float | None = getattr(design, name)
        yield value is not None and not 0 < value < math.inf, f"design.{name} = {value} is not above 0"
    yield not 0 < design.alpha < 1, f"design.alpha = {design.alpha} is not between 0 and 1"
    yield design.every < 1, f"design.every = {design.every} is not at least 1"
    yield design.confirm is not None and design.confirm < 0, f"design.confirm = {design.confirm} is below 0"
    if design.margin is not None and design.clip is not None:
        yield design.margin >= design.clip, f"design.margin = {design.margin} is not below design.clip = {design.clip}"


def _checked(found: Experiment, path: Path) -> Experiment:
    names = [arm.name for arm in found.arms]
    twice = next((name for name in names if names.count(name) > 1), None)
    odd = next((arm for arm in found.arms if arm.prompts and len(arm.prompts) != len(found.prompts)), None)
    complaints: list[tuple[bool, str]] = [
        (found.name != path.stem, f"name = '{found.name}', expected '{path.stem}' as its file"),
        (not found.arms and not found.axes, "it has neither [[arms]] nor [axes]"),
        (not found.prompts or not found.seeds, "it has no prompts or no seeds"),
        (twice is not None, f"arms: '{twice}' is there {names.count(twice or '')} times"),
        ("" in names, "arms: a name is empty"),
        *((not SEEDS.holds(seed), f"seeds: {seed} {SEEDS.complaint}") for seed in found.seeds),
        (len(set(found.seeds)) < len(found.seeds), "seeds: one is there twice"),
        *_about_design(found.design),
    ]
    if odd is not None:
        wanted = f"arm '{odd.name}' has {len(odd.prompts)} prompts and the experiment {len(found.prompts)}"
        complaints.append((True, f"{wanted}: images are compared by their prompt's place"))
    for is_wrong, complaint in complaints:
        if is_wrong:
            raise UsageError(f"{path}: {complaint}", f"sosie doctor {path}")
    return found
