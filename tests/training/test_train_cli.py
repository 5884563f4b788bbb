"""`sosie train`: what is on stdout, on record and in the character's folder, however a run ends."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from json_lines import lines
from PIL import Image
from places import ROOT
from safetensors.numpy import save_file
from seen_once import look_once

from sosie.core import Finding
from sosie.core.errors import CheckFailedError, EngineError
from sosie.store import Store
from sosie.store.training import Loss, TrainingEnd, TrainingRecords, TrainingStart
from sosie.training.events import (
    Ended,
    Event,
    Judged,
    RolledBack,
    Sample,
    Sampled,
    Saved,
    Scores,
    Stepped,
)
from sosie.training.job import TrainingJob

pytestmark = pytest.mark.once

Sosie = Callable[..., Any]
MODULE = "lora_unet_down_blocks_1_attentions_0_transformer_blocks_0_attn1_to_q"

TRAINING = """[training]
steps = 4
batch = 2
rank = 4
alpha = 4.0
resolution = 256
save_every = 2
sample_every = 2
prompts = ["smiling, soft daylight, forest background", "sad, neon light, beach background"]

[acceptance]"""


@pytest.fixture(autouse=True)
def _each_picture_is_looked_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    look_once(monkeypatch)


@pytest.fixture
def ready(workspace: Path) -> Path:
    """The workspace with a recipe of four steps, `tiny`."""
    text = (ROOT / "recipes" / "mini.toml").read_text()
    start, end = text.index("[training]"), text.index("[acceptance]")
    text = text[:start] + TRAINING + text[end + len("[acceptance]") :]
    (workspace / "recipes").mkdir(exist_ok=True)
    (workspace / "recipes" / "tiny.toml").write_text(text.replace('name = "mini"', 'name = "tiny"', 1))
    return workspace


class FakeTrainer:
    """Stands in for the trainer: the same events and files, no model. `fate` says how runs end."""

    def __init__(self) -> None:
        self.fate = "finished"
        self.jobs: list[TrainingJob] = []
        self.resumed: list[bool] = []

    def __call__(self, job: TrainingJob, judge: Any = None, *, resume: bool = False) -> Iterator[Event]:
        self.jobs.append(job)
        self.resumed.append(resume)
        if self.fate == "refused":
            yield Finding("SOS-U003", "error", "dataset", "the dataset was not liked")
            raise CheckFailedError("training cannot start: the dataset was not liked")
        if self.fate == "broken":
            raise EngineError("the card fell off the bus")
        job.folder.mkdir(parents=True, exist_ok=True)
        state = job.folder / "state.safetensors"
        start = 2 if state.exists() else 0
        if not start:
            yield self.sampled(job, judge, 0)
        curve: list[Judged] = []
        for step in range(start + 1, 5):
            yield Stepped(step, 4, 1 / step, 0.5, 1e-4, ("a.png",), 0.25, 0.25 * (4 - step))
            if step == 2:
                state.write_bytes(b"state")
                yield Saved(2, state, "state")
                if self.fate == "interrupted" and not resume:
                    yield Ended("interrupted", 2, None, job.triggers)
                    return
            if step == 3 and self.fate == "loss":
                finding = Finding("SOS-U010", "error", "loss", "the loss of step 4 is nan")
                yield RolledBack(2, 0.5)
                yield finding
                yield Ended("loss", 2, None, job.triggers, findings=(finding,))
                return
        sampled = self.sampled(job, judge, 4)
        yield sampled
        curve.append(Judged(4, sampled.scores or Scores()))
        job.output.parent.mkdir(parents=True, exist_ok=True)
        tensors = {
            f"{MODULE}.lora_down.weight": np.full((4, 128), len(self.jobs), np.float32),
            f"{MODULE}.lora_up.weight": np.ones((128, 4), np.float32),
            f"{MODULE}.alpha": np.array(4, np.float32),
        }
        save_file(tensors, job.output, {"ss_base_model_version": "sdxl_base_v1-0", "ss_sd_model_name": "mini"})
        yield Ended("finished", 4, job.output, job.triggers, 4, sampled.scores, tuple(curve))

    @staticmethod
    def sampled(job: TrainingJob, judge: Any, step: int) -> Sampled:
        with Image.open(job.images[0].path) as image:
            picture = image.convert("RGB").resize((256, 256))
        samples = tuple(Sample(picture, prompt, 1) for prompt in job.samples.prompts)
        return Sampled(step, samples, judge(samples))


@pytest.fixture
def trainer(monkeypatch: pytest.MonkeyPatch) -> FakeTrainer:
    from sosie.scorers.defects import DEFECTS
    from sosie.training import run

    fake = FakeTrainer()
    monkeypatch.setattr(run, "train", fake)
    assert "text" in DEFECTS
    monkeypatch.setattr("sosie.loop.sample_judge.score_defects", lambda _sample: [])  # 0.3 s a picture
    return fake


def train(sosie: Sosie, workspace: Path, *more: object) -> Any:
    return sosie("train", "mira", "--recipe", "tiny", "--workspace", workspace, *more)


def record(workspace: Path) -> list[Any]:
    with TrainingRecords(workspace / ".sosie") as records:
        return list(records.runs())


def test_stdout_is_the_path_of_a_lora_that_the_character_then_has(
    sosie: Sosie, ready: Path, trainer: FakeTrainer
) -> None:
    done = train(sosie, ready)
    assert done.code == 0, done.err
    path = Path(done.out.strip())
    assert done.out == f"{path}\n"
    assert path.is_file()
    (own,) = tomllib.loads((ready / "characters" / "mira" / "character.toml").read_text())["loras"]
    assert own == {
        "file": f"loras/{path.name}",
        "family": "sdxl",
        "weight": 1.0,
        "trigger": "m1ra",
        "trained_on": "mini",
        "model": "mini",
    }
    assert "m1ra" in done.err
    job = trainer.jobs[0]
    assert len(job.images) == 8
    assert all(image.face is not None and image.text.startswith("m1ra, ") for image in job.images)
    assert job.samples.prompts[0].startswith("m1ra, portrait of a young woman")


def test_a_finished_run_is_given_again_without_training(sosie: Sosie, ready: Path, trainer: FakeTrainer) -> None:
    first, again = train(sosie, ready, "--json"), train(sosie, ready, "--json")
    assert len(trainer.jobs) == 1
    assert lines(first.out) == lines(again.out)
    line = lines(again.out)[0]
    assert line["trigger"] == "m1ra"
    assert line["given_to"] == line["characters"] == ["mira"]
    assert line["scores"]["identity"]["sface"] > 0.5
    assert set(line["scores"]) == {"identity", "likeness", "copy_paste", "adherence", "sound"}
    assert (line["cause"], line["step"], line["best"]) == ("finished", 4, 4)
    assert line["dataset"] == trainer.jobs[0].dataset
    (lora,) = tomllib.loads((ready / "characters" / "mira" / "character.toml").read_text())["loras"]
    assert lora["file"].endswith(Path(line["path"]).name)


def test_the_report_shows_curves_samples_and_the_set(sosie: Sosie, ready: Path, trainer: FakeTrainer) -> None:
    page = Path(lines(train(sosie, ready, "--json").out)[0]["report"]).read_text()
    assert page.count("<svg") == 3
    assert "<script" not in page
    assert "http://" not in page
    assert page.count('alt="step 4"') == 2
    assert page.count('<tr class="best">') == 1
    assert "Training set: 8 images" in page
    assert "m1ra, close-up portrait" in page


def test_a_run_whose_loss_goes_wrong_is_on_record_and_exits_1(sosie: Sosie, ready: Path, trainer: FakeTrainer) -> None:
    trainer.fate = "loss"
    done = train(sosie, ready)
    assert (done.code, done.out) == (1, "")
    assert "the loss of step 4 is nan" in done.err
    (run,) = record(ready)
    assert (run.end.cause, run.end.step, run.end.message) == ("loss", 2, "the loss of step 4 is nan")
    with TrainingRecords(ready / ".sosie") as records:
        assert [loss.step for loss in records.losses(run.id)] == [1, 2]
    assert "loras" not in tomllib.loads((ready / "characters" / "mira" / "character.toml").read_text())
    listed = sosie("train", "--list", "--workspace", ready)
    assert listed.code == 0
    assert "\tloss\t" in listed.out
    assert "the loss of step 4 is nan" in listed.out


@pytest.mark.parametrize(("fate", "said"), [("refused", "was not liked"), ("broken", "fell off the bus")])
def test_a_run_that_could_not_begin_is_on_record_too(
    sosie: Sosie, ready: Path, trainer: FakeTrainer, fate: str, said: str
) -> None:
    trainer.fate = fate
    done = train(sosie, ready)
    assert done.code == 2
    assert said in done.err
    (line,) = lines(sosie("train", "--list", "--json", "--workspace", ready).out)
    assert line["cause"] == {"refused": "refused", "broken": "error"}[fate]
    assert said in line["message"]
    assert line["settings"]["rank"] == 4
    assert line["finished"] is not None


def test_an_error_in_the_set_stops_before_the_trainer_and_is_on_record(
    sosie: Sosie, ready: Path, trainer: FakeTrainer
) -> None:
    sosie("dataset", "build", "mira", "--workspace", ready)
    (ready / "characters" / "mira" / "dataset" / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\nnothing")
    done = train(sosie, ready)
    assert done.code == 2
    assert "SOS-T002" in done.err
    assert trainer.jobs == []
    (run,) = record(ready)
    assert run.end.cause == "refused"
    with Store.open(ready / ".sosie") as store:
        assert "SOS-T002" in {finding.code for finding in store.findings(1)}


def test_ctrl_c_exits_130_and_the_run_goes_on_in_its_record(sosie: Sosie, ready: Path, trainer: FakeTrainer) -> None:
    trainer.fate = "interrupted"
    stopped = train(sosie, ready)
    assert (stopped.code, stopped.out) == (130, "")
    assert "--resume" in stopped.err
    assert record(ready)[0].end.cause == "interrupted"
    without = train(sosie, ready)
    assert without.code == 2
    assert "sosie train mira --recipe tiny --resume" in without.err
    done = train(sosie, ready, "--resume")
    assert done.code == 0, done.err
    assert trainer.resumed == [False, True]
    (run,) = record(ready)
    assert (run.end.cause, run.end.step, run.seconds) == ("finished", 4, 1.0)
    with TrainingRecords(ready / ".sosie") as records:
        assert [loss.step for loss in records.losses(run.id)] == [1, 2, 3, 4]
        assert [step for step, _ in records.judgements(run.id)] == [0, 4]


def test_a_run_goes_on_only_as_itself(sosie: Sosie, ready: Path, trainer: FakeTrainer) -> None:
    nothing = train(sosie, ready, "--resume")
    assert nothing.code == 2
    assert "was stopped" in nothing.err
    trainer.fate = "interrupted"
    train(sosie, ready)
    recipe = ready / "recipes" / "tiny.toml"
    text = recipe.read_text()
    recipe.write_text(text.replace("rank = 4", "rank = 8"))
    other = train(sosie, ready, "--resume")
    assert other.code == 2
    assert "another base, samples or settings" in other.err
    recipe.write_text(text)
    table = ready / "characters" / "mira" / "dataset" / "captions.jsonl"
    table.write_text(table.read_text().replace("m1ra, close-up", "m1ra, near", 1))
    assert "another dataset" in train(sosie, ready, "--resume").err


def test_an_interrupt_that_breaks_through_is_on_record(
    sosie: Sosie, ready: Path, trainer: FakeTrainer, monkeypatch: pytest.MonkeyPatch
) -> None:
    from sosie.training import run

    def broken(job: TrainingJob, judge: Any, *, resume: bool) -> Iterator[Event]:
        yield Stepped(1, 4, 0.5, 0.5, 1e-4, (), 0.25, 1.0)
        raise KeyboardInterrupt

    monkeypatch.setattr(run, "train", broken)
    assert train(sosie, ready).code == 130
    (one,) = record(ready)
    assert (one.end.cause, one.end.step) == ("interrupted", 1)


def test_a_new_run_takes_the_place_of_the_earlier_one_and_of_no_other_lora(
    sosie: Sosie, ready: Path, trainer: FakeTrainer, tmp_path: Path
) -> None:
    first = Path(train(sosie, ready).out.strip())
    shutil.copy(first, tmp_path / "other.safetensors")
    data = bytearray((tmp_path / "other.safetensors").read_bytes())
    data[-1] ^= 1
    (tmp_path / "other.safetensors").write_bytes(data)
    other = tmp_path / "other.safetensors"
    sosie("lora", "add", "mira", other, "--model", "mini", "--trigger", "x", "--workspace", ready)
    recipe = ready / "recipes" / "tiny.toml"
    recipe.write_text(recipe.read_text().replace("steps = 4", "steps = 5", 1))
    done = train(sosie, ready)
    second = Path(done.out.strip())
    table = tomllib.loads((ready / "characters" / "mira" / "character.toml").read_text())
    assert [lora["file"] for lora in table["loras"]] == ["loras/other.safetensors", f"loras/{second.name}"]
    assert table["description"].startswith("a young woman")
    assert first.is_file()
    assert "other.safetensors acts beside it" in done.err


def test_with_no_add_the_character_stays_as_it_was(sosie: Sosie, ready: Path, trainer: FakeTrainer) -> None:
    toml = ready / "characters" / "mira" / "character.toml"
    before = toml.read_text()
    done = train(sosie, ready, "--no-add")
    assert Path(done.out.strip()).parent == ready / "outputs" / "mira"
    assert toml.read_text() == before
    given = train(sosie, ready)
    assert given.code == 0, given.err
    assert len(trainer.jobs) == 1
    assert "[[loras]]" in toml.read_text()


def test_what_cannot_be_trained_says_what_to_do(sosie: Sosie, ready: Path, trainer: FakeTrainer) -> None:
    recipe = ready / "recipes" / "tiny.toml"
    text = recipe.read_text()
    for arguments, message in (
        (("train", "--workspace", ready), "no character was named"),
        (("train", "mira", "--workspace", ready), "--recipe is missing"),
        (("train", "mria", "--recipe", "tiny", "--workspace", ready), "did you mean 'mira'"),
        (
            ("train", "mira", "--recipe", "tiny", "--continue-from", "nowhere", "--workspace", ready),
            "'nowhere' was not found",
        ),
    ):
        done = sosie(*arguments)
        assert (done.code, done.out) == (2, ""), message
        assert message in done.err
    recipe.write_text(text[: text.index("[training]")] + text[text.index("[acceptance]") :])
    assert "has no [training]" in train(sosie, ready).err
    assert trainer.jobs == []


def test_options_reach_the_job(sosie: Sosie, ready: Path, trainer: FakeTrainer, tmp_path: Path) -> None:
    others = tmp_path / "others"
    others.mkdir()
    Image.new("RGB", (256, 256), "grey").save(others / "a.png")
    (others / "a.txt").write_text("a woman")
    flags = ("--regularisation", others, "--log-with", "wandb", "--device", "cpu", "--weight", 0.6)
    assert train(sosie, ready, *flags).code == 0
    job = trainer.jobs[0]
    assert (job.log_with, job.device) == (("wandb",), "cpu")
    assert [image.path.name for image in job.images if image.regularisation] == ["a.png"]
    (own,) = tomllib.loads((ready / "characters" / "mira" / "character.toml").read_text())["loras"]
    assert own["weight"] == 0.6
    machine = record(ready)[0].start.machine
    assert machine.device.startswith("cpu (")


def test_texts_are_captions_or_what_generate_would_say_of_them(sosie: Sosie, ready: Path, trainer: FakeTrainer) -> None:
    assert train(sosie, ready, "--no-add").code == 0
    recipe = ready / "recipes" / "tiny.toml"
    recipe.write_text(recipe.read_text().replace("[training]", '[training]\ntexts = "prompts"'))
    assert train(sosie, ready, "--no-add").code == 0
    plain, asked = (sorted(image.text for image in job.images) for job in trainer.jobs)
    description = trainer.jobs[1].samples.prompts[0].removesuffix(", smiling, soft daylight, forest background")
    assert description.startswith("m1ra, portrait of a ")
    assert asked == sorted(f"{description}, {text.removeprefix('m1ra, ')}" for text in plain)
    assert not any("portrait of" in text for text in plain)
    assert trainer.jobs[0].id != trainer.jobs[1].id


def test_one_lora_of_two_characters_is_given_to_both_under_their_own_triggers(
    sosie: Sosie, ready: Path, trainer: FakeTrainer
) -> None:
    people = ready / "characters"
    shutil.copytree(people / "mira", people / "otto")
    toml = people / "otto" / "character.toml"
    toml.write_text(
        toml.read_text().replace('name = "mira"', 'name = "otto"').replace('trigger = ""', 'trigger = "0tt0"')
    )
    done = sosie("train", "mira", "otto", "--recipe", "tiny", "--workspace", ready, "--json")
    assert done.code == 0, done.err
    (line,) = lines(done.out)
    assert (line["trigger"], line["given_to"]) == (["m1ra", "0tt0"], ["mira", "otto"])
    assert [len({i.path for i in trainer.jobs[0].images if i.character == name}) for name in ("mira", "otto")] == [8, 8]
    triggers = [
        tomllib.loads((people / name / "character.toml").read_text())["loras"][0]["trigger"]
        for name in ("mira", "otto")
    ]
    assert triggers == ["m1ra", "0tt0"]
    assert len(lines(sosie("train", "otto", "--list", "--json", "--workspace", ready).out)) == 1
    toml.write_text(toml.read_text().replace('trigger = "0tt0"', 'trigger = "m1ra"', 1))
    assert "the same trigger" in sosie("train", "mira", "otto", "--recipe", "tiny", "--workspace", ready).err


def test_time_and_cost_left_are_shown() -> None:
    from sosie.api.training import described
    from sosie.cli.train import _cost

    event = Stepped(120, 1500, 0.08125, 0.5, 1e-4, (), 1.1, 1518.0)
    assert described(event) == "step 120 of 1500, loss 0.0813, 1.10 s a step, 25 min left"
    assert (_cost(event, None), _cost(event, 2.0)) == ("", ", 0.84 to pay")


# The judge


def test_the_judge_knows_the_character_and_sees_copies_of_the_training_set(
    sosie: Sosie, workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from sosie.dataset.build import dataset_folder, judging_character
    from sosie.dataset.image_set import image_files
    from sosie.loop.sample_judge import SampleJudge, Trainee
    from sosie.workspace.characters import load_character
    from sosie.workspace.session import Session
    from sosie.workspace.workspace import open_workspace

    monkeypatch.setattr("sosie.loop.sample_judge.score_defects", lambda _sample: [])
    sosie("dataset", "build", "mira", "--workspace", workspace)
    with Session(open_workspace(workspace)) as session:
        character = load_character(session.workspace, "mira")
        learned = tuple(image_files(dataset_folder(session, character)))
        held = judging_character(session, character)
        judged = list(session.reference_paths(held).values())
        assert (len(learned), len(judged)) == (8, 4)
        judge = SampleJudge(session, [Trainee(held, "m1ra", learned)], None)

        def said(*paths: Path) -> Scores:
            return judge([Sample(Image.open(path).convert("RGB"), "m1ra", 0) for path in paths])

        copies, own = said(*learned), said(*judged)
        assert copies.copy_paste is not None
        assert own.copy_paste is not None
        assert copies.copy_paste > 0 > own.copy_paste
        assert {entry.judge for entry in own.identity} == {"sface", "dlib"}
        assert all(0.5 < entry.value <= 1 for entry in own.identity)
        assert own.adherence is None
        grey = judge([Sample(Image.new("RGB", (256, 256), "grey"), "m1ra", 0)])
        assert (grey.identity, grey.copy_paste, grey.likeness) == ((), None, None)
        two = SampleJudge(session, [Trainee(held, "m1ra", learned), Trainee(held, "0tto", learned)], None)
        assert two([Sample(Image.open(judged[0]).convert("RGB"), "somebody", 0)]).identity == ()


# The record


def start(job: str = "j", folder: Path = Path("somewhere")) -> TrainingStart:
    from sosie.core import Environment

    machine = Environment("3.11", "linux", "cpu (2 cores)", (("torch", "2"),))
    return TrainingStart(job, ("mira",), "mini", "sdxl", "mini", "b", "d", 8, 4, {"rank": 4}, machine, folder)


def test_a_record_comes_back_as_it_was_written(tmp_path: Path) -> None:
    with Store.open(tmp_path / ".sosie") as store, TrainingRecords(store.folder) as records:
        number = records.begin(store.begin_run("train", {}), start())
        assert records.runs()[0].is_open
        for step in (1, 2, 3):
            records.add_loss(number, Loss(step, 1 / step, 0.5, 1e-4), 0.5)
        records.roll_back(number, 2)
        assert [loss.step for loss in records.losses(number)] == [1, 2]
        assert records.runs()[0].end.step == 2
        end = TrainingEnd("finished", 4, "", 4, Path("x.safetensors"), "s", {"likeness": 0.7, "copy_paste": None})
        records.add_judgement(number, 4, {"likeness": 0.7})
        records.end(number, end)
        (found,) = records.runs("mira")
        assert (found.start, found.end, found.seconds) == (start(), end, 1.5)
        assert records.judgements(number) == ((4, {"likeness": 0.7}),)
        assert records.runs("otto") == ()


def test_only_a_resumed_run_goes_on_in_its_record(tmp_path: Path) -> None:
    with Store.open(tmp_path / ".sosie") as store, TrainingRecords(store.folder) as records:
        run = store.begin_run("train", {})
        first = records.begin(run, start())
        assert records.begin(run, start(), resumed=True) == first
        second = records.begin(run, start())
        assert second != first
        assert [one.id for one in records.runs()] == [second, first]
        assert records.begin(run, start("other"), resumed=True) not in (first, second)


def test_losses_that_wait_are_written_at_the_end_and_before_a_roll_back(tmp_path: Path) -> None:
    with Store.open(tmp_path / ".sosie") as store:
        with TrainingRecords(store.folder) as records:
            number = records.begin(store.begin_run("train", {}), start())
            records.add_loss(number, Loss(1, 0.5, 0.5, 1e-4), 0.5)
            assert records.losses(number) == ()
        with TrainingRecords(store.folder) as records:
            assert [loss.loss for loss in records.losses(number)] == [0.5]
            assert records.runs()[0].end.cause == ""


def test_a_report_shows_thousands_of_steps_by_their_means(tmp_path: Path) -> None:
    from sosie.reports.training import Learned, TrainingReport, training_page

    Image.new("RGB", (64, 64), "red").save(tmp_path / "a.png")
    losses = tuple((step, 1.0) for step in range(1, 5001))
    learned = (Learned(tmp_path / "a.png", "<b>m1ra</b>"),)
    page = training_page(TrainingReport("x", "y", losses, (), (), learned, (("a", "b"),)))
    assert len(page) < 40_000
    assert "&lt;b&gt;m1ra" in page


@pytest.mark.local
def test_the_real_trainer_makes_a_lora_of_the_references(sosie: Sosie, ready: Path) -> None:
    recipe = ready / "recipes" / "tiny.toml"
    text = recipe.read_text().replace("steps = 4", "steps = 2", 1).replace("steps = 20 ", "steps = 2 ", 1)
    recipe.write_text(text.replace(', "sad, neon light, beach background"', ""))
    done = train(sosie, ready, "--json", "--device", "cpu")
    assert done.code == 0, done.err
    (line,) = lines(done.out)
    assert (line["cause"], line["best"]) == ("finished", 2)
    shown = lines(sosie("lora", "show", line["path"], "--base", "mini", "--workspace", ready, "--json").out)[0]
    assert shown["coverage"]["matched"] == shown["coverage"]["total"] > 100
    assert shown["triggers"] == ["m1ra"]
    with TrainingRecords(ready / ".sosie") as records:
        (run,) = records.runs()
        assert [loss.step for loss in records.losses(run.id)] == [1, 2]


# Bad input: told by the real checks, before a step


def spoiled(workspace: Path, what: str, references: list[Path]) -> None:
    """Builds the set of the character, and does one thing to it that is wrong."""
    folder = workspace / "characters" / "mira" / "dataset"
    table = folder / "captions.jsonl"
    first = sorted(folder.glob("*.jpg"))[0]
    if what == "zero captions":
        table.unlink()
    elif what == "a caption file for a missing image":
        (folder / "gone.txt").write_text("m1ra, in a forest")
    elif what == "two files of one image":
        with Image.open(first) as image:
            image.save(folder / "again.png")
    elif what == "a 1-pixel image":
        Image.new("RGB", (1, 1)).save(folder / "dot.png")
    elif what == "another person":
        with Image.open(first) as image:
            wide = image.convert("RGB").resize((image.width * 2, image.height))
            box = (image.width // 2, 0, image.width // 2 + image.width, image.height)
            wide.crop(box).save(folder / "stranger.png")


@pytest.mark.parametrize(
    ("what", "code", "said", "ends"),
    [
        ("zero captions", "SOS-T010", "8 of 8 images have no caption", 2),
        ("a caption file for a missing image", "SOS-T012", "gone.txt", 0),
        ("two files of one image", "SOS-T024", "again.png", 0),
        ("a 1-pixel image", "SOS-T025", "dot.png", 0),
        ("another person", "SOS-T027", "stranger.png", 0),
    ],
    ids=lambda value: value.replace(" ", "-") if isinstance(value, str) and " " in value else "",
)
def test_what_is_wrong_with_a_set_is_told_before_a_step(  # noqa: PLR0917
    sosie: Sosie,
    ready: Path,
    trainer: FakeTrainer,
    references: list[Path],
    what: str,
    code: str,
    said: str,
    ends: int,
) -> None:
    assert sosie("dataset", "build", "mira", "--workspace", ready).code == 0
    spoiled(ready, what, references)
    done = train(sosie, ready, "--device", "cpu")
    assert done.code == ends, done.err
    assert [line for line in done.err.splitlines() if code in line and said in line], done.err
    assert bool(trainer.jobs) is (ends == 0)
    if ends:
        assert record(ready)[0].end.cause == "refused"


@pytest.mark.local
def test_a_base_of_another_family_and_a_lora_of_another_rank_are_refused_by_the_real_trainer(
    sosie: Sosie, ready: Path
) -> None:
    recipe = ready / "recipes" / "tiny.toml"
    text = recipe.read_text()
    upscaler = ready / "models" / "not-sdxl.safetensors"
    upscaler.parent.mkdir(exist_ok=True)
    save_file({"x_embedder.weight": np.zeros((8, 8), np.float32)}, upscaler)
    recipe.write_text(text.replace('model = "mini"', 'model = "not-sdxl"'))
    refused = train(sosie, ready, "--device", "cpu")
    assert (refused.code, refused.out) == (2, "")
    recipe.write_text(text)
    other = ready / "rank8.safetensors"
    shapes = {f"{MODULE}.lora_down.weight": (8, 128), f"{MODULE}.lora_up.weight": (128, 8)}
    tensors = {name: np.ones(shape, np.float32) for name, shape in shapes.items()}
    save_file({**tensors, f"{MODULE}.alpha": np.array(8, np.float32)}, other)
    refused = train(sosie, ready, "--device", "cpu", "--continue-from", other)
    assert (refused.code, refused.out) == (2, "")
    assert "SOS-U004" in refused.err
    assert "its rank is 8, the recipe's is 4" in refused.err


# The real command, stopped by signals


@pytest.fixture
def small(workspace: Path, tmp_path: Path) -> Path:
    """The workspace with a recipe that trains SDXL in very small for twelve steps, at 64 px."""
    import sosie_mini
    import tiny_sdxl

    folder, mini = tmp_path / "small-sdxl", Path(sosie_mini.folder())
    sizes = {"cross_attention_dim": 256, "projection_class_embeddings_input_dim": 6 * 8 + 128}
    layers = {"layers_per_block": 1, "transformer_layers_per_block": (1, 1, 1), "block_out_channels": (8, 16, 16)}
    tiny_sdxl.unet(**layers, **sizes).save_pretrained(folder / "unet")
    tiny_sdxl.vae().save_pretrained(folder / "vae")
    tiny_sdxl.scheduler().save_pretrained(folder / "scheduler")
    for name in ("text_encoder", "text_encoder_2", "tokenizer", "tokenizer_2"):
        shutil.copytree(mini / name, folder / name)
    shutil.copy(mini / "model_index.json", folder)
    (workspace / "recipes").mkdir(exist_ok=True)
    (workspace / "recipes" / "small.toml").write_text(
        f"""name = "small"
