"""A training's work: what was ordered, resolved, with its checks and its run, on the machine that this is called on."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass

from sosie.api.needs import check_here
from sosie.core import Character, Finding, Note
from sosie.core.errors import CheckFailedError
from sosie.core.finding import has_errors
from sosie.core.plan import needed_stages
from sosie.dataset import build as datasets
from sosie.dataset.image_set import image_files
from sosie.doctor.recipe_needs import Purpose
from sosie.doctor.recipes import check_recipe
from sosie.doctor.training import check_training
from sosie.loop.sample_judge import SampleJudge, Trainee
from sosie.loop.training_job import TrainOrder, bare, job_of
from sosie.training.events import Event
from sosie.training.job import TrainingJob
from sosie.workspace.bill import Bill, resolve
from sosie.workspace.session import Session


@dataclass(frozen=True, eq=False)
class Work:
    """What was ordered, and what it was resolved to."""

    order: TrainOrder
    job: TrainingJob
    bill: Bill
    people: list[Trainee]


def performed(session: Session, work: Work, resume: bool) -> Generator[Event | Note]:
    """The checks and the run itself, on this machine."""
    from sosie.training.run import train as run_job

    order, job = work.order, work.job
    findings = checks_of(session, work)
    yield from findings
    if has_errors(findings):
        raise CheckFailedError("nothing was trained: the checks before the run found an error")
    judge = SampleJudge(session, work.people, datasets.classifier_for(session, order.recipe))
    if (chosen := order.recipe.training) is not None and chosen != job.training:
        yield Note(_chosen(job))
    yield from run_job(job, judge, resume=resume)


def work_of(session: Session, order: TrainOrder) -> Work:
    """The order, resolved. The characters must have their sets."""
    people = [_trainee(session, character) for character in order.characters]
    bill = resolve(session.workspace, needed_stages(bare(order.recipe)))
    return Work(order, job_of(session, order, bill), bill, people)


def checks_of(session: Session, work: Work) -> list[Finding]:
    """The sets by the doctor, base and card; packages, precision and disk are checked by the trainer itself."""
    order, recipe = work.order, bare(work.order.recipe)
    findings: list[Finding] = []
    for character in order.characters:
        findings += datasets.check(session, character, order.recipe).findings
    findings += check_recipe(recipe, work.bill)
    findings += check_training(recipe)
    if order.device != "cpu" and not order.engine:
        purpose = Purpose(work.job.training.steps, len(work.job.images))
        findings += check_here(session.workspace.root, recipe, work.bill, purpose)
    return list(dict.fromkeys(findings))


def _trainee(session: Session, character: Character) -> Trainee:
    images = tuple(image_files(datasets.dataset_folder(session, character)))
    return Trainee(datasets.judging_character(session, character), datasets.trigger_of(character), images)


def _chosen(job: TrainingJob) -> str:
    """What was left to the memory of the card."""
    again = "are computed twice" if job.training.gradient_checkpointing else "are kept for the way back"
    stored = "in fp8" if job.training.base_storage == "fp8" else "in the precision of the training"
    return f"by the memory of the card: frozen weights lie {stored}, layers {again}"
