"""Training a LoRA: the loss, the cache, the guards, resuming, the choice of a checkpoint, and the delivered file."""

from __future__ import annotations

import importlib.util
import json
import os
import random
import shutil
import signal
import stat
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from places import ROOT

from sosie.core import Finding
from sosie.core.errors import BadImageError, CheckFailedError, ConfigError, UsageError
from sosie.core.ranges import out_of_range
from sosie.core.recipe import Recipe, Sampler, Training
from sosie.dataset.dataset import TrainingImage, dataset_digest, read_folder
from sosie.files.toml import load_toml
from sosie.training.asked.wishes import wish_for
from sosie.training.checks import check_job
from sosie.training.choice import best, over_trained
from sosie.training.events import Ended, Event, Judged, Likeness, RolledBack, Sampled, Saved, Scores, Stepped
from sosie.training.job import BaseModel, Samples, TrainingJob
from sosie.training.optimise import learning_rate
from sosie.training.order import BatchOrder, Entry
from sosie.training.pictures import bucket_of, load_picture
from sosie.workspace.recipes import read_recipe

RECIPES = ROOT / "recipes"
SMALL = Training(
    steps=6,
    batch=2,
    rank=2,
    alpha=4.0,
    learning_rate=1e-3,
    ema=0.9,
    resolution=64,
    save_every=2,
    sample_every=3,
    keep=2,
)


# The rules: no torch is needed.


def scores(likeness: float | None, copy: float = 0.0, adherence: float = 0.8) -> Scores:
    return Scores(() if likeness is None else (Likeness("sface", likeness),), copy, adherence, 1.0)


def curve(*points: Scores) -> tuple[Judged, ...]:
    return tuple(Judged(100 * place, point) for place, point in enumerate(points))


def chosen(*points: Scores) -> int | None:
    judged = best(curve(*points))
    return None if judged is None else judged.step


def test_the_best_checkpoint_has_the_greatest_likeness_and_of_equals_the_earliest() -> None:
    assert chosen(scores(0.5), scores(0.6), scores(0.7), scores(0.65)) == 200
    assert chosen(scores(0.5), scores(0.699), scores(0.7)) == 100


def test_a_checkpoint_that_no_longer_follows_prompts_is_not_the_best() -> None:
    assert chosen(scores(0.5), scores(0.6), scores(0.8, adherence=0.5)) == 100
    assert chosen(scores(0.5), scores(0.8, adherence=0.5)) == 100  # none held them: then of all


def test_what_was_there_before_training_and_what_nobody_measured_is_never_chosen() -> None:
    assert chosen(scores(0.9), scores(0.6)) == 100
    assert chosen(scores(0.5), scores(None), scores(0.6)) == 200
    assert chosen(scores(0.5), scores(None)) is None
    assert chosen() is None


def test_a_run_is_over_trained_when_identity_is_flat_copies_grow_and_prompts_are_disregarded() -> None:
    rise = [scores(0.5), scores(0.6), scores(0.7)]
    worse = [scores(0.69, 0.1, 0.7), scores(0.702, 0.2, 0.6)]
    assert over_trained(curve(*rise, *worse), 2)
    assert not over_trained(curve(*rise, *worse), 3)
    assert not over_trained(curve(*rise, *worse), 5)


@pytest.mark.parametrize(
    "last",
    [scores(0.75, 0.2, 0.6), scores(0.69, 0.0, 0.6), scores(0.69, 0.2, 0.8), scores(None, 0.2, 0.6)],
    ids=["identity rises", "no copies", "prompts followed", "no face"],
)
def test_a_run_of_which_one_of_the_three_is_not_true_goes_on(last: Scores) -> None:
    assert not over_trained(curve(scores(0.5), scores(0.7), scores(0.69, 0.2, 0.6), last), 2)


def test_the_learning_rate_rises_over_the_warm_up_and_follows_its_schedule() -> None:
    training = replace(SMALL, steps=110, warmup=10, schedule="linear")
    rates = [learning_rate(training, step) for step in range(110)]
    assert rates[0] == pytest.approx(1e-4)
    assert rates[9] == rates[10] == pytest.approx(1e-3)
    assert rates[60] == pytest.approx(5e-4)
    cosine = [learning_rate(replace(training, schedule="cosine"), step) for step in range(110)]
    assert cosine[35] == pytest.approx(1e-3 * (1 + np.cos(np.pi / 4)) / 2)
    assert cosine[-1] < 1e-6
    assert learning_rate(replace(training, schedule="constant"), 109) == 1e-3


@pytest.mark.local
def test_timesteps_are_drawn_by_their_weighting_and_moved_by_their_shift() -> None:
    import torch

    from sosie.training.timesteps import draw_timesteps

    def drawn(**changes: Any) -> Any:
        return draw_timesteps(replace(Training(), **changes), torch.Generator().manual_seed(3), 4000, 1000)

    even, middle = drawn(), drawn(timesteps="logit-normal")
    for found in (even, middle):
        assert 0 < float(found.min()) < float(found.max()) < 1
    assert float(even.mean()) == pytest.approx(0.5, abs=0.02)
    assert float(even.std()) == pytest.approx(12**-0.5, abs=0.01)
    assert float(middle.std()) == pytest.approx(0.208, abs=0.01)  # of sigmoid(n): its variance is 0.0433
    shifted = drawn(timestep_shift=3.0)
    torch.testing.assert_close(shifted, 3 * even / (1 + 2 * even))
    assert float((drawn(timestep_shift=0.3) < even).float().mean()) == 1.0
    times = (even * 1000).long()
    wanted = torch.randint(0, 1000, (4000,), generator=torch.Generator().manual_seed(3))
    assert torch.equal(times, wanted), "evenly, without a shift, every level alike"


def test_every_character_is_seen_equally_often_and_batches_have_one_shape() -> None:
    entries = [Entry(i, "square", "mira") for i in range(6)]
    entries += [Entry(6 + i, "tall", "otto") for i in range(2)]
    entries += [Entry(8 + i, "square", None) for i in range(20)]
    order = BatchOrder(entries, 2, seed=1)
    batches = [order.batch(step) for step in range(12)]  # one epoch: 6 + 3 x 2 own, as many others
    own = [index for batch in batches for index in batch if index < 8]
    assert sorted(own) == [0, 1, 2, 3, 4, 5, 6, 6, 6, 7, 7, 7]
    assert sum(index >= 8 for batch in batches for index in batch) == 12
    shapes = [{entries[index].shape for index in batch} for batch in batches]
    assert all(len(shape) == 1 for shape in shapes)


def test_a_step_takes_one_of_a_pictures_captions_and_batches_have_one_shape() -> None:
    entries = [Entry(0, "short", "mira", ((1, "long"), (2, "short"))), *(Entry(n, "long", "mira") for n in range(3, 6))]
    order = BatchOrder(entries, 2, seed=1)
    shapes = {0: "short", 1: "long", 2: "short", 3: "long", 4: "long", 5: "long"}
    seen: Counter[int] = Counter()
    for step in range(300):
        batch = order.batch(step)
        assert len({shapes[index] for index in batch}) == 1
        seen.update(batch)
    assert all(seen[index] > 30 for index in (0, 1, 2))
    assert abs(sum(seen[index] for index in (0, 1, 2)) - seen[3]) <= 1
    again = BatchOrder(entries, 2, seed=1)
    assert [again.batch(step) for step in range(40, 60)] == [order.batch(step) for step in range(40, 60)]


