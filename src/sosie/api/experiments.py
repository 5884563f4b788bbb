"""Experiments: foretold, run, resumed and reported."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass, field, replace
from pathlib import Path

from sosie.api.engines import Workers, open_engine
from sosie.core import Character, Engine, Event, Finding, Result
from sosie.core.errors import NotFoundError, StoreError, UsageError
from sosie.core.experiment_result import Cell, ExperimentResult
from sosie.core.finding import Rule
from sosie.core.schema import from_table, to_table
from sosie.engines import DEFAULT, scheme_of
from sosie.files.foreign import as_list, as_object, as_text
from sosie.files.whole import make_folder, write_whole
from sosie.lab.arms import arm_recipes
from sosie.lab.assemble import Times, assemble
from sosie.lab.check import expect_recipes
from sosie.lab.course import CellDone, Course
from sosie.lab.drawing import Q010, Drawer, without_drawing
from sosie.lab.experiment import Experiment, read_experiment
from sosie.lab.forecast import Forecast, forecast
from sosie.lab.template import template
from sosie.lab.trial import Ask, OpenBench, StoppedError, Trial, prepare
from sosie.loop.judge_room import Processes, Room
from sosie.loop.task import Bench
from sosie.store.catalogue import now
from sosie.store.images import path_of
from sosie.store.record import Cost, Record
from sosie.workspace.bill import Bill
from sosie.workspace.characters import load_character
from sosie.workspace.experiments import (
    find_experiment,
    list_experiments,
    load_design,
    load_result,
    load_results,
    save_design,
    save_result,
)
from sosie.workspace.recipes import load_recipe
from sosie.workspace.session import Session
from sosie.workspace.workspace import Workspace, check_name

Q006 = Rule("SOS-Q006", "info", "An experiment is a new one, for something it rests on has changed")


@dataclass(frozen=True)
class ExperimentOrder:
    """An experiment to run. `draws` False takes what the store holds and draws nothing."""

    experiment: Experiment
    path: Path
    engine: str = DEFAULT
    workers: Workers = field(default_factory=Workers)
    draws: bool = True


@dataclass(frozen=True)
class ExperimentDone(Result):
    """The end of a run: what was found, where it was written down, and the page to look at."""

    result: ExperimentResult
    file: Path
    page: Path


@dataclass(frozen=True)
class ListedExperiment(Result):
    """An experiment of the workspace; without a `result` it was killed before its first stop."""

    id: str
    question: str
    arms: int
    result: ExperimentResult | None


def new_experiment(workspace: Workspace, name: str, character: str, recipe: str) -> Path:
    """Writes a design to start from, `experiments/NAME.toml`; returns where.

    Raises `UsageError` if it is there already, and for a character or a recipe that is not.
    """
    path = workspace.root / "experiments" / f"{check_name(name)}.toml"
    if path.exists():
        raise UsageError(f"{path} exists already", f"sosie experiment run {path} --dry-run")
    load_character(workspace, character)
    make_folder(path.parent)
    write_whole(path, template(name, character, load_recipe(workspace, recipe)))
    return path


def foretell(workspace: Workspace, order: ExperimentOrder, price: float = 0.0) -> Forecast:
    """The dry run: cells, images, hours, money (at `price` an hour), disk, and the smallest difference it can show.

    Raises `RuleError` (SOS-Q001, Q002, Q005) for a file, arms or a design that are wrong.
    """
    arms = arm_recipes(workspace, order.experiment, str(order.path))
    expect_recipes(order.experiment, arms)
    return forecast(order.experiment, arms, _cost(workspace, order), price)


def run_experiment(session: Session, order: ExperimentOrder) -> Generator[Event]:
    """Draws what is missing of an experiment, look by look, and writes down what it found, also when it is stopped.

    Raises `StoppedError` (after its findings) where checks leave nothing to compare, and `EngineError` when nothing can
    be drawn any more; what was drawn is kept.
    """
    check_name(order.experiment.name)
    engines: list[Engine] = []
    room = Processes()
    try:
        try:
            trial = prepare(session, _ask(order), _benches(session, order, engines, room))
        except StoppedError as error:
            yield from error.findings
            raise
        yield from trial.findings
        yield from _told_apart(session.workspace, trial)
        yield from _run(session, order, trial)
    finally:
        room.close()
        for engine in engines:
            engine.close()


def order_again(workspace: Workspace, name: str) -> ExperimentOrder:
    """The order of an experiment that was begun, by its id or its name, as it was written down then.

    Raises `NotFoundError`, which names the nearest.
    """
    found = find_experiment(workspace, name)
    table = load_design(workspace, found)
    experiment = from_table(Experiment, as_object(table.get("experiment")), f"experiment '{found}'")
    return ExperimentOrder(experiment, Path(as_text(table.get("path"))), as_text(table.get("engine")) or DEFAULT)


def read_order(path: Path, engine: str = DEFAULT, workers: Workers | None = None) -> ExperimentOrder:
    """The order to run a file. Raises `RuleError` (SOS-Q001) for one that is wrong."""
    if not path.exists():
        raise NotFoundError(f"{path} does not exist", "sosie experiment new NAME")
    return ExperimentOrder(read_experiment(path), path, engine, workers or Workers())


def experiments(workspace: Workspace) -> Generator[ListedExperiment]:
    """Every experiment that was begun here, by id."""
    for name in list_experiments(workspace):
        table = load_design(workspace, name)
        question = as_text(as_object(table.get("experiment")).get("question"))
        yield ListedExperiment(name, question, len(as_list(table.get("arms"))), load_result(workspace, name))


def _ask(order: ExperimentOrder) -> Ask:
    addresses = {order.engine, *(arm.engine for arm in order.experiment.arms if arm.engine)}
    remote = all(scheme_of(address).is_remote for address in addresses)
    return Ask(order.experiment, order.path, order.engine, remote)


def _benches(session: Session, order: ExperimentOrder, engines: list[Engine], room: Room) -> OpenBench:
    def open_bench(address: str, bill: Bill, who: Character) -> Bench:
        engine = open_engine(session, address, bill, who, None, order.workers if order.draws else None)
        engines.append(engine)
        return Bench(engine if order.draws else without_drawing(engine), session.store, bill.digests, room)

    return open_bench


def _run(session: Session, order: ExperimentOrder, trial: Trial) -> Generator[Event]:
    store, workspace = session.store, session.workspace
    table = {
        "experiment": to_table(order.experiment),
        "path": str(order.path),
        "engine": order.engine,
        "arms": [arm.name for arm in trial.arms],
        "parts": dict(trial.parts),
    }
    save_design(workspace, trial.id, table)
    known = _failures(session, trial) if not order.draws else {}
    drawer = Drawer(order.experiment, trial.who, trial.endpoint, known)
    course = Course(trial, drawer, lambda: load_results(workspace))
    began = _began(workspace, trial) or now()
    number = store.begin_run("experiment", {"id": trial.id, "engine": order.engine, "draws": order.draws})
    store.add_findings(number, trial.findings)
    outcome = "interrupted"
    try:
        for event in course.run():
            if isinstance(event, CellDone) and event.cell.error is not None and order.draws:
                store.add_findings(number, [_of_plan(event.cell)])
            yield event
        outcome = "done" if course.is_whole else "stopped"
    finally:
        result = assemble(course, Times(began, now()))
        file = save_result(workspace, result)
        store.end_run(number, outcome)
    yield ExperimentDone(result, file, _page(session, trial, result))


def _page(session: Session, trial: Trial, result: ExperimentResult) -> Path:
    """Writes the report into `experiments/ID/` of the workspace."""
    from sosie.reports.experiment.pictures import Pictures
    from sosie.reports.experiment.publish import Material, write_experiment

    images = session.store.folder / "images"
    paths = {cell.image: path_of(images, cell.image) for cell in result.cells if cell.image}
    material = Material(tuple(session.reference_paths(trial.who).values()), Pictures(paths, session.detector))
    return write_experiment(result, material, session.workspace.root / "experiments" / result.id)


def _of_plan(cell: Cell) -> Finding:
    """A cell's failure as it is kept: under the id of its plan."""
    error = cell.error or Q010.at(cell.arm, "")
    return replace(error, subject=cell.plan)


