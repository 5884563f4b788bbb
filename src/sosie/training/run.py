"""One training run, from its checks to the delivered file."""

from __future__ import annotations

import importlib
from collections.abc import Generator, Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from sosie.core import Finding
from sosie.core.errors import BadModelError, CheckFailedError, UsageError
from sosie.core.finding import Rule
from sosie.families import trainer_of
from sosie.files.whole import make_folder
from sosie.training.asked.interrupt import Interrupt
from sosie.training.asked.wishes import taken
from sosie.training.checks import check_disk, check_job, device_of
from sosie.training.choice import best, over_trained
from sosie.training.deterministic import deterministic
from sosie.training.events import Cause, Ended, Event, JudgeSamples, RolledBack, Stepped, Wished
from sosie.training.job import TrainingJob
from sosie.training.log import Log
from sosie.training.prepare import prepare
from sosie.training.saves import DiskFullError, remove_leftovers

if TYPE_CHECKING:
    from sosie.training.loop import Trainer

U004 = Rule("SOS-U004", "error", "A LoRA cannot be continued")
U021 = Rule("SOS-U021", "warning", "A checkpoint was removed for room")
U030 = Rule("SOS-U030", "info", "A run ended early: over-trained")
U031 = Rule("SOS-U031", "info", "An earlier checkpoint is the best")
U032 = Rule("SOS-U032", "warning", "The last checkpoint is delivered unjudged")

HALVED = 0.5
"""The least factor on the learning rate: it is halved once, then the run stops."""


def train(job: TrainingJob, judge: JudgeSamples | None = None, *, resume: bool = False) -> Generator[Event]:
    """Trains; tells of everything as it happens, and ends with `Ended`.

    With `resume` a run that was stopped or killed goes on from its last state, to the same losses bit
    for bit on the same machine; without one in `job.folder` it begins. Raises `CheckFailedError` if
    findings (each was yielded) forbid the run, `UsageError` if a run is in the folder and was
    not to be resumed or was another one, `BadModelError` for a base that cannot be loaded, `EngineError`
    if the GPU's memory does not suffice.
    """
    findings = check_job(job)
    yield from findings
    _forbid(job, findings)
    make_folder(job.folder)
    state = job.folder / "state.safetensors"
    if state.exists() and not resume:
        raise UsageError(f"{job.folder} holds a run already", "resume it, or remove the folder")
    yield from remove_leftovers(job.folder)
    with deterministic(device_of(job)):
        trainer = yield from _opened(job)
        resumes = state.exists()
        if resumes:
            trainer.restore()
        if resumes and trainer.standing.job != job.id:
            message = f"the run in {job.folder} had another dataset, base or other settings; it cannot be resumed"
            raise UsageError(message, "give back what was changed, or train in another folder")
        log = Log(job, trainer.standing.step)
        try:
            yield from log.told()
            for event in _guarded(job, trainer, judge, resumes):
                log.write(event)
                yield event
                yield from log.told()
        finally:
            log.close()


def _forbid(job: TrainingJob, findings: Sequence[Finding]) -> None:
    errors = [finding for finding in findings if finding.severity == "error"]
    if errors:
        more = f" (and {len(errors) - 1} more)" if len(errors) > 1 else ""
        raise CheckFailedError(f"training on '{job.base.name}' cannot start: {errors[0].message}{more}", errors[0].hint)


def _opened(job: TrainingJob) -> Generator[Event, None, Trainer]:
    """The trainer with its model loaded, its adapters attached and its cache filled."""
    loop: Any = importlib.import_module("sosie.training.loop")
    adapters_of: Any = importlib.import_module("sosie.training.adapters").Adapters
    assistant_of: Any = importlib.import_module("sosie.training.assistant").assistant_of
    family = trainer_of(job.base.family)
    base = family.open_base(job.base.files, job.training, device_of(job))
    assistant = assistant_of(base.denoiser, job.assistant, job.base.family)
    adapters = adapters_of(base.denoiser, family.TARGETS[job.training.targets], job.training)
    if job.continue_from is not None:
        try:
            adapters.read(job.continue_from, job.base.family)
        except BadModelError as error:
            finding = U004.at(str(job.continue_from), error.message, error.hint)
            yield finding
            _forbid(job, [finding])
    room = check_disk(job, adapters.count)
    yield from room
    _forbid(job, room)
    try:
        material = yield from prepare(job, base)
    except DiskFullError as error:
        yield error.finding
        raise CheckFailedError(error.finding.message, error.finding.hint) from error
    yield from material.findings
    _forbid(job, material.findings)
    if job.training.base_storage == "fp8":
        importlib.import_module("sosie.training.storage").store_in_8_bits(base.denoiser, family.STORED)
    if assistant is not None:
        assistant.settle()
    base.settle()
    trainer: Trainer = loop.Trainer(job, family, base, adapters, assistant)
    trainer.feed(material)
    return trainer