def test_repeats_count_beside_each_other_and_not_if_all_have_them() -> None:
    order = BatchOrder([Entry(0, "s", "mira", (), 10), Entry(1, "s", "mira", (), 5)], 1, seed=1)
    seen = Counter(index for step in range(30) for index in order.batch(step))
    assert seen == {0: 20, 1: 10}
    alike = BatchOrder([Entry(0, "s", "mira", (), 7), Entry(1, "s", "mira", (), 7)], 1, seed=1)
    assert alike.batch(0) != alike.batch(1)


def test_the_order_is_that_of_the_seed_wherever_a_run_begins() -> None:
    entries = [Entry(i, "square", "mira") for i in range(7)]
    first = [BatchOrder(entries, 3, seed=5).batch(step) for step in range(30)]
    whole = BatchOrder(entries, 3, seed=5)
    assert [whole.batch(step) for step in reversed(range(30))] == first[::-1]
    assert [BatchOrder(entries, 3, seed=6).batch(step) for step in range(30)] != first


def picture(path: Path, size: tuple[int, int], seed: int = 0) -> Path:
    from PIL import Image

    noise = np.random.default_rng(seed).integers(0, 255, (size[1] // 8 + 1, size[0] // 8 + 1, 3), dtype=np.uint8)
    Image.fromarray(noise).resize(size).save(path)
    return path


def face(x: float, y: float, width: float) -> Any:
    from sosie.faces.detect import Face

    template = np.array([[0.3, 0.4], [0.7, 0.4], [0.5, 0.6], [0.35, 0.8], [0.65, 0.8]])
    points = (np.array([x, y]) + template * [width, 1.3 * width]).astype(np.float32)
    return Face((x, y, width, 1.3 * width), points, 0.9)


def test_a_picture_is_cut_to_its_bucket_around_the_face(tmp_path: Path) -> None:
    wide = picture(tmp_path / "wide.png", (400, 100))
    assert bucket_of((400, 100), 64) == (96, 32)
    middle = load_picture(TrainingImage(wide, ""), 64)
    assert middle.pixels.shape == (32, 96, 3)
    assert middle.mask is None
    assert middle.original == (128, 32)
    assert middle.crop == (16, 0)
    left = load_picture(TrainingImage(wide, "", face=face(2, 10, 50)), 64)
    assert left.crop == (0, 0)
    assert left.mask is not None
    assert left.mask[12, 8] == 1  # the middle of the face, at 0.32 of its size
    assert left.mask[:, 40:].max() == 0
    right = load_picture(TrainingImage(wide, "", face=face(340, 10, 50)), 64)
    assert right.crop == (29, 0)
    assert right.mask is not None
    assert right.mask[12, 88] == 1
    assert right.mask[:, :60].max() == 0


def test_a_small_picture_says_what_it_was_enlarged_from_and_one_pixel_is_refused(tmp_path: Path) -> None:
    small = load_picture(TrainingImage(picture(tmp_path / "small.png", (32, 32)), ""), 64)
    assert small.original == (32, 32)
    with pytest.raises(BadImageError, match="1 x 1 px and would be enlarged 64 times"):
        load_picture(TrainingImage(picture(tmp_path / "dot.png", (1, 1)), ""), 64)


def test_a_folder_is_read_with_captions_and_the_trigger_is_in_every_text(tmp_path: Path) -> None:
    for name in ("a.png", "b.png", "c.png"):
        picture(tmp_path / name, (64, 64))
    (tmp_path / "a.txt").write_text("smiling, mirasks in a forest")
    (tmp_path / "captions.jsonl").write_text('{"file": "b.png", "caption": "at the beach"}\n')
    images = read_folder(tmp_path, "mirasks", "mira")
    assert [image.text for image in images] == ["smiling, mirasks in a forest", "mirasks, at the beach", "mirasks"]
    assert not any(image.regularisation for image in images)
    assert all(image.regularisation for image in read_folder(tmp_path, ""))
    changed = (replace(images[0], caption="other"), *images[1:])
    assert dataset_digest(changed) != dataset_digest(images) == dataset_digest(read_folder(tmp_path, "mirasks", "mira"))


@pytest.mark.parametrize(
    "change",
    [
        {"batch": 0},
        {"rank": 0},
        {"alpha": 0.0},
        {"learning_rate": 0.0},
        {"warmup": 6},
        {"ema": 1.0},
        {"clip": 0.0},
        {"min_snr": -1.0},
        {"face_weight": 0.5},
        {"resolution": 100},
        {"steps": 0},
        {"save_every": 0},
        {"sample_every": 0},
        {"keep": 0},
        {"patience": 1},
        {"seed": -1},
        {"regularisation": -1.0},
        {"weight_decay": 1.0},
    ],
    ids=lambda change: next(iter(change)),
)
def test_a_value_out_of_its_range_is_named(change: dict[str, Any]) -> None:
    wrong = list(out_of_range(replace(SMALL, **change), "training"))
    assert any(f"training.{next(iter(change))} " in complaint for complaint in wrong)


@pytest.mark.parametrize("name", ["mini", "mini-z", "sdxl-instantid", "zimage", "zimage-turbo"])
def test_the_shipped_presets_are_in_range_and_in_no_precision_that_fails(name: str) -> None:
    from sosie.dataset.check import check_precision

    recipe = read_recipe(RECIPES / f"{name}.toml")
    assert recipe.training is not None
    assert not list(out_of_range(recipe.training, "training"))
    assert check_precision(recipe.stages[0].family, recipe.training.precision) == []


def test_training_is_strict_toml(tmp_path: Path) -> None:
    text = (RECIPES / "mini.toml").read_text()
    (tmp_path / "mini.toml").write_text(text.replace("learning_rate =", "learningrate ="))
    with pytest.raises(ConfigError, match=r"unknown key 'learningrate' in \[training\]; did you mean 'learning_rate'"):
        load_toml(Recipe, tmp_path / "mini.toml")


# The trainer, on SDXL in very small with random weights.


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """As children of a fork must have it, and results depend on it."""
    torch = pytest.importorskip("torch") if importlib.util.find_spec("torch") else None
    if torch is None:
        yield
        return
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A diffusers folder: the tests' UNet and VAE, mini's text encoders."""
    import sosie_mini
    import tiny_sdxl

    folder, mini = tmp_path_factory.mktemp("models") / "tiny", Path(sosie_mini.folder())
    sizes = {"cross_attention_dim": 256, "projection_class_embeddings_input_dim": 6 * 8 + 128}
    layers = {"layers_per_block": 1, "transformer_layers_per_block": (1, 1, 1), "block_out_channels": (8, 16, 16)}
    unet = tiny_sdxl.unet(**layers, **sizes)
    unet.save_pretrained(folder / "unet")
    tiny_sdxl.vae().save_pretrained(folder / "vae")
    tiny_sdxl.scheduler().save_pretrained(folder / "scheduler")
    for name in ("text_encoder", "text_encoder_2", "tokenizer", "tokenizer_2"):
        shutil.copytree(mini / name, folder / name)
    shutil.copy(mini / "model_index.json", folder)
    return folder


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> tuple[TrainingImage, ...]:
    folder = tmp_path_factory.mktemp("images")
    made = [
        TrainingImage(
            picture(folder / f"{n}.png", (64, 64), n), f"sha-{n}", f"caption {n}", "mirasks", face(16, 12, 28), "mira"
        )
        for n in range(4)
    ]
    return tuple(made)


def job_in(folder: Path, tiny: Path, images: tuple[TrainingImage, ...]) -> TrainingJob:
    base = BaseModel("sdxl", "tiny", tiny, "ab" * 32)
    cache = tiny.parent / "cache"
    return TrainingJob(base, SMALL, images, folder / "run", folder / "mira.safetensors", cache, device="cpu")


@pytest.fixture
def job(tmp_path: Path, tiny: Path, images: tuple[TrainingImage, ...]) -> TrainingJob:
    return job_in(tmp_path, tiny, images)


@dataclass(frozen=True)
class Whole:
    """The losses of an undisturbed run, and what it delivered."""

    losses: list[tuple[int, float, float]]
    path: Path


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, tiny: Path, images: tuple[TrainingImage, ...]) -> Whole:
    job = job_in(tmp_path_factory.mktemp("whole"), tiny, images)
    return Whole(losses(run(job)), job.output)


def changed(job: TrainingJob, **changes: Any) -> TrainingJob:
    return replace(job, training=replace(job.training, **changes))


def sampling(job: TrainingJob) -> TrainingJob:
    return replace(job, samples=Samples(("mirasks, smiling",), 64, 64, Sampler(steps=2, cfg=2.0)))


def run(job: TrainingJob, judge: Any = None, *, resume: bool = False) -> list[Event]:
    from sosie.training.run import train

    return list(train(job, judge, resume=resume))


def losses(events: Sequence[Event]) -> list[tuple[int, float, float]]:
    return [(event.step, event.loss, event.gradient) for event in events if isinstance(event, Stepped)]


def codes(events: Sequence[Event]) -> list[str]:
    return [event.code for event in events if isinstance(event, Finding)]


def ended(events: Sequence[Event]) -> Ended:
    assert isinstance(events[-1], Ended)
    return events[-1]


def opened(tiny: Path, training: Training = SMALL) -> Any:
    from sosie.families.contract.trains import BaseFiles
    from sosie.families.sdxl.training import open_base

    return open_base(BaseFiles(tiny), training, "cpu")


def batch_of(base: Any, count: int = 3) -> dict[str, Any]:
    import torch

    pixels = np.random.default_rng(1).integers(0, 255, (count, 64, 64, 3), dtype=np.uint8)
    items = [{**base.encode_picture(p, (64, 64), (0, 0)), **base.encode_text("mirasks, smiling")} for p in pixels]
    return {name: torch.stack([item[name] for item in items]) for name in items[0]}


@pytest.mark.local
@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
@pytest.mark.parametrize("gamma", [0.0, 5.0])
def test_the_loss_is_that_of_diffusers_own_formulas(tiny: Path, tmp_path: Path, prediction: str, gamma: float) -> None:
    import torch
    from diffusers import DDPMScheduler
    from diffusers.training_utils import compute_snr

    from sosie.training.timesteps import draw_timesteps

    shutil.copytree(tiny, tmp_path / "tiny")
    config = tmp_path / "tiny" / "scheduler" / "scheduler_config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), "prediction_type": prediction}))
    base = opened(tmp_path / "tiny", replace(SMALL, min_snr=gamma))
    batch = batch_of(base)
    drawing = torch.Generator().manual_seed(7)
    errors, weights = base.unreduced_loss(base.add_noise(batch, drawing, partial(draw_timesteps, SMALL, drawing)))

    generator = torch.Generator().manual_seed(7)
    spread, noise = (torch.randn(batch["mean"].shape, generator=generator) for _ in range(2))
    times = torch.randint(0, 1000, (3,), generator=generator)
    scheduler = DDPMScheduler.from_pretrained(tmp_path / "tiny" / "scheduler")
    clean = batch["mean"] + batch["std"] * spread
    with torch.no_grad():
        predicted = base.denoiser(
            scheduler.add_noise(clean, noise, times),
            times,
            batch["states"],
            added_cond_kwargs={"text_embeds": batch["pooled"], "time_ids": batch["sizes"]},
        ).sample
    is_noise = prediction == "epsilon"
    target = noise if is_noise else scheduler.get_velocity(clean, noise, times)
    torch.testing.assert_close(errors, (predicted - target) ** 2, rtol=1e-4, atol=1e-5)
    snr = compute_snr(scheduler, times)
    expected = torch.minimum(snr, torch.full_like(snr, gamma)) / (snr if is_noise else snr + 1)
    torch.testing.assert_close(weights, expected if gamma else torch.ones(3), rtol=1e-4, atol=1e-6)


@pytest.mark.local
def test_the_sizes_of_a_picture_are_told_as_diffusers_tells_them(tiny: Path) -> None:
    import torch

    base = opened(tiny)
    sizes = base.encode_picture(np.zeros((32, 96, 3), np.uint8), (200, 100), (5, 7))["sizes"]
    # Height before width, top before left: StableDiffusionXLPipeline._get_add_time_ids.
    assert (
        sizes.tolist() == base._pipeline._get_add_time_ids((100, 200), (7, 5), (32, 96), torch.float32, 128)[0].tolist()
    )


@pytest.mark.local
def test_pixels_of_the_face_count_more_and_its_size_does_not_change_the_scale(job: TrainingJob) -> None:
    import torch

    from sosie.training.loop import weighted_loss
    from sosie.training.prepare import FACE, Item, counts

    mask = torch.zeros(4, 4)
    mask[1:3, 1:3] = 1.0
    items = [Item("a", {FACE: mask}, 1.0, "mira"), Item("b", {FACE: torch.zeros(4, 4)}, 0.5, None)]
    errors = torch.ones(2, 1, 4, 4)
    errors[0, 0, 1:3, 1:3] = 3.0
    weights = torch.tensor([2.0, 1.0])
    first = (12 * 1.0 + 4 * 5 * 3.0) / (12 + 4 * 5)  # weight 5 in the face
    assert float(weighted_loss(errors, weights, counts(items), 5.0)) == pytest.approx((first * 2 + 1 * 0.5) / 2)
    plain = float(weighted_loss(errors, torch.ones(2), counts([items[0], items[0]]), 1.0))
    assert plain == pytest.approx(float(errors.mean()))


@pytest.mark.local
def test_what_is_cached_is_what_the_encoders_give_and_a_damaged_file_is_made_again(
    job: TrainingJob, tiny: Path, tmp_path: Path
) -> None:
    import torch

    from sosie.training.prepare import FACE, prepare

    job = replace(job, cache=tmp_path / "cache")

    def filled(job: TrainingJob) -> Any:
        base, material = opened(tiny), None
        walk = prepare(job, base)
        try:
            while True:
                next(walk)
        except StopIteration as stop:
            material = stop.value
        return base, material

    base, first = filled(job)
    image = job.images[2]
    seen = load_picture(image, 64)
    direct = {**base.encode_picture(seen.pixels, seen.original, seen.crop), **base.encode_text(image.text)}
    tensors = first.items[2].tensors
    assert all(torch.equal(tensors[name], direct[name]) for name in direct)
    assert tensors[FACE].shape == tensors["mean"].shape[1:]
    assert float(tensors[FACE].max()) == pytest.approx(1.0, abs=1e-3)
    other = replace(job, images=(replace(image, face=face(40, 12, 20)),))
    assert not torch.equal(filled(other)[1].items[0].tensors[FACE], tensors[FACE])

    for path in job.cache.iterdir():
        path.write_bytes(path.read_bytes()[:-7])
    _, second = filled(job)
    assert [finding.code for finding in second.findings] == ["SOS-U023"] * 8  # four pictures, four texts
    assert all(
        torch.equal(a.tensors[name], b.tensors[name])
        for a, b in zip(first.items, second.items, strict=True)
        for name in a.tensors
    )


@pytest.mark.local
def test_each_caption_of_a_picture_is_encoded_once_and_the_picture_itself_once(
    job: TrainingJob, tiny: Path, tmp_path: Path
) -> None:
    import torch

    from sosie.training.prepare import prepare

    image = replace(job.images[0], alternatives=("in a red coat", "in a hat (green)"), repeats=3)
    job = replace(job, images=(image, job.images[1]), cache=tmp_path / "cache")
    base = opened(tiny)
    walk = prepare(job, base)
    try:
        while True:
            next(walk)
    except StopIteration as stop:
        material = stop.value
    first, second, third, other = material.items
    assert first.tensors["mean"] is second.tensors["mean"] is third.tensors["mean"]
    direct = base.encode_text(image.texts[2])
    assert all(torch.equal(third.tensors[name], tensor) for name, tensor in direct.items())
    assert [(entry.index, [place for place, _ in entry.others], entry.repeats) for entry in material.entries] == [
        (0, [1, 2], 3),
        (3, [], 1),
    ]
    assert other.name == job.images[1].path.name
    assert "\\(green\\)" in image.texts[2]


@pytest.mark.local
def test_the_cache_is_used_again_and_gives_the_same_losses(
    job: TrainingJob, whole: Whole, monkeypatch: pytest.MonkeyPatch
) -> None:
    from sosie.families.sdxl import training as sdxl

    def encoded_again(*_: object) -> None:
        raise AssertionError

    monkeypatch.setattr(sdxl.SdxlBase, "encode_picture", encoded_again)
    monkeypatch.setattr(sdxl.SdxlBase, "encode_text", encoded_again)
    assert losses(run(job)) == whole.losses


@pytest.mark.local
def test_training_lowers_the_loss_of_what_it_sees(job: TrainingJob) -> None:
    job = changed(job, steps=24, batch=4, learning_rate=2e-2, min_snr=0.0, save_every=40, sample_every=40, rank=8)
    values = [loss for _, loss, _ in losses(run(job))]
    assert np.mean(values[-8:]) < 0.97 * np.mean(values[:8])


@pytest.mark.local
def test_the_average_follows_the_weights_and_is_what_a_checkpoint_holds(job: TrainingJob) -> None:
    import torch
    from safetensors.torch import load_file

    from sosie.training import state

    job = changed(job, ema=0.9, steps=5, save_every=1, sample_every=1, keep=9)
    seen: list[tuple[list[Any], list[Any]]] = []
    from sosie.training.run import train

    for event in train(job):
        if isinstance(event, Saved) and event.kind == "state":
            kept = state.load(event.path)
            seen.append((kept.weights, kept.average))
    average = seen[0][0]
    for step, (weights, stored) in enumerate(seen[1:]):
        decay = min(0.9, (1 + step) / (10 + step))
        average = [decay * a + (1 - decay) * w for a, w in zip(average, weights, strict=True)]
        for mine, theirs in zip(average, stored, strict=True):
            torch.testing.assert_close(mine, theirs, rtol=1e-5, atol=1e-7)
    file = load_file(job.folder / "checkpoints" / "step-0000005.safetensors")
    down = next(tensor for name, tensor in file.items() if name.endswith("lora_down.weight"))
    assert torch.equal(down, seen[-1][1][0])
    assert not torch.equal(down, seen[-1][0][0])


def killed(job: TrainingJob, when: Callable[[Event], bool], prepare: Callable[[], None] = lambda: None) -> None:
    """Runs a job in a child that kills itself with signal 9 after the event."""
    child = os.fork()
    if child == 0:
        try:
            from sosie.training.run import train

            prepare()
            for event in train(job):
                if when(event):
                    os.kill(os.getpid(), signal.SIGKILL)
        finally:
            os._exit(1)
    _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status)
    assert os.WTERMSIG(status) == signal.SIGKILL


@pytest.mark.local
@pytest.mark.parametrize("moment", ["between two saves", "in the middle of a save"])
def test_a_killed_run_goes_on_to_the_same_losses_bit_for_bit(job: TrainingJob, whole: Whole, moment: str) -> None:
    from safetensors.torch import load_file

    if moment == "between two saves":
        killed(job, lambda event: isinstance(event, Stepped) and event.step == 5)
    else:

        def die_while_writing() -> None:
            def half(path: int) -> None:
                if step[0] >= 4:
                    os.ftruncate(path, 1000)
                    os.kill(os.getpid(), signal.SIGKILL)

            os.fsync = half

        step = [0]
        killed(job, lambda event: step.__setitem__(0, getattr(event, "step", 0)) or False, die_while_writing)
        assert list(job.folder.glob(".*.part"))
    rest = run(job, resume=True)
    assert ("SOS-U022" in codes(rest)) == (moment != "between two saves")
    assert not list(job.folder.rglob("*.part"))
    first = losses(rest)[0][0]
    assert first == (5 if moment == "between two saves" else 4)
    assert losses(rest) == [entry for entry in whole.losses if entry[0] >= first]
    ours, theirs = load_file(job.output), load_file(whole.path)
    assert all((ours[name] == theirs[name]).all() for name in theirs)
    lines = [json.loads(line) for line in (job.folder / "log.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines if line["event"] == "stepped"] == [1, 2, 3, 4, 5, 6]


def killed_before(job: TrainingJob, moment: int) -> bool:
    """Begins a job, or goes on with it, in a child that kills itself before its change number `moment` of the disk."""
    child = os.fork()
    if child == 0:
        from sosie.training.run import train

        left = [moment]

        def counted(function: Callable[..., Any]) -> Callable[..., Any]:
            def call(*args: Any, **more: Any) -> Any:
                left[0] -= 1
                if not left[0]:
                    os.kill(os.getpid(), signal.SIGKILL)
                return function(*args, **more)

            return call

        for name in ("replace", "fsync", "unlink", "mkdir"):
            setattr(os, name, counted(getattr(os, name)))
        try:
            list(train(job, resume=(job.folder / "state.safetensors").exists()))
        finally:
            os._exit(1)
    return os.WIFSIGNALED(os.waitpid(child, 0)[1])


@pytest.mark.local
@pytest.mark.once
def test_a_run_that_is_killed_at_twenty_moments_ends_in_the_same_bytes(job: TrainingJob, whole: Whole) -> None:
    moments = random.Random(7)
    for _ in range(20):
        killed_before(job, moments.randint(1, 16))
        assert not job.output.exists() or job.output.read_bytes() == whole.path.read_bytes()
    assert ended(run(job, resume=(job.folder / "state.safetensors").exists())).cause == "finished"
    assert job.output.read_bytes() == whole.path.read_bytes()
    assert not list(job.folder.rglob("*.part"))
    lines = [json.loads(line) for line in (job.folder / "log.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines if line["event"] == "stepped"] == [1, 2, 3, 4, 5, 6]


@pytest.mark.local
def test_after_ctrl_c_the_state_is_saved_and_the_run_goes_on_from_the_same_step(job: TrainingJob, whole: Whole) -> None:
    from sosie.training.run import train

    handler = signal.getsignal(signal.SIGINT)
    before: list[Event] = []
    for event in train(job):
        before.append(event)
        if isinstance(event, Stepped) and event.step == 5:
            os.kill(os.getpid(), signal.SIGINT)
    assert ended(before).cause == "interrupted"
    assert ended(before).path is None
    assert signal.getsignal(signal.SIGINT) is handler
    rest = run(job, resume=True)
    assert losses(before) + losses(rest) == whole.losses
    assert len(losses(before)) == 5
    assert ended(rest).cause == "finished"


def asked_at(job: TrainingJob, step: int, wish: Any, judge: Any = None) -> list[Event]:
    """The events of a run of which somebody asks something after a step."""
    from sosie.training.run import train

    events: list[Event] = []
    for event in train(job, judge):
        events.append(event)
        if isinstance(event, Stepped) and event.step == step:
            wish_for(job.folder, wish)
            wish_for(job.folder, wish)
    return events


@pytest.mark.local
def test_samples_that_are_asked_for_come_once_after_the_step_and_change_nothing(job: TrainingJob) -> None:
    """Seen to fail with the samples as a point of the curve: the checkpoint of step 2 is not there."""
    job = sampling(changed(job, sample_every=3))
    plain = run(
        replace(job, folder=job.folder / "plain", output=job.folder / "plain.safetensors"), lambda _: scores(0.4)
    )
    events = asked_at(job, 2, "sample", lambda _: scores(0.9))
    drawn = [(event.step, event.aside) for event in events if isinstance(event, Sampled)]
    assert drawn == [(0, False), (2, True), (3, False), (6, False)]
    assert losses(events) == losses(plain)
    assert [judged.step for judged in ended(events).judged] == [0, 3, 6]
    lines = [json.loads(line) for line in (job.folder / "log.jsonl").read_text().splitlines()]
    at = next(place for place, line in enumerate(lines) if line["event"] == "wished")
    assert lines[at] == {"event": "wished", "step": 2, "wish": "sample"}
    assert (lines[at + 1]["event"], lines[at + 1]["aside"]) == ("sampled", True)


@pytest.mark.local
def test_a_run_that_is_asked_to_deliver_ends_after_the_step_with_the_best_so_far_and_can_go_on(
    job: TrainingJob, whole: Whole
) -> None:
    events = asked_at(job, 4, "deliver")
    assert (ended(events).cause, ended(events).step, ended(events).best) == ("asked", 4, 4)
    assert job.output.is_file()
    assert losses(events) + losses(run(job, resume=True)) == whole.losses


@pytest.mark.local
def test_a_run_is_neither_overwritten_nor_resumed_as_another_one(job: TrainingJob) -> None:
    run(changed(job, steps=2))
    with pytest.raises(UsageError, match="holds a run already"):
        run(changed(job, steps=2))
    with pytest.raises(UsageError, match="another dataset, base or other settings"):
        run(changed(job, steps=3), resume=True)


def breaking(monkeypatch: pytest.MonkeyPatch, at: int, change: Callable[[Any], Any], *, once: bool) -> None:
    """Changes the errors of the update `at` (from 1), every time or only the first time that it comes."""
    from sosie.training.loop import Trainer

    real, done = Trainer.step, [False]

    def step(self: Any) -> Any:
        if self.standing.step + 1 == at and not (once and done[0]):
            done[0] = True
            errors = self._base.unreduced_loss
            self._base.unreduced_loss = lambda given: (change(errors(given)[0]), given["weights"])
            try:
                return real(self)
            finally:
                del self._base.unreduced_loss
        return real(self)

    monkeypatch.setattr(Trainer, "step", step)


@pytest.mark.local
@pytest.mark.parametrize(
    ("code", "change"),
    [
        ("SOS-U010", lambda errors: errors * float("nan")),
        ("SOS-U010", lambda errors: errors * float("inf")),
        ("SOS-U011", lambda errors: errors * 0),
    ],
    ids=["NaN", "infinity", "exactly zero"],
)
def test_a_loss_that_cannot_be_leads_back_to_the_last_state_at_half_the_rate(
    job: TrainingJob, whole: Whole, monkeypatch: pytest.MonkeyPatch, code: str, change: Callable[[Any], Any]
) -> None:
    breaking(monkeypatch, 6, change, once=True)
    events = run(job)
    assert code in codes(events)
    back = next(event for event in events if isinstance(event, RolledBack))
    assert (back.step, back.scale) == (4, 0.5)
    assert [entry[0] for entry in losses(events)] == [1, 2, 3, 4, 5, 5, 6]
    assert losses(events)[:6] == [*whole.losses[:5], whole.losses[4]]  # the same noise on the same weights
    rates = [event.learning_rate for event in events if isinstance(event, Stepped)]
    assert rates == [learning_rate(SMALL, step) for step in range(5)] + [learning_rate(SMALL, n) / 2 for n in (4, 5)]
    assert ended(events).cause == "finished"


@pytest.mark.local
def test_the_second_time_the_run_stops_names_the_batch_and_delivers_what_was_good(
    job: TrainingJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    breaking(monkeypatch, 5, lambda errors: errors * float("nan"), once=False)
    events = run(job)
    end = ended(events)
    assert end.cause == "loss"
    found = next(finding for finding in end.findings if finding.severity == "error")
    assert found.code == "SOS-U010"
    stepped = [event for event in events if isinstance(event, Stepped)]
    assert found.message.startswith("the loss of step 5 is nan; the batch was ")
    assert sum(name in found.message for name in ("0.png", "1.png", "2.png", "3.png")) == 2
    assert max(event.step for event in stepped) == 4
    assert (end.best, end.path) == (3, job.output)


@pytest.mark.local
def test_a_spike_of_the_gradient_is_not_followed(job: TrainingJob, monkeypatch: pytest.MonkeyPatch) -> None:
    from sosie.training import guards

    monkeypatch.setattr(guards, "ENOUGH", 3)
    breaking(monkeypatch, 5, lambda errors: errors * 1e4, once=True)
    events = run(job)
    assert codes(events)[0] == "SOS-U012"
    assert [entry[0] for entry in losses(events)] == [1, 2, 3, 4, 5, 6]
    assert ended(events).cause == "finished"


@pytest.mark.local
def test_before_the_disk_is_full_old_checkpoints_go_and_then_the_run_stops_with_whole_files(
    job: TrainingJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    from sosie.training import saves, state

    job = changed(job, sample_every=1, save_every=1, keep=9)
    checkpoints = job.folder / "checkpoints"

    def used() -> int:
        return sum(path.stat().st_size for path in checkpoints.glob("*"))

    size = 0
    for event in run(changed(replace(job, folder=job.folder.with_name("other")), steps=1)):
        size = event.path.stat().st_size if isinstance(event, Saved) and event.kind == "state" else size
    monkeypatch.setattr(saves, "free_bytes", lambda _: saves.RESERVE + 2 * size - used())
    events = run(job)
    assert "SOS-U021" in codes(events)
    assert ended(events).cause == "finished"
    left = sorted(path.name for path in checkpoints.iterdir())
    assert "step-0000001.safetensors" not in left
    assert "step-0000006.safetensors" in left

    shutil.rmtree(job.folder)
    monkeypatch.setattr(saves, "free_bytes", lambda _: saves.RESERVE + (0 if checkpoints.exists() else 10**9))
    events = run(job)
    end = ended(events)
    assert (end.cause, end.path) == ("disk", None)
    assert codes(events)[-1] == "SOS-U020"
    assert "shall stay free" in end.findings[0].message
    assert state.load(job.folder / "state.safetensors").standing.step in (0, 1)
    assert not list(job.folder.rglob("*.part"))


@pytest.mark.local
def test_a_disk_that_is_full_in_the_middle_of_a_save_leaves_the_save_before(
    job: TrainingJob, whole: Whole, monkeypatch: pytest.MonkeyPatch
) -> None:
    import errno

    from sosie.training import state

    real, saved = os.fsync, job.folder / "state.safetensors"

    def full(descriptor: int) -> None:
        is_file = stat.S_ISREG(os.fstat(descriptor).st_mode)
        if is_file and saved.exists() and state.load(saved).standing.step > 0:
            raise OSError(errno.ENOSPC, "No space left on device")
        real(descriptor)

    monkeypatch.setattr(os, "fsync", full)
    events = run(job)
    monkeypatch.setattr(os, "fsync", real)
    assert ended(events).cause == "disk"
    assert "No space left on device" in ended(events).findings[0].message
    assert not list(job.folder.rglob("*.part"))
    step = state.load(saved).standing.step
    assert 0 < step < job.training.steps
    rest = losses(run(job, resume=True))
    assert rest == [entry for entry in whole.losses if entry[0] > step]


class Script:
    """A judge that gives these scores one after another."""

    def __init__(self, *points: Scores) -> None:
        self.points = list(points)
        self.pictures: list[Any] = []

    def __call__(self, samples: Sequence[Any]) -> Scores:
        self.pictures.append(samples[0])
        return self.points[len(self.pictures) - 1]


@pytest.mark.local
def test_the_best_checkpoint_is_delivered_with_its_scores_and_was_not_pruned(job: TrainingJob) -> None:
    from safetensors import safe_open
    from safetensors.torch import load_file

    job = changed(sampling(job), sample_every=1, steps=5, keep=1)
    judge = Script(scores(0.5), scores(0.6), scores(0.8), scores(0.7), scores(0.7), scores(0.6))
    events = run(job, judge)
    end = ended(events)
    assert (end.best, end.path, end.cause) == (2, job.output, "finished")
    assert "SOS-U031" in codes(events)
    left = sorted(path.name for path in (job.folder / "checkpoints").iterdir())
    assert left == ["step-0000002.safetensors", "step-0000005.safetensors"]
    ours, kept = load_file(job.output), load_file(job.folder / "checkpoints" / left[0])
    assert all((ours[name] == kept[name]).all() for name in kept)
    with safe_open(job.output, "pt") as file:
        told = json.loads(file.metadata()["sosie.scores"])
    assert told["identity"] == [{"judge": "sface", "value": 0.8}]
    drawn = [event for event in events if isinstance(event, Sampled)]
    assert [event.step for event in drawn] == [0, 1, 2, 3, 4, 5]
    assert len({event.samples[0].seed for event in drawn}) == 1
    assert drawn[0].samples[0].image.size == (64, 64)


@pytest.mark.local
def test_an_over_trained_run_ends_early_and_one_that_nobody_judges_says_so(job: TrainingJob) -> None:
    job = changed(sampling(job), sample_every=1, steps=6, patience=2)
    judge = Script(scores(0.5), scores(0.8), scores(0.7, 0.3, 0.5), scores(0.7, 0.4, 0.4))
    events = run(job, judge)
    assert (ended(events).cause, ended(events).step, ended(events).best) == ("over-trained", 3, 1)
    assert {"SOS-U030", "SOS-U031"} <= set(codes(events))
    alone = run(changed(replace(job, folder=job.folder.with_name("alone")), steps=3))
    assert codes(alone) == ["SOS-U032"]
    assert ended(alone).best == 3


@pytest.mark.local
def test_sampling_does_not_change_what_is_learned(job: TrainingJob, whole: Whole) -> None:
    assert losses(run(sampling(job), Script(*[scores(0.5)] * 3))) == whole.losses


@pytest.fixture
def delivered(job: TrainingJob) -> Path:
    """A LoRA that was trained for two steps at a high rate, so that it does something."""
    run(changed(job, steps=2, learning_rate=0.05))
    return job.output


@pytest.mark.local
def test_the_delivered_file_says_what_it_is(delivered: Path, job: TrainingJob) -> None:
    from sosie.families import families
    from sosie.lora import read_lora

    lora = read_lora(delivered, families())
    assert (lora.family, lora.ranks, lora.alpha_source, lora.scales) == ("sdxl", (2,), "key", (2.0,))
    assert (lora.layout.naming, lora.strangers, lora.algorithms) == ("kohya", (), ("lora",))
    assert lora.training.triggers == ("mirasks",)
    assert (lora.training.software, lora.training.base) == ("sosie", "tiny")
    assert (lora.training.rank, lora.training.alpha, lora.training.steps, lora.training.images) == (2, 4, 2, 4)
    told = lora.header.metadata
    assert told["modelspec.architecture"] == "stable-diffusion-xl-v1-base/lora"
    assert told["modelspec.prediction_type"] == "epsilon"
    assert len(told["modelspec.hash_sha256"]) == 66
    assert told["sosie.dataset"] == dataset_digest(job.images)
    assert json.loads(told["sosie.base"]) == {"name": "tiny", "sha256": "ab" * 32, "variant": ""}


@pytest.mark.local
def test_every_tensor_of_the_file_acts_the_same_way_in_sosie_and_in_stock_diffusers(
    delivered: Path, tiny: Path, job: TrainingJob
) -> None:
    import torch
    from safetensors.torch import load_file

    from sosie.core.recipe import LoraUse
    from sosie.families.sdxl.diffusers.loras import Loras

    def unet_and_pipeline() -> Any:
        return opened(tiny)._pipeline

    file = load_file(delivered)
    ours, stock = unet_and_pipeline(), unet_and_pipeline()
    Loras(ours).set([LoraUse("mira")], {"mira": delivered})
    stock.load_lora_weights(delivered)
    adapters = [name for name, _ in stock.unet.named_parameters() if ".lora_" in name]
    assert len(adapters) == sum("lora_" in name.split(".", 1)[1] for name in file) == 2 * len(file) / 3
    stock.fuse_lora()
    plain = dict(opened(tiny).denoiser.named_parameters())
    fused = {name.replace(".base_layer", ""): w for name, w in stock.unet.named_parameters() if ".lora_" not in name}
    moved = 0
    for name, weight in ours.unet.named_parameters():
        torch.testing.assert_close(weight, fused[name], rtol=1e-4, atol=1e-6)
        moved += not torch.equal(weight, plain[name])
    assert moved == len(file) / 3


@pytest.mark.local
def test_convolutions_are_learned_too_where_all_layers_are_asked_for(tiny: Path, job: TrainingJob) -> None:
    import torch
    from safetensors.torch import load_file

    from sosie.core.recipe import LoraUse
    from sosie.families.sdxl.diffusers.loras import Loras

    wide = changed(job, targets="all")
    run(wide)
    file = load_file(wide.output)
    ups = {name: tensor for name, tensor in file.items() if name.endswith("lora_up.weight")}
    kinds = {tensor.dim() for tensor in ups.values()}
    assert kinds == {2, 4}
    assert all(bool(tensor.any()) for tensor in ups.values())
    ours, stock = opened(tiny)._pipeline, opened(tiny)._pipeline
    Loras(ours).set([LoraUse("mira")], {"mira": wide.output})
    stock.load_lora_weights(wide.output)
    assert sum(".lora_" in name for name, _ in stock.unet.named_parameters()) == 2 * len(ups)
    stock.fuse_lora()
    fused = {name.replace(".base_layer", ""): w for name, w in stock.unet.named_parameters() if ".lora_" not in name}
    for name, weight in ours.unet.named_parameters():
        torch.testing.assert_close(weight, fused[name], rtol=1e-4, atol=1e-6)
    again = replace(wide, folder=job.folder.with_name("on"), output=job.output.with_name("on.safetensors"))
    run(changed(replace(again, continue_from=wide.output), learning_rate=1e-12, steps=1, weight_decay=0.0))
    for name, tensor in load_file(again.output).items():
        torch.testing.assert_close(tensor, file[name], rtol=1e-5, atol=1e-7)


@pytest.mark.local
@pytest.mark.parametrize("stored", ["plain", "8 bits"])
def test_the_fast_lora_layer_computes_what_pefts_own_does(stored: str) -> None:
    import torch

    from sosie.training.adapters import Adapters
    from sosie.training.storage import store_in_8_bits

    def made() -> tuple[Any, Adapters]:
        torch.manual_seed(0)
        model = torch.nn.ModuleDict({"blocks": torch.nn.ModuleDict({"to_q": torch.nn.Linear(24, 40)})})
        model.requires_grad_(False)
        adapters = Adapters(model, ".*to_q", replace(SMALL, rank=3, alpha=6.0))
        if stored == "8 bits":
            assert store_in_8_bits(model, ".*blocks.*") == 1
        layer = model["blocks"]["to_q"]
        torch.nn.init.normal_(layer.lora_B["default"].weight)
        return layer, adapters

    x = torch.randn(2, 5, 24, requires_grad=True)
    pull = torch.randn(2, 5, 40)
    theirs, _ = made()
    wanted = theirs(x)
    parameters = [x, theirs.lora_A["default"].weight, theirs.lora_B["default"].weight]
    gradients = torch.autograd.grad((wanted * pull).sum(), parameters)
    ours, adapters = made()
    adapters.settle(torch.float32)
    adapters.begin_step()
    found = ours(x)
    (found * pull).sum().backward()
    adapters.end_backward()
    torch.testing.assert_close(found, wanted)
    slopes = [ours.lora_A["default"].weight.grad, ours.lora_B["default"].weight.grad]
    for mine, other in zip([x.grad, *slopes], gradients, strict=True):
        torch.testing.assert_close(mine, other)
    held = adapters.weights.grad
    assert float(held.norm()) == pytest.approx(float(torch.cat([g.flatten() for g in gradients[1:]]).norm()))


@pytest.mark.local
def test_weights_are_kept_in_full_precision_where_layers_compute_in_half(tmp_path: Path) -> None:
    import torch

    from sosie.training.adapters import Adapters

    torch.manual_seed(0)
    model = torch.nn.ModuleDict({"to_q": torch.nn.Linear(24, 40, dtype=torch.bfloat16)}).requires_grad_(False)
    adapters = Adapters(model, "to_q", replace(SMALL, rank=4, ema=0.5))
    adapters.settle(torch.bfloat16)
    with torch.no_grad():
        adapters.weights.add_(1e-4)  # less than bf16 can add to most of them
    adapters.begin_step()
    used = model["to_q"].lora_A["default"].weight
    assert used.dtype == torch.bfloat16
    assert torch.equal(used, adapters.parameters[0].to(torch.bfloat16))
    (model["to_q"](torch.randn(3, 24, dtype=torch.bfloat16)).float() ** 2).mean().backward()
    adapters.end_backward()
    assert adapters.weights.grad.dtype == torch.float32
    assert bool(adapters.weights.grad.any())
    before = used.clone()
    with adapters.averaged():  # the average does not know of the step yet
        assert torch.equal(used, adapters.average[0].to(torch.bfloat16))
        assert not torch.equal(used, before) or torch.equal(adapters.average[0], adapters.parameters[0])
    assert torch.equal(used, before)


@pytest.mark.local
def test_a_lora_is_continued_exactly_and_only_with_its_own_rank(delivered: Path, job: TrainingJob) -> None:
    import torch
    from safetensors.torch import load_file

    again = replace(job, folder=job.folder.with_name("again"), continue_from=delivered)
    other_alpha = changed(again, alpha=2.0, learning_rate=1e-12, steps=1, weight_decay=0.0)
    run(replace(other_alpha, output=delivered.with_name("more.safetensors")))
    before, after = load_file(delivered), load_file(delivered.with_name("more.safetensors"))
    ups = [name for name in before if name.endswith("lora_up.weight")]
    for name in ups:  # half the alpha, so twice the matrix
        torch.testing.assert_close(2 * before[name], after[name], rtol=1e-5, atol=1e-7)
    with pytest.raises(CheckFailedError, match="its rank is 2, the recipe's is 4"):
        run(changed(replace(again, folder=job.folder.with_name("third")), rank=4))
    with pytest.raises(CheckFailedError, match="the recipe's targets are"):
        run(changed(replace(again, folder=job.folder.with_name("fourth")), targets="attention"))


@pytest.mark.local
def test_weights_in_8_bits_are_near_the_real_ones_and_pass_the_gradient_on(job: TrainingJob, whole: Whole) -> None:
    import torch

    from sosie.training.storage import Linear8

    torch.manual_seed(0)
    layer = torch.nn.Linear(64, 32)
    layer.requires_grad_(False)
    small, x = Linear8(layer), torch.randn(5, 64, requires_grad=True)
    wanted, found = layer(x), small(x)
    assert 0 < float((found - wanted).detach().norm() / wanted.detach().norm()) < 0.04
    (gradient,) = torch.autograd.grad(found.sum(), x)
    (exact,) = torch.autograd.grad(wanted.sum(), x)
    assert float((gradient - exact).norm() / exact.norm()) < 0.04
    stored = losses(run(changed(job, base_storage="fp8")))
    assert stored != whole.losses
    assert [loss for _, loss, _ in stored] == pytest.approx([loss for _, loss, _ in whole.losses], rel=0.05)


@pytest.mark.local
def test_gradient_checkpointing_changes_nothing_but_memory_and_bf16_little(job: TrainingJob, whole: Whole) -> None:
    checkpointed = changed(replace(job, folder=job.folder.with_name("c")), gradient_checkpointing=True)
    assert losses(run(checkpointed)) == whole.losses
    half = losses(run(changed(job, precision="bf16", steps=3)))
    assert [loss for _, loss, _ in half] == pytest.approx([loss for _, loss, _ in whole.losses[:3]], rel=0.02)


@pytest.mark.local
def test_several_characters_are_trained_at_once_each_by_its_trigger(
    job: TrainingJob, images: tuple[TrainingImage, ...]
) -> None:
    from sosie.families import families
    from sosie.lora import read_lora

    second = replace(images[3], trigger="ottosks", character="otto")
    third = replace(images[2], trigger="", character="", regularisation=True, face=None)
    events = run(replace(changed(job, steps=4, batch=1, sample_every=4), images=(*images[:2], second, third)))
    assert ended(events).triggers == ("mirasks", "ottosks")
    lora = read_lora(job.output, families())
    assert lora.training.triggers == ("mirasks", "ottosks")
    assert (lora.training.images, lora.header.metadata["ss_num_reg_images"]) == (3, "1")


# Bad input: everything is found before a step is made.


def findings_of(job: TrainingJob) -> list[str]:
    from sosie.training.run import train

    seen: list[Event] = []

    def walk() -> None:
        seen.extend(train(job))

    with pytest.raises(CheckFailedError):
        walk()
    return codes(seen)


@pytest.mark.local
def test_what_cannot_be_trained_is_refused_with_every_reason_before_a_step(job: TrainingJob, tmp_path: Path) -> None:
    assert findings_of(changed(job, precision="fp16")) == ["SOS-T040"]
    silent = tuple(replace(image, caption=None) for image in job.images)
    assert findings_of(replace(job, images=silent)) == ["SOS-U003"]
    assert findings_of(replace(job, images=tuple(replace(image, trigger="") for image in job.images))) == ["SOS-U003"]
    assert findings_of(replace(job, base=replace(job.base, family="flux1"))) == ["SOS-U006"]
    assert findings_of(changed(job, optimizer="adamw8bit")) == ["SOS-U033"]
    assert findings_of(replace(job, log_with=("nothing-of-the-kind",))) == ["SOS-U034"]
    dot = replace(job.images[0], path=picture(tmp_path / "dot.png", (1, 1)), sha256="dot")
    text = tmp_path / "text.png"
    text.write_text("no image")
    bad = (dot, replace(dot, path=text, sha256="text"), *job.images)
    assert findings_of(replace(job, images=bad)) == ["SOS-U002", "SOS-U002"]
    both = changed(replace(job, images=silent), precision="fp16")
    assert findings_of(both) == ["SOS-T040", "SOS-U003"]
    with pytest.raises(UsageError, match=r"training\.rank = 0"):
        run(changed(job, rank=0))
    with pytest.raises(UsageError, match="no images of a character"):
        run(replace(job, images=()))


@pytest.mark.local
def test_a_base_of_another_family_or_a_broken_one_is_refused(job: TrainingJob, tmp_path: Path) -> None:
    from sosie.files.strip import read_stripped

    header, _ = read_stripped(ROOT / "tests" / "fixtures" / "headers" / "flux1-dev.json.gz")
    table = {
        name: {"dtype": info.dtype, "shape": list(info.shape), "data_offsets": list(info.offsets)}
        for name, info in header.tensors.items()
    }
    text = json.dumps(table).encode()
    flux = tmp_path / "flux.safetensors"
    with flux.open("wb") as stream:
        stream.write(len(text).to_bytes(8, "little") + text)
        stream.truncate(8 + len(text) + max(info.offsets[1] for info in header.tensors.values()))
    (tmp_path / "broken.safetensors").write_bytes(b"no model")
    for name in ("flux.safetensors", "broken.safetensors", "nothing.safetensors"):
        assert findings_of(replace(job, base=replace(job.base, path=tmp_path / name))) == ["SOS-U001"], name


def test_a_run_is_known_by_what_it_begins_with_and_not_by_where_that_lies(tmp_path: Path) -> None:
    first, moved, other = (tmp_path / f"{name}.safetensors" for name in ("a", "b", "c"))
    first.write_bytes(b"a LoRA")
    moved.write_bytes(b"a LoRA")
    other.write_bytes(b"another")
    job = TrainingJob(BaseModel("sdxl", "tiny", tmp_path, "ab" * 32), SMALL, (), tmp_path, tmp_path, tmp_path)
    ids = [replace(job, continue_from=path).id for path in (first, moved, other, None)]
    assert ids[0] == ids[1]
    assert len(set(ids)) == 3


def test_a_sample_that_weighs_words_out_of_range_is_told_before_the_first_step(tmp_path: Path) -> None:
    image = TrainingImage(tmp_path / "a.png", "0" * 64, "a bar (open until 23:30)", "mirasks")
    base = BaseModel("sdxl", "tiny", tmp_path, "ab" * 32)
    job = TrainingJob(base, SMALL, (image,), tmp_path, tmp_path, tmp_path, Samples(("mirasks (at 10:30)",)))
    found = [finding for finding in check_job(job) if finding.code == "SOS-E009"]
    assert ["'at 10' 30" in finding.message for finding in found] == [True]


@pytest.mark.local
@pytest.mark.parametrize(("precision", "told"), [("auto", "no"), ("fp32", "no"), ("bf16", "bf16")])
def test_the_file_says_in_which_precision_it_was_really_trained(job: TrainingJob, precision: str, told: str) -> None:
    from sosie.families import families
    from sosie.lora import read_lora

    run(changed(job, precision=precision, steps=1))
    assert read_lora(job.output, families()).header.metadata["ss_mixed_precision"] == told


@pytest.mark.local
@pytest.mark.parametrize("end", ["finished", "interrupted", "broken off", "failed", "disk"])
def test_the_loggers_are_ended_however_a_run_ends(job: TrainingJob, monkeypatch: pytest.MonkeyPatch, end: str) -> None:
    from sosie.training import log, saves
    from sosie.training.run import train

    closed: list[str] = []

    class Recorded:
        def __init__(self, *_: object) -> None:
            self.findings: list[Any] = []

        def write(self, values: dict[str, float], step: int) -> None:
            if end == "failed" and step == 2:
                raise ZeroDivisionError

        def close(self) -> None:
            closed.append(end)

    monkeypatch.setattr(log, "Loggers", Recorded)
    if end == "disk":
        monkeypatch.setattr(saves, "free_bytes", lambda _: 0 if (job.folder / "log.jsonl").exists() else 10**12)
    events = train(changed(job, steps=3))
    try:
        for event in events:
            if isinstance(event, Stepped) and event.step == 2 and end == "interrupted":
                os.kill(os.getpid(), signal.SIGTERM)
            if isinstance(event, Stepped) and event.step == 2 and end == "broken off":
                events.close()
    except ZeroDivisionError:
        assert end == "failed"
    assert closed == [end]