def _began(workspace: Workspace, trial: Trial) -> str:
    """When an experiment was begun, empty if it is now."""
    earlier = load_result(workspace, trial.id)
    return earlier.started if earlier else ""


def _failures(session: Session, trial: Trial) -> dict[str, Finding]:
    try:
        with Record(session.store.folder) as record:
            return record.failures(trial.id, Q010.code)
    except StoreError:
        return {}


def _told_apart(workspace: Workspace, trial: Trial) -> Generator[Finding]:
    """SOS-Q006 where an experiment of that name was begun, and something that its id covers is different now."""
    earlier = [name for name in list_experiments(workspace) if name.rpartition("-")[0] == trial.experiment.name]
    if not earlier or trial.id in earlier:
        return
    last = find_experiment(workspace, trial.experiment.name)
    before = as_object(load_design(workspace, last).get("parts"))
    changed = [name for name, sha256 in trial.parts.items() if before.get(name) != sha256]
    gone = [name for name in before if name not in trial.parts]
    what = ", ".join([*changed, *gone][:6])
    message = f"since {last} there is a change in {what}: this is a new experiment, {trial.id}"
    yield Q006.at(trial.experiment.name, message, f"what {last} found stays: sosie experiment report {last}")


def _cost(workspace: Workspace, order: ExperimentOrder) -> Cost | None:
    if not (workspace.state / "catalogue.sqlite").exists():
        return None
    try:
        with Record(workspace.state) as record:
            return record.cost(order.experiment.recipe, scheme_of(order.engine).name)
    except StoreError:
        return None
