"""Loggers beside a run's record: what they are told, what is kept from them, and what happens when they fail."""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from sosie.core.errors import UsageError
from sosie.core.recipe import Training
from sosie.dataset.dataset import TrainingImage
from sosie.training import loggers
from sosie.training.checks import check_job
from sosie.training.events import Likeness, Sampled, Scores, Stepped
from sosie.training.job import BaseModel, TrainingJob
from sosie.training.log import Log

pytestmark = pytest.mark.once

RECORD = """
import json, pathlib
calls = []
def note(name, /, *given, **named):
    calls.append([name, list(given), named])
"""
WANDB = f"""{RECORD}
class Run:
    def log(self, values, step=None): note("log", values, step)
    def finish(self): note("finish")
class config:
    @staticmethod
    def update(values, allow_val_change): note("config", values)
def init(**named):
    note("init", **named)
    return Run()
"""
MLFLOW = f"""{RECORD}
from types import SimpleNamespace as Space
utils = Space(validation=Space(MAX_PARAM_VAL_LENGTH=6000, MAX_PARAMS_TAGS_PER_BATCH=100))
def is_tracking_uri_set(): return False
def set_tracking_uri(uri): note("uri", uri)
def search_experiments(filter_string): return []
def create_experiment(**named): note("experiment", **named); return "1"
def start_run(**named): note("start", **named)
def log_params(values): note("params", values)
def log_metrics(values, step=None):
    if step == 2: raise RuntimeError("the server is gone")
    note("metrics", values, step)
def end_run(): note("end")
"""
TENSORBOARD = f"""{RECORD}
class SummaryWriter:
    def __init__(self, folder, **named): note("open", folder, **named)
    def add_hparams(self, values, metric_dict): note("settings", values)
    def add_scalar(self, name, value, global_step=None): note("scalar", name, value, global_step)
    def flush(self): pass
    def close(self): note("close")
"""


