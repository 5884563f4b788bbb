"""What jobs ask for: a noun a kind, kept as JSON, and the events of doing it.

A request names things (a character, a recipe, the digest of a stored image); what the names mean is looked up when
the job is worked on. So a job can be continued after a reboot, by another process, as often as need be.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Mapping
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sosie.core import Event, Progress
from sosie.core.errors import CheckFailedError, NotFoundError, UsageError, nearest
from sosie.core.finding import has_errors
from sosie.core.schema import from_table
from sosie.engines import DEFAULT, scheme_of
from sosie.store.images import path_of
from sosie.workspace.cast import load_cast
from sosie.workspace.characters import load_character
from sosie.workspace.recipes import find_recipe, load_recipe
from sosie.workspace.session import Session
from sosie.workspace.workspace import Workspace, check_name

if TYPE_CHECKING:
    from sosie.api.engines import Workers
    from sosie.api.generation import Order
    from sosie.core import Recipe

KEPT_MINUTES = 20.0
"""How long the workspace's worker keeps models for the next job."""


@dataclass(frozen=True)
class GenerateJob:
    """Images of a character, as of `sosie generate`: empty texts stand for what the command takes then.

    `source` is the SHA-256 of a stored image to work on in place of a generated one. `steps` to `schedule` are the
    recipe's where they are not given; samplers and schedules are named as any program names them.
    """

    character: str
    prompt: str = ""
    n: int = 1
    recipe: str = ""
    seed: int = 0
    size: str = ""
    negative: str | None = None
    attempts: int = 8
    engine: str = DEFAULT
    source: str = ""
    stages: tuple[str, ...] = ()
    steps: int | None = None
    cfg: float | None = None
    sampler: str = ""
    schedule: str = ""


@dataclass(frozen=True)
class TrainJob:
    """A LoRA of characters, as of `sosie train`. A run that was stopped goes on where it was."""

    characters: tuple[str, ...]
    recipe: str = ""
    device: str = "auto"
    weight: float = 1.0
    add: bool = True


@dataclass(frozen=True)
class ExperimentJob:
    """The experiment that `experiments/NAME.toml` declares, as of `sosie experiment run`."""

    name: str
    engine: str = DEFAULT


@dataclass(frozen=True)
class DatasetJob:
    """A training set of `n` images that the character's recipe draws, as of `sosie dataset build --bootstrap`."""

    character: str
    n: int
    recipe: str = ""
    seed: int = 0
    attempts: int = 4
    engine: str = DEFAULT


@dataclass(frozen=True)
class CalibrateJob:
    """Impostors of a character, as of `sosie calibrate`."""

    character: str
    recipe: str = ""
    n: int = 60
    seed: int = 0
    engine: str = DEFAULT


@dataclass(frozen=True)
class FetchJob:
    """The files of a recipe that are not here, as of `sosie model fetch RECIPE`; never an address."""

    recipe: str


Ask = GenerateJob | TrainJob | ExperimentJob | DatasetJob | CalibrateJob | FetchJob

KINDS: Mapping[str, type[Ask]] = {
    "generate": GenerateJob,
    "train": TrainJob,
    "experiment": ExperimentJob,
    "dataset": DatasetJob,
    "calibrate": CalibrateJob,
    "fetch": FetchJob,
}

DOWNLOADING = ("fetch",)
DRAWING = tuple(kind for kind in KINDS if kind not in DOWNLOADING)
"""The two lines: a download keeps nobody from drawing, and there is one machine to draw on."""


def read_request(kind: str, table: Mapping[str, Any]) -> Ask:
    """The request of a kind. Raises `NotFoundError` for a kind, and `ConfigError` for a table, that is none."""
    if kind not in KINDS:
        raise NotFoundError(f"'{kind[:80]}' is no kind of job{nearest(kind, KINDS)}")
    return from_table(KINDS[kind], table, f"the request of a job '{kind}'")


def check_request(workspace: Workspace, ask: Ask) -> None:
    """Raises what is wrong with a request already now: names that nothing has, an engine that is not known."""
    match ask:
        case GenerateJob():
            order_of(workspace, ask)
        case TrainJob():
            if not ask.characters:
                raise UsageError("a job 'train' needs at least one character")
            for name in ask.characters:
                _recipe_of(workspace, name, ask.recipe)
        case ExperimentJob():
            from sosie.api.experiments import read_order

            scheme_of(ask.engine)
            read_order(workspace.root / "experiments" / f"{check_name(ask.name)}.toml")
        case DatasetJob() | CalibrateJob():
            scheme_of(ask.engine)
            _recipe_of(workspace, ask.character, ask.recipe)
        case FetchJob():
            find_recipe(workspace, ask.recipe)


