"""A trial: an experiment made ready to be drawn on engines, with all that its id covers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from sosie.core import Asset, Character, Draw, Finding, Plan, Stage, plan
from sosie.core.errors import CheckFailedError
from sosie.core.experiment_result import Design
from sosie.core.finding import has_errors
from sosie.core.plan import needed_stages
from sosie.core.schema import digest
from sosie.lab.arms import ArmRecipe, arm_recipes, request_of
from sosie.lab.check import check_arms
from sosie.lab.drawing import Lane
from sosie.lab.endpoint import EndPoint, end_point, filled
from sosie.lab.experiment import Experiment
from sosie.lab.questions import Question, baseline, questions
from sosie.loop.judge import Judge
from sosie.loop.judging import ImageSource, hard_cohort, make_judge
from sosie.loop.task import Bench
from sosie.workspace.bill import Bill, resolve
from sosie.workspace.characters import load_character
from sosie.workspace.session import Session

OpenBench = Callable[[str, Bill, Character], Bench]
"""Gives the bench of an engine's address for a bill; who gives it closes its engine."""


class StoppedError(CheckFailedError):
    """No comparison is possible; `findings` say why."""

    def __init__(self, findings: Sequence[Finding], message: str) -> None:
        super().__init__(message, "mend what the findings name; sosie doctor FILE.toml shows every arm")
        self.findings = tuple(dict.fromkeys(findings))


@dataclass(frozen=True)
class Ask:
    """An experiment's file as it is to be run, and the engine of the arms that name none."""

    experiment: Experiment
    path: Path
    engine: str
    is_remote: bool = False


@dataclass(frozen=True, eq=False)
class Trial:
    """What is drawn and compared. `stopped` are arms that checks stopped, with the error; they are not in `lanes`.

    `parts` are digests of what the id covers, by name: so that it can be told what changed.
    """

    ask: Ask
    who: Character
    design: Design
    endpoint: EndPoint
    arms: tuple[ArmRecipe, ...]
    questions: tuple[Question, ...]
    lanes: Mapping[str, Lane]
    stopped: Mapping[str, Finding]
    findings: tuple[Finding, ...]
    parts: Mapping[str, str]
    models: tuple[Asset, ...]
    judges: tuple[Asset, ...]

    @property
    def experiment(self) -> Experiment:
        """What was asked."""
        return self.ask.experiment

    @property
    def digest(self) -> str:
        """SHA-256 over the parts."""
        return digest(dict(self.parts))

    @property
    def id(self) -> str:
        """The experiment's name and the beginning of the digest."""
        return f"{self.experiment.name}-{self.digest[:8]}"

    @property
    def drawn(self) -> tuple[Question, ...]:
        """The questions all of whose arms can be drawn."""
        return tuple(one for one in self.questions if {*one.arms, *one.against} <= set(self.lanes))


def prepare(session: Session, ask: Ask, open_bench: OpenBench) -> Trial:
    """Checks every arm, opens engines and judges; nothing is drawn.

    Raises `StoppedError` where the baseline or all other arms are stopped, and `RuleError` (SOS-Q001, SOS-Q005) for a
    file or a design that is wrong.
    """
    experiment = ask.experiment
    arms = arm_recipes(session.workspace, experiment, str(ask.path))
    who = load_character(session.workspace, experiment.character)
    checked = check_arms(session.workspace, experiment, arms, ask.is_remote)
    findings = list(checked.findings)
    if has_errors(findings):
        raise StoppedError(findings, f"every arm of '{experiment.name}' is stopped")
    asked = questions(experiment.design, arms)
    base = baseline(experiment.design, arms)
    stopped = {one.name: _error(one.findings) for one in checked.arms if one.is_stopped}
    going = [arm for arm in arms if arm.name not in stopped]
    bill = resolve(session.workspace, _stages(going, who), who, ask.is_remote)
    lanes, told = _lanes(session, ask, going, (who, bill), open_bench)
    findings += told
    for lane in lanes:
        said = lane.bench.engine.check(_first_plan(lane, experiment, who))
        findings += [one for one in said if one.severity != "error"]
        if has_errors(said):
            stopped[lane.arm.name] = _error(said)
    ready = {lane.arm.name: lane for lane in lanes if lane.arm.name not in stopped}
    _expect_two(base, ready, [*findings, *stopped.values()])
    judges = [lane.judge for lane in ready.values()]
    cohort = hard_cohort(session, who, base.whole, _part(bill, base, who))
    return Trial(
        ask,
        who,
        replace(filled(experiment.design, len(experiment.prompts), len(experiment.seeds)), baseline=base.name),
        end_point(experiment.design.endpoint, judges, cohort, experiment.design.floor),
        tuple(arms),
        asked,
        ready,
        stopped,
        tuple(dict.fromkeys([*findings, *stopped.values()])),
        _parts(ask, who, arms, bill, judges),
        tuple(Asset(name, sha256) for name, sha256 in bill.digests.items()),
        tuple(Asset(one.encoder.name, one.encoder.sha256) for one in judges[0].gate.judges),
    )


