"""Train: a character's LoRA, from its dataset to the file that its recipes use, with everything on record."""

from __future__ import annotations

import re
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from sosie.api.loras import LoraTerms, add_lora
from sosie.api.trainings.work import Work, checks_of, performed, work_of
from sosie.core import Character, CharacterLora, Event, Finding, Note, Progress, Result
from sosie.core.errors import CheckFailedError, DeliveryError, NotFoundError, UsageError
from sosie.core.finding import has_errors
from sosie.dataset import build as datasets
from sosie.dataset.image_set import image_files
from sosie.dataset.sources import from_references
from sosie.families import families
from sosie.files.whole import change_text
from sosie.loop.training_job import TrainOrder, start_of, training_of
from sosie.loop.training_record import Recorder, write_report
from sosie.lora import read_lora
from sosie.machines.load import calm_threads
from sosie.store.record import Record
from sosie.store.training import StoredTraining, TrainingRecords
from sosie.training.events import Event as RunEvent
from sosie.training.events import Stepped
from sosie.training.job import TrainingJob
from sosie.workspace.characters import load_character, without_lora
from sosie.workspace.session import Session
from sosie.workspace.workspace import Workspace
from sosie.workspace.writing import locked, writing

MEASURED = 20
"""After so many steps a run says how long it will take."""


@dataclass(frozen=True)
class Trained(Result):
    """The end: the run on record, its triggers, the report, and the characters that were given the LoRA."""

    record: StoredTraining
    triggers: tuple[str, ...]
    report: Path
    given_to: tuple[str, ...]


def train(session: Session, order: TrainOrder) -> Generator[Event]:
    """Checks, trains, judges, delivers and records.

    A character without a set gets one of its references first. What a finished run of the same job
    delivered is given again, without training. Raises `CheckFailedError` if a check finds an error; that is
    on record too.
    """
    calm_threads()
    training_of(order)
    order = priced(session.workspace, order)
    for character in order.characters:
        if not image_files(datasets.dataset_folder(session, character)):
            yield from from_references(session, character, datasets.Captioning(order.recipe))
    work = work_of(session, order)
    job = work.job
    with (
        locked(session.workspace, f"training-{job.id[:16]}", f"the run of {', '.join(order.names)}", 0.0),
        TrainingRecords(session.store.folder) as records,
    ):
        record = records.find(job.id)
        if order.resume or record is None or record.end.path is None or not record.end.path.is_file():
            _may_begin(order, job, records)
            record = yield from _recorded(session, work, records)
        given: list[str] = []
        if record.end.path is not None and order.add:
            for character in order.characters:
                yield from _give(session, order, record, character)
                given.append(character.name)
        folder = session.workspace.root / "outputs" / order.names[0] / f"training-{job.id[:8]}"
        with Record(session.store.folder) as view:
            page = write_report(view.training, record, job, folder)
        yield Trained(record, job.triggers, page, tuple(given))


def priced(workspace: Workspace, order: TrainOrder) -> TrainOrder:
    """The order with the price of an hour of the pod that it names, unless it says one itself.

    Raises `NotFoundError` for a pod that is not known here.
    """
    if order.price is not None or not order.engine:
        return order
    from sosie.api.trainings.home import price_of

    return replace(order, price=price_of(workspace, order.engine))


def list_runs(session: Session, character: str = "") -> tuple[StoredTraining, ...]:
    """Every training run on record, or those of a character, the newest first."""
    with TrainingRecords(session.store.folder) as records:
        return records.runs(character)


def _recorded(session: Session, work: Work, records: TrainingRecords) -> Generator[Event, None, StoredTraining]:
    """The run itself, on record however it ends."""
    order, job = work.order, work.job
    run = session.store.begin_run("train", _arguments(order))
    goes_on = (job.folder / "state.safetensors").is_file()
    recorder = Recorder(session, records, run, records.begin(run, start_of(order, job), goes_on), job)
    with _ending(session, recorder, run):
        begun: int | None = None
        for event in _events(session, work):
            if not isinstance(event, Note):
                recorder.note(event)
            yield event
            if isinstance(event, Stepped):
                begun = event.step if begun is None else begun
                yield Progress(described(event), event.step, event.steps)
                if event.step - begun == MEASURED - 1 and event.step < event.steps:
                    yield Note(forecast(event, order.price))
    return recorder.stored()


def _events(session: Session, work: Work) -> Generator[RunEvent | Note]:
    """What a run says, here or on the machine that was ordered."""
    if not work.order.engine:
        yield from performed(session, work, work.order.resume)
        return
    from sosie.api.trainings.home import train_far

    findings = checks_of(session, work)
    yield from findings
    if has_errors(findings):
        raise CheckFailedError("nothing was trained: the checks before the run found an error")
    told = {(one.code, one.message) for one in findings}
    for event in train_far(session, work):
        if not isinstance(event, Finding) or (event.code, event.message) not in told:  # it looks at the same set
            yield event


