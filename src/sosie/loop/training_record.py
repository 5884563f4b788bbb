"""What becomes of a training run's events: rows in the catalogue, the samples' files, and the report."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

from sosie.core import Finding
from sosie.files.digest import file_digest
from sosie.files.whole import make_folder, whole_stream
from sosie.reports.training import Learned, SamplesAt, TrainingReport, write_training_report
from sosie.store.training import Loss, StoredTraining, TrainingEnd, TrainingRecords, TrainingView
from sosie.training.events import Ended, Event, RolledBack, Sampled, Scores, Stepped, Validated
from sosie.training.job import TrainingJob
from sosie.workspace.session import Session

CAUSES = {
    "finished": "all steps were done",
    "over-trained": "it ended early, for it was over-trained",
    "asked": "it was asked to end and to deliver",
    "loss": "its loss went wrong twice",
    "disk": "the disk was full",
    "interrupted": "it was interrupted",
    "refused": "a check forbade it",
    "error": "it failed",
    "": "it goes on, or was killed",
}
"""Why runs end, in words."""


class Recorder:
    """Writes the events of one run to the catalogue, and its samples into the run's folder."""

    def __init__(self, session: Session, records: TrainingRecords, run: int, number: int, job: TrainingJob) -> None:
        self._session = session
        self._records = records
        self._run = run
        self._number = number
        self._job = job
        self._ended = False
        self._validated: dict[int, dict[str, float]] = {}

    def note(self, event: Event) -> None:
        """Records one event."""
        if isinstance(event, Stepped):
            loss = Loss(event.step, event.loss, event.gradient, event.learning_rate)
            self._records.add_loss(self._number, loss, event.seconds)
        elif isinstance(event, Validated):
            self._validated[event.step] = event.means
            self._records.add_judgement(self._number, event.step, {"error": event.means})
        elif isinstance(event, Sampled):
            self._sampled(event)
        elif isinstance(event, RolledBack):
            self._records.roll_back(self._number, event.step)
        elif isinstance(event, Finding):
            self._session.store.add_findings(self._run, [event])
        elif isinstance(event, Ended):
            self._end(event)

    def fail(self, cause: str, message: str) -> None:
        """Records that the run ended without having said so."""
        if not self._ended:
            self._ended = True
            self._records.end(self._number, TrainingEnd(cause, message=message))

    def stored(self) -> StoredTraining:
        """The run as it is on record now."""
        found = self._records.find(self._job.id)
        if found is None:
            raise AssertionError("a run that began is on record")
        return found

    def _sampled(self, event: Sampled) -> None:
        folder = self._job.folder / "samples"
        make_folder(folder)
        for place, sample in enumerate(event.samples):
            with whole_stream(_sample_path(folder, event.step, place)) as stream:
                sample.image.save(stream, "PNG")
        if event.scores is not None:
            error = self._validated.get(event.step)
            table = scores_table(event.scores) | ({"error": error} if error else {})
            self._records.add_judgement(self._number, event.step, table)

    def _end(self, event: Ended) -> None:
        self._ended = True
        end = TrainingEnd(
            event.cause,
            event.step,
            next((finding.message for finding in event.findings if finding.severity == "error"), ""),
            event.best,
            event.path,
            file_digest(event.path) if event.path is not None else "",
            scores_table(event.scores) if event.scores is not None else None,
        )
        self._records.end(self._number, end)


def scores_table(scores: Scores) -> dict[str, Any]:
    """Scores as JSON has them: identity by judge, and the mean of the judges as `likeness`."""
    return {
        "identity": {entry.judge: entry.value for entry in scores.identity},
        "likeness": None if scores.likeness is None else round(scores.likeness, 4),
        "copy_paste": scores.copy_paste,
        "adherence": scores.adherence,
        "sound": scores.sound,
    }


def write_report(records: TrainingView, record: StoredTraining, job: TrainingJob, folder: Path) -> Path:
    """Writes the report of a run into `folder`."""
    start, end = record.start, record.end
    scores = dict(records.judgements(record.id))
    steps = sorted({int(path.name[5:12]) for path in (job.folder / "samples").glob("step-*.png")})
    samples = tuple(SamplesAt(step, tuple(_sample_files(job, step)), _flat(scores.get(step, {}))) for step in steps)
    facts = (
        ("base", f"{start.base} ({start.family}, SHA-256 {start.base_sha256[:16]})"),
        ("dataset", f"{start.images} images, digest {start.dataset[:16]}"),
        ("triggers", ", ".join(job.triggers)),
        ("ended", f"{CAUSES.get(end.cause, end.cause)}{f': {end.message}' if end.message else ''}"),
        ("time", f"{record.seconds:.0f} s in steps, on {start.machine.device}"),
        ("delivered", f"{end.path.name}, SHA-256 {end.sha256[:16]}" if end.path else "nothing"),
        ("settings", ", ".join(f"{name} {value}" for name, value in start.settings.items())),
    )
    best = "" if end.best is None else f" The checkpoint of step {end.best} is the one that was delivered."
    report = TrainingReport(
        f"{', '.join(start.characters)}: a LoRA by {start.recipe}",
        f"{end.step} of {start.steps} steps.{best}",
        tuple((loss.step, loss.loss) for loss in records.losses(record.id)),
        samples,
        job.samples.prompts,
        tuple(Learned(image.path, image.text) for image in job.images),
        facts,
        end.best,
        job.id,
    )
    return write_training_report(report, folder)


def _sample_path(folder: Path, step: int, place: int) -> Path:
    return folder / f"step-{step:07d}-{place:02d}.png"


def _sample_files(job: TrainingJob, step: int) -> list[Path]:
    return sorted((job.folder / "samples").glob(f"step-{step:07d}-*.png"))


def _flat(scores: dict[str, Any]) -> dict[str, float | None]:
    """The scores of one judgement in one table; the mean of the judges is left out."""
    flat: dict[str, float | None] = {}
    for name, value in scores.items():
        if isinstance(value, dict):
            flat |= {f"{name} {which}": number for which, number in cast("dict[str, float]", value).items()}
        elif name != "likeness":
            flat[name.replace("_", "-")] = value
    return flat
