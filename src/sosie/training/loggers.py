"""TensorBoard, Weights & Biases and MLflow, by accelerate's trackers, next to the record that is always written.

A logger sees numbers and settings, never a picture, a caption, a path or what the machine is called. One that
fails in the middle of a run is left out from then on; the run goes on.
"""

from __future__ import annotations

import importlib
import importlib.util
import logging
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from sosie.core import Finding
from sosie.core.errors import UsageError
from sosie.core.finding import Rule
from sosie.core.schema import to_table
from sosie.training.job import TrainingJob

U035 = Rule("SOS-U035", "warning", "A logger failed")

PACKAGES = {"tensorboard": ("tensorboard", "tensorboardX"), "wandb": ("wandb",), "mlflow": ("mlflow",)}
"""The loggers by name, and the packages of which one must be there."""

PROJECT = "sosie"
"""The project (of W&B), or the experiment (of MLflow), whose runs the runs are."""

MLFLOW_STORE = "mlflow.db"
"""Where MLflow writes if nothing says otherwise: in the folder of all runs, so that they can be compared."""

HINTS = {
    "tensorboard": "pip install -U tensorboard",
    "wandb": "wandb login, or set WANDB_MODE=offline, or leave --log-with wandb out",
    "mlflow": "look at MLFLOW_TRACKING_URI, or leave --log-with mlflow out",
}


def installed(name: str) -> bool:
    """Whether the package of a logger is there; False for a name that is none of `PACKAGES`."""
    return any(importlib.util.find_spec(package) is not None for package in PACKAGES.get(name, ()))


def wanted(job: TrainingJob) -> list[str]:
    """The loggers that a run uses, each once: TensorBoard where it is installed, and those that were named."""
    default = ["tensorboard"] if installed("tensorboard") else []
    return list(dict.fromkeys([*default, *job.log_with]))


def settings_of(job: TrainingJob) -> dict[str, int | float | str | bool]:
    """What a logger is told of a run: the recipe's settings that are one value, and digests of base and dataset."""
    table = {name: value for name, value in to_table(job.training).items() if isinstance(value, int | float | str)}
    about = {"family": job.base.family, "base": job.base.name, "base_sha256": job.base.sha256, "dataset": job.dataset}
    return {**table, **about, "images": len(job.images)}


class Loggers:
    """The loggers of one run. `close` ends them; `findings` has SOS-U035 for each one that was left out.

    Raises `UsageError` if one that was asked for does not start; TensorBoard that merely is there may fail.
    `step` updates were done before: TensorBoard hides what an earlier process wrote of later ones.
    """

    def __init__(self, job: TrainingJob, step: int) -> None:
        self.findings: list[Finding] = []
        self._running: dict[str, Any] = {}
        logging.getLogger("alembic").setLevel(logging.WARNING)  # MLflow's database tells of each of its tables
        for name in wanted(job):
            try:
                self._running[name] = _started(name, job, step)
            except Exception as error:
                if name in job.log_with:
                    self.close()
                    raise UsageError(f"logger '{name}' could not be started: {_said(error)}", HINTS[name]) from error
                self._leave_out(name, error)

    def write(self, values: Mapping[str, float], step: int) -> None:
        """Gives each logger the values of a step."""
        for name, tracker in list(self._running.items()):
            try:
                tracker.log(dict(values), step=step)
            except Exception as error:
                self._leave_out(name, error)

    def close(self) -> None:
        """Ends the loggers; to end them twice does nothing."""
        while self._running:
            name, tracker = self._running.popitem()
            try:
                tracker.finish()
            except Exception as error:
                self._leave_out(name, error)

    def _leave_out(self, name: str, error: Exception) -> None:
        tracker = self._running.pop(name, None)
        if tracker is not None:
            with suppress(Exception):
                tracker.finish()
        message = f"logger '{name}' failed and is left out from here on: {_said(error)}"
        self.findings.append(U035.at(name, message, HINTS[name]))


def _started(name: str, job: TrainingJob, step: int) -> Any:
    tracking: Any = importlib.import_module("accelerate.tracking")
    make = {"tensorboard": _tensorboard, "wandb": _wandb, "mlflow": _mlflow}[name]
    tracker = make(tracking, job, step)
    tracker.start()
    try:
        tracker.store_init_configuration(settings_of(job))
    except Exception:
        tracker.finish()
        raise
    return tracker


def _tensorboard(tracking: Any, job: TrainingJob, step: int) -> Any:
    purge = {"purge_step": step + 1} if step else {}
    return tracking.TensorBoardTracker(job.output.stem, str(job.folder), **purge)


def _wandb(tracking: Any, job: TrainingJob, step: int) -> Any:  # noqa: ARG001 - it knows the run's last step
    """Without what W&B would tell of the machine: name, user, command line, repository, terminal."""
    private = {"x_disable_meta": True, "x_disable_machine_info": True, "x_disable_stats": True, "disable_git": True}
    quiet = {"disable_code": True, "console": "off", "quiet": True, "login_timeout": 30, "host": PROJECT}
    run = {"name": job.output.stem, "id": job.id[:16], "resume": "allow", "dir": str(job.folder)}
    return tracking.WandBTracker(PROJECT, **run, settings={**private, **quiet})


def _mlflow(tracking: Any, job: TrainingJob, step: int) -> Any:  # noqa: ARG001 - steps that are done again are there twice
    """A resumed run is a run of its own with the same name and the same tag `sosie.job`."""
    mlflow: Any = importlib.import_module("mlflow")
    artifacts = None
    if not mlflow.is_tracking_uri_set():
        folder = job.folder.parent
        mlflow.set_tracking_uri(f"sqlite:///{folder / MLFLOW_STORE}")
        artifacts = _address(folder / "mlflow")
    tags = {"mlflow.source.name": PROJECT, "mlflow.user": PROJECT, "sosie.job": job.id[:16]}
    return tracking.MLflowTracker(PROJECT, logging_dir=artifacts, run_name=job.output.stem, tags=tags)


def _address(folder: Path) -> str:
    return folder.absolute().as_uri()


def _said(error: Exception) -> str:
    """What went wrong, on one line."""
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text[:300]}" if text else type(error).__name__