def do(session: Session, ask: Ask) -> Generator[Event]:
    """Does what is asked for, as the command of its kind does it. Raises `SosieError`."""
    workspace = session.workspace
    match ask:
        case GenerateJob():
            from sosie.api.generation import generate

            yield from generate(session, order_of(workspace, ask))
        case TrainJob():
            yield from _train(session, ask)
        case ExperimentJob():
            from sosie.api.experiments import read_order, run_experiment

            file = workspace.root / "experiments" / f"{check_name(ask.name)}.toml"
            with closing(run_experiment(session, read_order(file, ask.engine, _workers(ask.engine)))) as events:
                yield from _counted(events)
        case DatasetJob():
            from sosie.api.datasets import Bootstrap, bootstrap

            character = load_character(workspace, ask.character)
            recipe = _recipe_of(workspace, ask.character, ask.recipe)
            yield from bootstrap(session, Bootstrap(character, recipe, ask.n, ask.seed, ask.attempts, ask.engine))
        case CalibrateJob():
            from sosie.api.calibration import CalibrationRequest, calibrate

            character = load_character(workspace, ask.character)
            recipe = _recipe_of(workspace, ask.character, ask.recipe)
            yield from calibrate(session, CalibrationRequest(character, recipe, ask.n, ask.seed, ask.engine))
        case FetchJob():
            yield from _fetch(workspace, ask)


def order_of(workspace: Workspace, ask: GenerateJob) -> Order:
    """The order of a request for images. Raises `SosieError` for a name or a value that is wrong."""
    from sosie.api.generation import Given, Order
    from sosie.workspace.prompts import PromptLine, parse_size

    character = load_cast(workspace, ask.character)
    if ask.size:
        parse_size(ask.size)
    given = Given(path_of(workspace.state / "images", check_digest(ask.source)) if ask.source else None, ask.stages)
    if given.image is not None and not given.image.is_file():
        raise NotFoundError(f"the store has no image {ask.source[:12]}")
    sampling = (ask.steps, ask.cfg, ask.sampler, ask.schedule)
    line = PromptLine(ask.prompt, "", ask.seed, ask.size, ask.negative, *sampling)
    return Order(
        character,
        load_recipe(workspace, ask.recipe or character.recipe or "mini"),
        (line,),
        ask.n,
        ask.seed,
        workspace.root / "outputs" / character.name,
        ask.attempts,
        ask.engine,
        given=given,
        workers=_workers(ask.engine),
    )


def check_digest(text: str) -> str:
    """A SHA-256 in small hexadecimal digits, which names a stored image. Raises `UsageError` for anything else."""
    if len(text) != 64 or not set(text) <= set("0123456789abcdef"):
        raise UsageError("an image is named by its SHA-256: 64 hexadecimal digits")
    return text


def _workers(engine: str) -> Workers:
    """The workspace's worker keeps what an engine of this machine has loaded; others keep it themselves."""
    from sosie.api.engines import Workers

    scheme = scheme_of(engine)
    return Workers() if scheme.is_remote or scheme.has_workers else Workers(keep_loaded=KEPT_MINUTES, watched=True)


def _recipe_of(workspace: Workspace, character: str, recipe: str) -> Recipe:
    return load_recipe(workspace, recipe or load_character(workspace, character).recipe or "mini")


def _counted(events: Iterable[Event]) -> Generator[Event]:
    """The progress of a whole experiment, cell by cell, in the place of each image's."""
    from sosie.lab.course import CellDone

    for event in events:
        if not isinstance(event, Progress):
            yield event
        if isinstance(event, CellDone):
            yield Progress(f"{event.number} of at most {event.total} images", event.number, event.total)


def _train(session: Session, ask: TrainJob) -> Generator[Event]:
    from dataclasses import replace

    from sosie.api.training import TrainOrder, train
    from sosie.core.plan import needed_stages
    from sosie.dataset.build import dataset_folder
    from sosie.dataset.image_set import image_files
    from sosie.loop.training_job import bare, job_of
    from sosie.workspace.bill import resolve

    people = tuple(load_character(session.workspace, name) for name in dict.fromkeys(ask.characters))
    recipe = _recipe_of(session.workspace, people[0].name, ask.recipe)
    order = TrainOrder(people, recipe, device=ask.device, weight=ask.weight, add=ask.add)
    if recipe.training is not None and all(image_files(dataset_folder(session, person)) for person in people):
        job = job_of(session, order, resolve(session.workspace, needed_stages(bare(recipe))))
        order = replace(order, resume=(job.folder / "state.safetensors").is_file())
    yield from train(session, order)


def _fetch(workspace: Workspace, ask: FetchJob) -> Generator[Event]:
    from sosie.api.downloads import check_room, fetch, list_files
    from sosie.fetch.hubs import Hubs
    from sosie.fetch.web import Web

    find_recipe(workspace, ask.recipe)
    with Web(Hubs.from_environment()) as web:
        listing = list_files(workspace, web, ask.recipe)
        findings = [*listing.findings, *check_room(workspace, listing.to_fetch)]
        yield from findings
        if has_errors(findings):
            raise CheckFailedError(
                f"not every file of '{ask.recipe}' can be fetched", f"sosie model fetch {ask.recipe}"
            )
        for row in listing.to_fetch:
            with closing(fetch(workspace, web, row, listing.families)) as events:
                yield from events