@pytest.fixture
def stand_ins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Packages of the loggers' names that note what they are called with; gives one by its name."""
    folder = tmp_path / "packages"
    for name, code in (("wandb", WANDB), ("mlflow", MLFLOW), ("tensorboardX", TENSORBOARD)):
        (folder / name).mkdir(parents=True)
        (folder / name / "__init__.py").write_text(code)
    monkeypatch.syspath_prepend(folder)
    for name in ("wandb", "mlflow", "tensorboardX"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    yield importlib.import_module
    for name in ("wandb", "mlflow", "tensorboardX"):
        sys.modules.pop(name, None)


@pytest.fixture
def job(tmp_path: Path) -> TrainingJob:
    """A job in a place whose name nobody should be told."""
    place = tmp_path / "secret-place"
    (place / "run").mkdir(parents=True)
    image = TrainingImage(place / "private.png", "sha", "a private caption", "mirasks", None, "mira")
    base = BaseModel("sdxl", "tiny", place / "tiny", "ab" * 32)
    training = Training(steps=4, prompts=("a private prompt",))
    return TrainingJob(base, training, (image,), place / "run", place / "mira.safetensors", place / "cache")


def stepped(step: int) -> Stepped:
    return Stepped(step, 4, 1 / step, 0.5, 1e-4, ("private.png",), 0.1, 1.0)


@pytest.fixture
def state() -> None:
    """accelerate's loggers ask it which of several processes they are in."""
    accelerate = pytest.importorskip("accelerate")
    accelerate.Accelerator(cpu=True)


@pytest.mark.local
@pytest.mark.usefixtures("state")
def test_each_logger_is_opened_once_told_settings_and_numbers_and_ended(stand_ins: Any, job: TrainingJob) -> None:
    log = Log(replace(job, log_with=("wandb", "mlflow", "wandb")), 0)
    log.write(stepped(1))
    log.write(Sampled(1, (), Scores((Likeness("sface", 0.7),), None, 0.5, None)))
    log.close()
    log.close()
    wandb = stand_ins("wandb").calls
    assert [name for name, _, _ in wandb] == ["init", "config", "log", "log", "finish"]
    assert wandb[2][1] == [{"loss": 1.0, "gradient": 0.5, "learning_rate": 1e-4}, 1]
    assert wandb[3][1] == [{"identity/sface": 0.7, "adherence": 0.5}, 1]
    settings = wandb[1][1][0]
    assert all(isinstance(value, int | float | str) for value in settings.values())
    assert (settings["steps"], settings["base"], settings["dataset"]) == (4, "tiny", job.dataset)
    mlflow = stand_ins("mlflow").calls
    assert [name for name, _, _ in mlflow] == ["uri", "experiment", "start", "params", "metrics", "metrics", "end"]
    board = [name for name, _, _ in stand_ins("tensorboardX").calls]
    assert (board[0], board[-1], board.count("open"), board.count("scalar")) == ("open", "close", 1, 5)


@pytest.mark.local
@pytest.mark.usefixtures("state")
def test_no_path_caption_prompt_or_machine_is_sent(stand_ins: Any, job: TrainingJob) -> None:
    log = Log(replace(job, log_with=("wandb", "mlflow")), 0)
    log.write(stepped(1))
    log.close()
    sent = [call for name in ("wandb", "mlflow") for call in stand_ins(name).calls]
    init = sent[0][2]
    assert init.pop("dir") == str(job.folder)  # where wandb writes its own files
    for name in ("x_disable_meta", "x_disable_machine_info", "x_disable_stats", "disable_git", "disable_code"):
        assert init["settings"][name] is True
    mlflow = {name: [given, named] for name, given, named in stand_ins("mlflow").calls if name != "metrics"}
    assert mlflow.pop("uri")[0][0] == f"sqlite:///{job.folder.parent}/mlflow.db"
    assert mlflow.pop("experiment")[1]["artifact_location"].startswith("file:///")
    assert mlflow["start"][1]["tags"]["mlflow.user"] == mlflow["start"][1]["tags"]["mlflow.source.name"] == "sosie"
    told = json.dumps([call for call in sent if call[0] not in ("uri", "experiment")])
    assert "private" not in told
    assert "secret-place" not in told


@pytest.mark.local
@pytest.mark.usefixtures("state")
def test_a_logger_that_fails_on_the_way_is_left_out_and_the_record_goes_on(stand_ins: Any, job: TrainingJob) -> None:
    log = Log(replace(job, log_with=("mlflow", "wandb")), 0)
    for step in (1, 2, 3):
        log.write(stepped(step))
    (found,) = log.told()
    assert (found.code, found.severity, found.subject) == ("SOS-U035", "warning", "mlflow")
    assert "the server is gone" in found.message
    assert log.told() == []
    log.close()
    assert [name for name, _, _ in stand_ins("mlflow").calls][-1] == "end"
    assert [given[1] for name, given, _ in stand_ins("wandb").calls if name == "log"] == [1, 2, 3]
    rows = [json.loads(line) for line in (job.folder / "log.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == [1, 2, 3]


@pytest.mark.local
@pytest.mark.usefixtures("state")
def test_a_named_logger_that_does_not_start_stops_the_run_and_the_default_does_not(
    stand_ins: Any, job: TrainingJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_: object, **named: object) -> None:
        raise RuntimeError("no API key")

    monkeypatch.setattr(stand_ins("wandb"), "init", refused)
    with pytest.raises(UsageError, match="'wandb' could not be started: RuntimeError: no API key") as caught:
        Log(replace(job, log_with=("mlflow", "wandb")), 0)
    assert "WANDB_MODE=offline" in caught.value.hint
    assert stand_ins("mlflow").calls[-1][0] == "end"
    assert stand_ins("tensorboardX").calls[-1][0] == "close"
    monkeypatch.setattr(stand_ins("tensorboardX"), "SummaryWriter", refused)
    log = Log(job, 0)
    assert [finding.code for finding in log.told()] == ["SOS-U035"]
    log.close()


@pytest.mark.local
@pytest.mark.usefixtures("state")
def test_a_resumed_run_hides_what_tensorboard_knows_of_later_steps(stand_ins: Any, job: TrainingJob) -> None:
    Log(job, 0).close()
    Log(job, 2).close()
    first, second = [named for name, _, named in stand_ins("tensorboardX").calls if name == "open"]
    assert (first, second) == ({}, {"purge_step": 3})


def test_tensorboard_is_used_where_it_is_installed_and_others_where_they_are_named(
    job: TrainingJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loggers, "installed", lambda name: name == "tensorboard")
    assert loggers.wanted(replace(job, log_with=("wandb",))) == ["tensorboard", "wandb"]
    monkeypatch.setattr(loggers, "installed", lambda _: False)
    assert loggers.wanted(job) == []


def test_a_logger_that_is_missing_or_unknown_is_told_with_what_to_do(
    job: TrainingJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loggers, "installed", lambda _: False)
    found = [f for f in check_job(replace(job, log_with=("wandb", "wanbd"))) if f.code == "SOS-U034"]
    assert [finding.severity for finding in found] == ["error", "error"]
    assert found[0].hint == "pip install wandb, or leave --log-with out"
    assert "expected one of tensorboard, wandb, mlflow" in found[1].message
    assert "pip" not in found[1].hint  # nothing is installed under a mistyped name
    assert "wandb" in found[1].hint