def _guarded(job: TrainingJob, trainer: Trainer, judge: JudgeSamples | None, resumed: bool) -> Generator[Event]:
    """The run itself; a full disk ends it cleanly."""
    findings: list[Finding] = []
    try:
        with Interrupt() as interrupt:
            if not resumed:
                yield from _pause(job, trainer, judge)
            cause = yield from _steps(job, trainer, judge, interrupt, findings)
        if cause == "interrupted":
            yield Ended(cause, trainer.standing.step, None, job.triggers, judged=trainer.standing.judged)
        else:
            yield from _delivered(job, trainer, cause, findings)
    except DiskFullError as error:
        yield error.finding
        curve = trainer.standing.judged
        yield Ended("disk", trainer.standing.step, None, job.triggers, judged=curve, findings=(error.finding,))


def _steps(
    job: TrainingJob, trainer: Trainer, judge: JudgeSamples | None, interrupt: Interrupt, findings: list[Finding]
) -> Generator[Event, None, Cause]:
    """All updates that are left; returns why there are no more."""
    while trainer.standing.step < job.training.steps:
        if over_trained(trainer.standing.judged, job.training.patience):
            return "over-trained"
        if (yield from _granted(job, trainer, judge)):
            return "asked"
        outcome = trainer.step()
        if isinstance(outcome, Stepped):
            yield outcome
            yield from _pause(job, trainer, judge)
        elif trainer.standing.scale > HALVED:
            yield outcome
            scale = trainer.roll_back()
            yield RolledBack(trainer.standing.step, scale)
        else:
            message = f"{outcome.message}; the learning rate had been halved already, so the run stops"
            findings.append(replace(outcome, severity="error", message=message))
            yield findings[-1]
            return "loss"
        if interrupt.requested:
            yield trainer.save_state()
            return "interrupted"
    return "finished"


def _granted(job: TrainingJob, trainer: Trainer, judge: JudgeSamples | None) -> Generator[Event, None, bool]:
    """Does what was asked of the run since the last step; whether it is to end here."""
    for wish in taken(job.folder):
        step = trainer.standing.step
        yield Wished(step, wish)
        if wish == "deliver":
            if trainer.last_checkpoint() != step:
                yield from _pause(job, trainer, judge, now=True)
            return True
        if job.samples.prompts:
            yield trainer.sample(judge, aside=True)
    return False


def _pause(job: TrainingJob, trainer: Trainer, judge: JudgeSamples | None, now: bool = False) -> Iterator[Event]:
    """What is due after this many updates, or `now`: a checkpoint with its samples, and the state."""
    training, step = job.training, trainer.standing.step
    due = now or step % training.sample_every == 0 or step == training.steps
    if due and step:
        yield trainer.save_checkpoint()
    if due and job.held:
        yield trainer.validate()
    if due and job.samples.prompts:
        yield trainer.sample(judge)
    if due or step % training.save_every == 0:
        yield trainer.save_state()
    while trainer.removed:
        gone = trainer.removed.pop(0)
        message = f"the disk of {job.folder} is nearly full: checkpoint {gone.name} was removed to go on"
        yield U021.at(str(job.folder), message, "free some space, or keep fewer")


def _delivered(job: TrainingJob, trainer: Trainer, cause: Cause, findings: list[Finding]) -> Generator[Event]:
    """Delivers the best checkpoint by the rule, or the last one where no one judged; none if there is none."""
    curve, last = trainer.standing.judged, trainer.last_checkpoint()
    choice = best(curve)
    said: list[Finding] = []
    if cause == "over-trained":
        message = (
            f"likeness stood still, copies of the training set and disregard of prompts grew: ended at step {last}"
        )
        said.append(U030.at(job.output.name, message, "the best checkpoint before is delivered"))
    if choice is not None and choice.step != last:
        message = (
            f"the checkpoint of step {choice.step} is delivered: by the judges it is better than the last ({last})"
        )
        said.append(U031.at(job.output.name, message, "log.jsonl has the whole curve"))
    if choice is None and last is not None:
        message = f"no judge measured a likeness, so the last checkpoint (step {last}) is delivered, good or not"
        said.append(U032.at(job.output.name, message, "look at the samples before you use it"))
    yield from said
    step = last if choice is None else choice.step
    path = None if step is None else trainer.deliver(step, choice)
    scores = choice.scores if choice else None
    everything = (*findings, *said)
    yield Ended(cause, trainer.standing.step, path, job.triggers, step, scores, curve, everything)
