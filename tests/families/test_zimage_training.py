"""Training a LoRA of Z-Image: what is predicted, what is changed, what is written, and what a run says of itself."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
from moments import KilledError, stopped_before
from places import ROOT

from sosie.core.recipe import Sampler, Training
from sosie.dataset.dataset import TrainingImage
from sosie.doctor.training import check_training
from sosie.families.zimage.training_memory import adapters, moments
from sosie.training.events import Ended, Event, Likeness, Sampled, Scores, Stepped, Validated
from sosie.training.job import BaseModel, Samples, TrainingJob
from sosie.training.pictures import load_picture
from sosie.workspace.recipes import read_recipe

SMALL = Training(
    steps=4,
    batch=2,
    rank=2,
    alpha=1.0,
    learning_rate=1e-2,
    min_snr=0.0,
    ema=0.9,
    timesteps="logit-normal",
    timestep_shift=3.0,
    caption_dropout=0.25,
    resolution=64,
    save_every=2,
    sample_every=4,
)
LENGTHS = (5, 33, 64)
local = pytest.mark.local


# What needs no torch.


@pytest.mark.parametrize("name", ["zimage", "zimage-turbo"])
def test_the_presets_are_those_that_were_asked_for(name: str) -> None:
    training = read_recipe(ROOT / "recipes" / f"{name}.toml").training
    assert training is not None
    assert (training.rank, training.alpha, training.steps, training.learning_rate) == (32, 16.0, 4500, 8e-5)
    assert (training.timesteps, training.timestep_shift, training.caption_dropout) == ("logit-normal", 3.0, 0.05)
    assert (training.resolution, training.least_resolution, training.precision) == (1024, 512, "bf16")
    assert adapters(training) == 85_032_960  # 170 MB in 16 bits


def test_turbo_is_warned_of_with_what_others_saw_unless_an_assistant_is_named() -> None:
    turbo = read_recipe(ROOT / "recipes" / "zimage-turbo.toml")
    assert turbo.training is not None
    (found,) = check_training(turbo)
    assert (found.code, found.severity) == ("SOS-U007", "warning")
    assert "DiffSynth-Studio #1251" in found.message
    assert "assistant = FILE" in found.hint
    assert check_training(replace(turbo, training=replace(turbo.training, assistant="adapter"))) == []
    assert check_training(read_recipe(ROOT / "recipes" / "zimage.toml")) == []
    half = check_training(replace(turbo, training=replace(turbo.training, precision="fp16", assistant="adapter")))
    assert [(finding.code, finding.severity) for finding in half] == [("SOS-T040", "error")]


def test_a_card_of_24_gb_trains_in_bf16_with_layers_twice_and_one_of_16_in_fp8() -> None:
    training = read_recipe(ROOT / "recipes" / "zimage.toml").training
    assert training is not None

    def peak(again: bool, stored: Any) -> float:
        way = replace(training, gradient_checkpointing=again, base_storage=stored)
        return max(moments(way, (1024, 1024)).values()) / 1e9

    assert 24 < peak(again=False, stored="precision") < 80
    assert 16 < peak(again=True, stored="precision") < 22
    assert peak(again=True, stored="fp8") < 15
    assert max(moments(training, (1024, 1024)).values()) / 1e9 == pytest.approx(peak(again=True, stored="fp8"))
    twice = replace(training, batch=2, gradient_checkpointing=True, base_storage="precision")
    assert moments(twice, (1024, 1024))["train"] > moments(replace(twice, batch=1), (1024, 1024))["train"]


def test_what_is_left_open_is_chosen_by_the_memory_of_the_card(monkeypatch: pytest.MonkeyPatch) -> None:
    from sosie.loop import training_job
    from sosie.machines.facts import Gpu, MachineFacts

    order = training_job.TrainOrder((), read_recipe(ROOT / "recipes" / "zimage.toml"))

    def chosen(mib: int) -> tuple[object, str]:
        monkeypatch.setattr(training_job, "read_machine", lambda _: MachineFacts((Gpu("card", free_mib=mib),)))
        training = training_job.fitted(order)
        return training.gradient_checkpointing, training.base_storage

    assert chosen(80_000) == (False, "precision")
    assert chosen(24_000) == (True, "precision")
    assert chosen(16_000) == (True, "fp8")
    assert training_job.fitted(replace(order, device="cpu")).gradient_checkpointing is False


def test_a_small_picture_has_a_bucket_of_its_own_size_and_is_not_enlarged(tmp_path: Path) -> None:
    image = TrainingImage(picture(tmp_path / "a.png", (200, 200)), "")
    assert load_picture(image, 512).pixels.shape == (512, 512, 3)
    assert load_picture(image, 512, 64).pixels.shape == (192, 192, 3)
    assert load_picture(image, 512, 256).pixels.shape == (256, 256, 3)
    assert load_picture(image, 128, 64).pixels.shape == (128, 128, 3)


def test_hours_and_price_are_told_from_the_first_steps() -> None:
    from sosie.api.training import forecast

    event = Stepped(20, 4500, 0.3, 0.1, 8e-5, ("a.png",), 1.2, 5400.0)
    assert forecast(event, 2.0).startswith("4480 steps are left: about 1.5 hours, 3.00 to pay at 2 an hour (1.20 s a")
    assert "to pay" not in forecast(replace(event, left=600.0), None)
    assert "10 minutes" in forecast(replace(event, left=600.0), None)


def picture(path: Path, size: tuple[int, int], seed: int = 0) -> Path:
    from PIL import Image

    noise = np.random.default_rng(seed).integers(0, 255, (size[1] // 8 + 1, size[0] // 8 + 1, 3), dtype=np.uint8)
    Image.fromarray(noise).resize(size).save(path)
    return path


# A Z-Image in very small with random weights.


class Words:
    """Stands for the tokenizer: a letter is a token."""

    def encode(self, text: str, **_: object) -> Any:
        return SimpleNamespace(ids=[ord(letter) for letter in text])


@pytest.fixture(scope="module")
def parts() -> Iterator[Callable[..., Any]]:
    """Makes the same tiny model each time."""
    torch = pytest.importorskip("torch")
    before = torch.get_num_threads()
    torch.set_num_threads(1)

    def made(*_: object) -> Any:
        import tiny_zimage

        from sosie.families.zimage.diffusers.parts import Parts

        return Parts(*tiny_zimage.modules(), cast(Any, Words()), 3.0)

    yield made
    torch.set_num_threads(before)


@pytest.fixture
def base(parts: Callable[..., Any]) -> Any:
    from sosie.families.zimage.training import ZImageBase

    return ZImageBase(parts(), SMALL, "cpu")


@local
@pytest.mark.parametrize("lengths", [(5,), (33, 40), LENGTHS], ids=["one", "alike", "ragged"])
@pytest.mark.parametrize("size", [(8, 8), (6, 10)], ids=["square", "odd"])
def test_a_batch_predicts_what_stock_diffusers_predicts_of_each_picture(
    parts: Callable[..., Any], lengths: tuple[int, ...], size: tuple[int, int]
) -> None:
    import torch

    from sosie.families.zimage.velocity import layout, up, velocity

    model, drawing = parts().transformer, torch.Generator().manual_seed(5)
    noisy = torch.randn((len(lengths), 16, *size), generator=drawing)
    levels = torch.rand((len(lengths),), generator=drawing)
    texts = [torch.randn((length, 32), generator=drawing) for length in lengths]
    states = torch.zeros(len(lengths), up(max(lengths)), 32)
    for place, text in enumerate(texts):
        states[place, : len(text)] = text
    given = {"noisy": noisy, "levels": levels, "states": states, **layout(model.config, size, lengths)}
    assert ("seen" in given) == (len({up(length) for length in lengths}) > 1)
    with torch.no_grad():
        found = velocity(model, given)
        for place, text in enumerate(texts):
            one = noisy[place, :, None]
            (wanted,) = model([one], 1 - levels[place : place + 1], [text], return_dict=False)[0]
            torch.testing.assert_close(found[place], wanted[:, 0], rtol=1e-4, atol=1e-5)


@local
def test_the_error_is_that_of_the_velocity_as_diffusers_scheduler_makes_noise(base: Any) -> None:
    import torch
    from diffusers import FlowMatchEulerDiscreteScheduler

    pixels = np.random.default_rng(1).integers(0, 255, (2, 64, 64, 3), dtype=np.uint8)
    items = [{**base.encode_picture(p, (64, 64), (0, 0)), **base.encode_text("mira")} for p in pixels]
    batch = {name: torch.stack([item[name] for item in items]) for name in items[0]}
    batch = {**batch, "states_rows": torch.tensor([len(item["states"]) for item in items])}
    levels = torch.tensor([0.25, 0.75])
    given = base.add_noise(batch, torch.Generator().manual_seed(7), lambda count, most: levels)
    generator = torch.Generator().manual_seed(7)
    spread, noise = (torch.randn(batch["mean"].shape, generator=generator) for _ in range(2))
    clean = batch["mean"] + batch["std"] * spread
    scheduler = FlowMatchEulerDiscreteScheduler(shift=1.0)
    scheduler.set_timesteps(sigmas=[0.75, 0.25])
    wanted = scheduler.scale_noise(clean, scheduler.timesteps.flip(0), noise)
    torch.testing.assert_close(given["noisy"], wanted)
    torch.testing.assert_close(given["target"], clean - noise)
    stepped = given["noisy"] + levels.view(-1, 1, 1, 1) * given["target"]  # all the way, at once
    torch.testing.assert_close(stepped, clean, rtol=1e-4, atol=1e-5)
    latents = base._vae.encode(torch.as_tensor(pixels / 127.5 - 1).float().permute(0, 3, 1, 2)).latent_dist.mean
    torch.testing.assert_close(batch["mean"], (latents - 0.1159) * 0.3611)


@local
@pytest.mark.parametrize(
    ("targets", "count"), [("attention", 120), ("feed-forward", 210), ("transformer", 240), ("all", 270)]
)
def test_a_file_of_the_full_size_matches_with_all_its_tensors_and_loads_in_comfyui(
    targets: Any, count: int, tmp_path: Path
) -> None:
    import re

    import torch
    from diffusers import ZImageTransformer2DModel
    from safetensors.torch import save_file

    from sosie.families import families
    from sosie.families.zimage.training import MATRICES, TARGETS, key, metadata
    from sosie.lora import read_lora
    from sosie.lora.coverage import coverage
    from sosie.lora.loaders import outcomes

    with torch.device("meta"):
        model = ZImageTransformer2DModel()
    pattern = re.compile(TARGETS[targets])
    modules = {name: module for name, module in model.named_modules() if pattern.fullmatch(name)}
    assert len(modules) == count
    made: dict[str, Any] = {}
    for name, module in modules.items():
        shapes = (1, module.in_features), (module.out_features, 1)
        for role, shape in zip(MATRICES, shapes, strict=True):
            made[f"{key(name)}.{role}.weight"] = torch.ones(shape, dtype=torch.float16)
        made[f"{key(name)}.alpha"] = torch.tensor(0.5)
    save_file(made, tmp_path / "lora.safetensors", metadata=metadata("flow", 1024))
    lora = read_lora(tmp_path / "lora.safetensors", families())
    assert (lora.family, lora.variant, lora.strangers, lora.scales) == ("zimage", "base", (), (0.5,))
    assert (lora.layout.naming, lora.layout.style, lora.layout.fusion) == ("comfy", "lora_A", "split")
    found = coverage(lora, lora.table)
    assert (found.matched, found.total, found.foreign, found.misfits) == (3 * count, 3 * count, (), ())
    assert sum(".lora_" in name for name in lora.header.tensors) == 2 * count  # 480 of 480 by the preset
    said = {outcome.loader: outcome.result for outcome in outcomes(lora)}
    assert said["ComfyUI"] == said["diffusers 0.42"] == "loads"


def job_in(folder: Path, **changes: Any) -> TrainingJob:
    images = tuple(
        TrainingImage(picture(folder / f"{n}.png", (64, 64), n), f"sha-{n}", "a " * (6 * n), "mirasks", None, "mira")
        for n in range(4)
    )
    training = replace(SMALL, **changes)
    base = BaseModel("zimage", "tiny", folder, "ab" * 32)
    samples = Samples(("mirasks, smiling",), 64, 64, Sampler("euler", "simple", 2, 2.0))
    target = folder / "mira.safetensors"
    return TrainingJob(
        base, training, images[:3], folder / "run", target, folder / "cache", samples, device="cpu", held=images[3:]
    )


@pytest.fixture
def tiny(parts: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """Trainings open the tiny model, whose folder holds nothing that checks could look at."""
    from sosie.families.zimage import training
    from sosie.training import run

    monkeypatch.setattr(training, "load_parts", parts)
    monkeypatch.setattr(run, "check_job", lambda _: [])


def events_of(job: TrainingJob, *, resume: bool = False) -> list[Event]:
    from sosie.training.run import train

    return list(train(job, lambda _: Scores((Likeness("sface", 0.5),)), resume=resume))


def kill_after(job: TrainingJob, step: int) -> None:
    """Begins a training; after that step nothing that it does reaches the disk, as when it is killed."""
    from sosie.training.run import train

    run = train(job)
    assert any(isinstance(event, Stepped) and event.step == step for event in run)
    with stopped_before(1), contextlib.suppress(KilledError):
        run.close()


def losses(events: list[Event]) -> list[tuple[int, float]]:
    return [(event.step, event.loss) for event in events if isinstance(event, Stepped)]


@local
@pytest.mark.usefixtures("tiny")
def test_a_run_writes_alpha_validates_at_fixed_levels_and_goes_on_bit_for_bit_after_a_kill(tmp_path: Path) -> None:
    from sosie.families import families
    from sosie.lora import read_lora

    (tmp_path / "whole").mkdir()
    whole = job_in(tmp_path / "whole")
    events = events_of(whole)
    lora = read_lora(whole.output, families())
    assert (lora.family, lora.scales, lora.alpha_source, len(lora.adapters)) == ("zimage", (0.5,), "key", 16)
    first, last = (event for event in events if isinstance(event, Validated))
    assert (first.step, last.step, first.levels) == (0, 4, (0.2, 0.4, 0.6, 0.8))
    assert len(first.learned) == len(first.held) == 4
    assert set(last.means) == {"learned", "held"}
    assert last.learned != first.learned
    lines = [json.loads(line) for line in (whole.folder / "log.jsonl").read_text().splitlines()]
    told = [line["learned"] for line in lines if line["event"] == "validated"]
    assert told == [list(first.learned), list(last.learned)]
    assert [event.samples[0].image.size for event in events if isinstance(event, Sampled)] == [(64, 64)] * 2

    (tmp_path / "killed").mkdir()
    killed = job_in(tmp_path / "killed")
    kill_after(killed, 3)
    rest = events_of(killed, resume=True)
    assert losses(rest) == losses(events)[2:]
    assert killed.output.read_bytes() == whole.output.read_bytes()
    assert isinstance(rest[-1], Ended)


@local
@pytest.mark.usefixtures("tiny")
def test_weights_in_8_bits_layers_twice_and_no_captions_train_as_well(tmp_path: Path) -> None:
    plain = losses(events_of(job_in(tmp_path, steps=2, caption_dropout=0.0)))
    for name, changes in {"twice": {"gradient_checkpointing": True}, "stored": {"base_storage": "fp8"}}.items():
        other = replace(job_in(tmp_path, steps=2, caption_dropout=0.0, **changes), folder=tmp_path / name)
        found = losses(events_of(other))
        assert (found == plain) == (name == "twice")
        assert [loss for _, loss in found] == pytest.approx([loss for _, loss in plain], rel=0.1)
    silent = replace(job_in(tmp_path, steps=2, caption_dropout=1.0), folder=tmp_path / "silent")
    assert losses(events_of(silent)) != plain


@local
def test_a_picture_is_read_without_its_caption_as_often_as_asked(base: Any) -> None:
    import torch

    from sosie.training.loop import Trainer
    from sosie.training.prepare import Item, Material

    nothing = {"states": torch.zeros(3, 16)}
    item = Item("a", {"states": torch.ones(9, 16)}, 1.0, "mira", ragged=base.ragged)
    trainer = Trainer.__new__(Trainer)
    trainer._job = SimpleNamespace(training=SMALL)  # pyright: ignore[reportAttributeAccessIssue]
    trainer._material = Material((item,), (), (), (), nothing)
    read = [len(trainer._as_read(item, step, place).tensors["states"]) for step in range(500) for place in (0, 1)]
    assert set(read) == {3, 9}
    assert read.count(3) == pytest.approx(250, abs=50)


@local
@pytest.mark.parametrize("stored", ["precision", "fp8"])
def test_an_assistant_acts_while_it_is_trained_and_not_in_samples(
    parts: Callable[..., Any], tmp_path: Path, stored: str
) -> None:
    import torch
    from safetensors.torch import save_file

    from sosie.core.errors import BadModelError
    from sosie.families.zimage.training import STORED
    from sosie.training.assistant import Assistant
    from sosie.training.storage import store_in_8_bits

    model = parts().transformer.requires_grad_(False)
    name = "layers.1.attention.to_k"
    down, up = torch.randn(2, 64), torch.randn(64, 2)
    tensors = {f"diffusion_model.{name}.lora_A.weight": down, f"diffusion_model.{name}.lora_B.weight": up}
    save_file({**tensors, f"diffusion_model.{name}.alpha": torch.tensor(1.0)}, tmp_path / "assistant.safetensors")
    before = model.get_submodule(name).weight.clone()
    assistant = Assistant(model, tmp_path / "assistant.safetensors", "zimage")
    torch.testing.assert_close(model.get_submodule(name).weight, before + 0.5 * up @ down)
    if stored == "fp8":
        assert store_in_8_bits(model, STORED) == 4 * 7  # modulation and what is around the layers stays
    assistant.settle()

    def weight() -> torch.Tensor:
        layer = model.get_submodule(name)
        return layer.weight.float() * layer.scale if stored == "fp8" else layer.weight.clone()

    acting = weight()
    with assistant.absent():
        torch.testing.assert_close(weight(), before, rtol=0.07, atol=1e-3 if stored == "fp8" else 0.0)
        assert stored == "fp8" or torch.equal(weight(), before)
    assert torch.equal(weight(), acting)
    save_file({k.replace("layers.1", "layers.7"): t for k, t in tensors.items()}, tmp_path / "other.safetensors")
    with pytest.raises(BadModelError, match=r"layers\.7\.attention\.to_k, which the model does not have"):
        Assistant(model, tmp_path / "other.safetensors", "zimage")


@local
def test_timesteps_have_their_names_and_weights() -> None:
    import torch

    from sosie.training.timesteps import draw_timesteps, weigh_timesteps

    def drawn(**changes: Any) -> Any:
        return draw_timesteps(replace(Training(), **changes), torch.Generator().manual_seed(3), 4000, 1000)

    assert torch.equal(drawn(timesteps="sigmoid"), drawn(timesteps="logit-normal"))
    assert torch.equal(drawn(timesteps="weighted"), drawn())
    mode = drawn(timesteps="mode")
    assert 0 < float(mode.min()) < float(mode.max()) < 1
    assert float(drawn(timesteps="logit-normal").std()) < float(mode.std()) < float(drawn().std())
    even = torch.linspace(0, 1, 4001)
    weights = weigh_timesteps(replace(Training(), timesteps="weighted"), even)
    assert float(weights.mean()) == pytest.approx(1.0, abs=1e-3)
    assert float(weights[2000]) == pytest.approx(1.58, abs=0.01)
    assert float(weights[0]) == pytest.approx(0.0, abs=1e-6)
    assert bool((weigh_timesteps(Training(), even) == 1).all())


def test_errors_at_fixed_levels_stand_in_the_report_beside_the_judges(tmp_path: Path) -> None:
    from sosie.loop.training_record import _flat
    from sosie.reports.training import SamplesAt, TrainingReport, training_page

    tables = [{"identity": {"sface": 0.5}, "likeness": 0.5, "error": {"learned": e, "held": 0.4}} for e in (0.3, 0.2)]
    scores = [_flat(table) for table in tables]
    assert scores[0] == {"identity sface": 0.5, "error learned": 0.3, "error held": 0.4}
    samples = tuple(SamplesAt(step, (), at) for step, at in zip((0, 100), scores, strict=True))
    page = training_page(TrainingReport("t", "l", (), samples, (), (), ()))
    assert "error at fixed noise levels" in page