def forecast(event: Stepped, price: float | None) -> str:
    """What is still to come after the first steps: `4480 steps are left: about 1.6 hours, 3.20 to pay at 2 an hour`."""
    hours = event.left / 3600
    time = f"{hours:.1f} hours" if hours >= 1 else f"{event.left / 60:.0f} minutes"
    cost = "" if price is None else f", {hours * price:.2f} to pay at {price:g} an hour"
    each = f"{event.seconds:.2f} s a step"
    return f"{event.steps - event.step} steps are left: about {time}{cost} ({each}, judgements counted as the last one)"


def described(event: Stepped) -> str:
    """`step 120 of 1500, loss 0.0812, 1.10 s a step, 25 min left`."""
    left = f"{event.left / 60:.0f} min" if event.left >= 90 else f"{event.left:.0f} s"
    speed = f"{event.seconds:.2f} s a step"
    return f"step {event.step} of {event.steps}, loss {event.loss:.4f}, {speed}, {left} left"


def _may_begin(order: TrainOrder, job: TrainingJob, records: TrainingRecords) -> None:
    """An error if a run that was stopped is here and shall not go on, or if the one that shall is another."""
    there = (job.folder / "state.safetensors").is_file()
    again = f"sosie train {' '.join(order.names)} --recipe {order.recipe.name}"
    if there and not order.resume:
        raise UsageError(f"this run was begun before and stopped; its state is in {job.folder}", f"{again} --resume")
    if there or not order.resume:
        return
    stopped = [
        run.start
        for run in records.runs(order.names[0])
        if run.start.characters == order.names and run.start.recipe == order.recipe.name and run.end.path is None
    ]
    if not stopped:
        raise NotFoundError(f"no run of {', '.join(order.names)} by '{order.recipe.name}' was stopped", again)
    if stopped[0].job != job.id:
        what = "dataset" if stopped[0].dataset != job.dataset else "base, samples or settings"
        raise UsageError(
            f"the run of {', '.join(order.names)} that was stopped had another {what}; it cannot be resumed",
            f"give back what was changed, or begin anew: {again}",
        )


def _give(
    session: Session, order: TrainOrder, record: StoredTraining, character: Character
) -> Iterator[Finding | Note]:
    """Gives the LoRA to a character, in place of one that an earlier run by this recipe gave."""
    path, workspace = record.end.path, session.workspace
    if path is None or any(own.sha256 == record.end.sha256 for own in load_character(workspace, character.name).loras):
        return
    only = record.start.base if read_lora(path, families()).variant == "reduced" else ""
    terms = LoraTerms(order.weight, datasets.trigger_of(character), "", only)
    added = add_lora(workspace, character.name, str(path), terms)
    yield from added.findings
    earlier = re.compile(rf"loras/.*-{re.escape(order.recipe.name)}-[0-9a-f]{{8}}\.safetensors")
    for own in load_character(workspace, character.name).loras:
        if own.file == added.lora.file or (own.family, own.model) != (added.lora.family, added.lora.model):
            continue
        if earlier.fullmatch(own.file):
            _take_back(workspace, character.name, own)
            yield Note(f"it is used in place of {own.file}, which stays in the character's folder")
        else:
            yield Note(f"{own.file} acts beside it, at {own.weight:g}; two LoRAs of one face are too much")


def _take_back(workspace: Workspace, name: str, lora: CharacterLora) -> None:
    """Takes the entry of a LoRA out of `character.toml`; the rest of the text stays as it is."""
    with writing(workspace, name) as folder:
        toml = folder / "character.toml"
        try:
            change_text(toml, lambda text: without_lora(text, lora.file, toml))
        except OSError as error:
            raise DeliveryError(f"{toml} could not be written: {error.strerror}", "free some space") from None


def _arguments(order: TrainOrder) -> dict[str, object]:
    return {
        "characters": list(order.names),
        "recipe": order.recipe.name,
        "resume": order.resume,
        "continue_from": order.continue_from,
        "regularisation": str(order.regularisation or ""),
        "device": order.device,
        "log_with": list(order.log_with),
    }


@contextmanager
def _ending(session: Session, recorder: Recorder, run: int) -> Generator[None]:
    """However a run ends, that is on record."""
    outcome = "failed"
    try:
        yield
        outcome = "done"
    except (KeyboardInterrupt, GeneratorExit):
        outcome = "interrupted"
        recorder.fail(outcome, "")
        raise
    except CheckFailedError as error:
        outcome = "refused"
        recorder.fail(outcome, error.message)
        raise
    except BaseException as error:
        recorder.fail("error", f"{type(error).__name__}: {error}")
        raise
    finally:
        session.store.end_run(run, outcome)