def _expect_two(base: ArmRecipe, ready: Mapping[str, Lane], findings: Sequence[Finding]) -> None:
    if base.name not in ready:
        raise StoppedError(findings, f"the baseline '{base.name}' is stopped: nothing can be compared with it")
    if len(ready) < 2:
        raise StoppedError(findings, f"all arms but '{base.name}' are stopped: there is nothing to compare")


def _error(findings: Sequence[Finding]) -> Finding:
    """The first error of a stopped arm; of one that all arms share, there is none among its own."""
    return next(one for one in findings if one.severity == "error")


def _stages(arms: Sequence[ArmRecipe], who: Character) -> tuple[Stage, ...]:
    """Those of all arms, each once."""
    return tuple(dict.fromkeys(stage for arm in arms for stage in needed_stages(arm.whole, who)))


def _part(bill: Bill, arm: ArmRecipe, who: Character) -> Bill:
    """The bill of one arm, out of that of all."""
    return replace(bill, stages=needed_stages(arm.whole, who))


def _first_plan(lane: Lane, experiment: Experiment, who: Character) -> Plan:
    request = request_of(lane.arm, experiment, 0, experiment.seeds[0])
    return plan(lane.arm.whole, who, request, Draw(), lane.bench.assets)


def _lanes(
    session: Session, ask: Ask, arms: Sequence[ArmRecipe], what: tuple[Character, Bill], open_bench: OpenBench
) -> tuple[list[Lane], list[Finding]]:
    """The arms with engine and judge; arms whose images are judged alike share a judge."""
    who, bill = what
    benches: dict[str, Bench] = {}
    judges: dict[str, tuple[Judge, tuple[Finding, ...]]] = {}
    lanes: list[Lane] = []
    for arm in arms:
        address = arm.arm.engine or ask.engine
        if address not in benches:
            benches[address] = open_bench(address, bill, who)
        own = _part(bill, arm, who)
        guides = [guide.encoder for stage in own.stages for guide in stage.guides]
        learned = [use.file for stage in own.stages for use in stage.loras]
        recipe = arm.whole
        key = digest([guides, learned, recipe.acceptance, recipe.stages[0].model, bool(recipe.repair)])
        if key not in judges:
            judges[key] = make_judge(session, who, recipe, own, ImageSource(address))
        lanes.append(Lane(arm, judges[key][0], benches[address]))
    return lanes, [one for _, told in judges.values() for one in told]


def _parts(ask: Ask, who: Character, arms: Sequence[ArmRecipe], bill: Bill, judges: Sequence[Judge]) -> dict[str, str]:
    """Digests of what makes the experiment what it is, by the name that a person would call it."""
    gates = sorted({judge.gate.id for judge in judges})
    return {
        "the experiment's file": digest(ask.experiment),
        f"recipe '{ask.experiment.recipe}'": digest([arm.recipe for arm in arms]),
        f"character '{who.name}'": digest(who),
        "the judges or their cohort": digest(gates),
        "the engine": ask.engine,
        **{f"file '{name}'": sha256 for name, sha256 in bill.digests.items()},
    }