prompt = "{{trigger}}, {{prompt}}"
width = 64
height = 64

[[stages]]
kind = "generate"
family = "sdxl"
model = "{folder}"

[stages.sampler]
name = "euler"
schedule = "model"
steps = 2
cfg = 2.0

[training]
steps = 12
batch = 2
rank = 2
alpha = 2.0
learning_rate = 1e-3
ema = 0.9
resolution = 64
save_every = 5
sample_every = 12
prompts = ["smiling"]
"""
    )
    return workspace


def start_real(workspace: Path, *more: str) -> subprocess.Popen[str]:
    code = "from sosie.cli import main; main()"
    words = ["train", "mira", "--recipe", "small", "--device", "cpu", "--workspace", str(workspace), "--json", *more]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [sys.executable, "-c", code, *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
    )


def losses_on_disk(workspace: Path) -> dict[int, tuple[float, float]]:
    """Loss and gradient of each step, of the only run, as they were written to its record."""
    found: dict[int, tuple[float, float]] = {}
    for path in (workspace / ".sosie" / "training").glob("*/log.jsonl"):
        for line in path.read_text().splitlines(keepends=True):
            if line.endswith("\n") and '"stepped"' in line:
                row = json.loads(line)
                found[row["step"]] = (row["loss"], row["gradient"])
    return found


def stopped(workspace: Path, number: signal.Signals, after: int, *more: str) -> str:
    """Sends the real command a signal once it has done so many steps; what it said. It must end with 130."""
    process = start_real(workspace, *more)
    give_up = time.monotonic() + 240
    while max(losses_on_disk(workspace), default=0) < after and process.poll() is None:
        assert time.monotonic() < give_up
        time.sleep(0.01)
    process.send_signal(number)
    out, error = process.communicate(timeout=120)
    assert process.returncode == 130, error
    assert lines(out)[0]["cause"] == "interrupted"
    assert "interrupted; the state is saved" in error
    return error


@pytest.mark.local
def test_the_real_command_stops_at_ctrl_c_and_at_sigterm_and_goes_on_to_the_same_losses_bit_for_bit(
    small: Path, tmp_path: Path
) -> None:
    from safetensors.numpy import load_file

    whole = tmp_path / "undisturbed"
    shutil.copytree(small, whole)
    undisturbed = start_real(whole)
    stopped(small, signal.SIGINT, 2)
    first = max(losses_on_disk(small))
    assert 2 <= first < 12
    assert "--resume" in stopped(small, signal.SIGTERM, first + 1, "--resume")
    second = max(losses_on_disk(small))
    assert first < second < 12
    last = start_real(small, "--resume")
    (ours, error), (theirs, _) = last.communicate(timeout=240), undisturbed.communicate(timeout=240)
    assert (last.returncode, undisturbed.returncode) == (0, 0), error
    assert len(losses_on_disk(whole)) == 12
    assert losses_on_disk(small) == losses_on_disk(whole)
    assert lines(ours)[0]["dataset"] == lines(theirs)[0]["dataset"]
    mine, other = (load_file(lines(text)[0]["path"]) for text in (ours, theirs))
    assert all((mine[name] == other[name]).all() for name in other)
    (run,) = record(small)
    assert (run.end.cause, run.end.step) == ("finished", 12)
    with TrainingRecords(small / ".sosie") as records:
        assert [loss.step for loss in records.losses(run.id)] == list(range(1, 13))
