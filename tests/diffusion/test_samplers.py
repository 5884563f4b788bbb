"""Samplers against the published formulas, written here a second time in plain numpy."""

from __future__ import annotations

import inspect
import itertools
import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from sosie.core.recipe import Sampler
from sosie.diffusion.samplers import SAMPLERS, SCHEDULES, complaint

pytestmark = pytest.mark.local

Array = NDArray[np.float64]
BASE = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear", "num_train_timesteps": 1000}
MODELS: dict[str, dict[str, Any]] = {
    "epsilon": {**BASE, "prediction_type": "epsilon", "timestep_spacing": "leading", "steps_offset": 1},
    "v": {**BASE, "beta_end": 0.02, "prediction_type": "v_prediction", "timestep_spacing": "trailing"},
    "v-zero-snr": {
        **BASE,
        "prediction_type": "v_prediction",
        "timestep_spacing": "trailing",
        "rescale_betas_zero_snr": True,
    },
}
COMBINATIONS = [(name, schedule) for name, choice in SAMPLERS.items() for schedule in choice.schedules]
STEPS = 7


def build(name: str, schedule: str, model: str, steps: int = STEPS) -> Any:
    from sosie.diffusion.schedulers import scheduler_for

    scheduler = scheduler_for(Sampler(name, schedule, steps), MODELS[model])  # type: ignore[arg-type]
    scheduler.set_timesteps(steps, device="cpu")
    return scheduler


def trained_levels(model: str) -> Array:
    """sqrt((1 - abar) / abar) of the training, ascending; zero terminal SNR after Lin et al. 2023, algorithm 1."""
    config = MODELS[model]
    betas = np.linspace(config["beta_start"] ** 0.5, config["beta_end"] ** 0.5, 1000) ** 2
    root = np.sqrt(np.cumprod(1 - betas))
    if config.get("rescale_betas_zero_snr"):
        root = (root - root[-1]) * root[0] / (root[0] - root[-1])
        root[-1] = 2**-12  # what diffusers puts for 0: abar = 2^-24
    return np.sqrt(1 - root**2) / root


def beta_quantile(share: float) -> float:
    """The quantile of Beta(0.6, 0.6): with x = sin^2 a its density is (sin a cos a)^0.2 without a pole."""
    angle = (np.arange(400_000) + 0.5) / 400_000 * math.pi / 2
    mass = np.cumsum((np.sin(angle) * np.cos(angle)) ** 0.2)
    return float(np.interp(share, mass / mass[-1], np.sin(angle) ** 2))


def expected_levels(schedule: str, model: str, steps: int) -> tuple[Array, Array]:
    """Noise levels without the last 0, and timesteps, from the sources named in `schedulers.py`."""
    levels, config = trained_levels(model), MODELS[model]
    smallest, largest = levels[0], levels[-1]
    if schedule == "karras":  # Karras et al. 2022, eq. 5
        sigmas = np.array(
            [
                (largest ** (1 / 7) + i / (steps - 1) * (smallest ** (1 / 7) - largest ** (1 / 7))) ** 7
                for i in range(steps)
            ]
        )
    elif schedule == "exponential":
        sigmas = np.array([largest * (smallest / largest) ** (i / (steps - 1)) for i in range(steps)])
    elif schedule == "sgm_uniform":
        timesteps = np.array([999 - 999 * i / steps for i in range(steps)])
        low = np.floor(timesteps).astype(int)
        share = timesteps - low
        return levels[low] ** (1 - share) * levels[np.minimum(low + 1, 999)] ** share, timesteps
    elif schedule == "normal":
        timesteps = np.array([999 - 999 * i / (steps - 1) for i in range(steps)])
        low = np.floor(timesteps).astype(int)
        share = timesteps - low
        return levels[low] ** (1 - share) * levels[np.minimum(low + 1, 999)] ** share, timesteps
    else:
        if schedule == "simple":
            chosen = [len(levels) - (1 + int(x * len(levels) / steps)) for x in range(steps)]
        elif schedule == "beta":
            chosen = [round(999 * beta_quantile(1 - i / steps)) for i in range(steps)]
        elif config["timestep_spacing"] == "trailing":  # Lin et al. 2023, table 2, counted from 0
            chosen = [round(1000 - i * 1000 / steps) - 1 for i in range(steps)]
        else:
            chosen = [i * (1000 // steps) + config["steps_offset"] for i in reversed(range(steps))]
        return levels[chosen], np.array(chosen, dtype=float)
    return sigmas, np.interp(np.log(sigmas), np.log(levels), np.arange(1000))


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize(("name", "schedule"), COMBINATIONS)
def test_every_sampler_gets_the_noise_levels_of_its_schedule(name: str, schedule: str, model: str) -> None:
    if (name, schedule) == ("lcm", "model"):
        pytest.skip("the teacher's own timesteps: tested below")
    scheduler = build(name, schedule, model)
    sigmas, timesteps = expected_levels(schedule, model, STEPS)
    found = scheduler.timesteps.double().numpy()
    if name == "lcm":
        np.testing.assert_array_equal(found, np.rint(timesteps))
        return
    levels = scheduler.sigmas.double().numpy()
    if name == "dpmpp_sde":
        assert scheduler.order == 2
        middles = np.interp(
            np.log(sigmas[:-1] * sigmas[1:]) / 2, np.log(trained_levels(model)), np.arange(1000, dtype=float)
        )
        np.testing.assert_allclose(found[1::2], middles, atol=0.02)
        np.testing.assert_array_equal(levels[1:-1:2], levels[2:-1:2])
        found, levels = found[0::2], np.append(levels[0:-1:2], levels[-1])
    np.testing.assert_allclose(levels, np.append(sigmas, 0), rtol=2e-4)
    np.testing.assert_allclose(found, timesteps, atol=0.02)


def test_lcm_takes_the_timesteps_of_its_teacher() -> None:
    teacher = [20 * k - 1 for k in range(1, 51)][::-1]
    assert build("lcm", "model", "epsilon", 4).timesteps.tolist() == [teacher[math.floor(i * 50 / 4)] for i in range(4)]


@pytest.mark.parametrize("spacing", ["leading", "trailing", "linspace"])
def test_the_models_own_schedule_is_the_stock_one_bit_for_bit(spacing: str) -> None:
    import torch
    from diffusers import EulerDiscreteScheduler

    from sosie.diffusion.schedulers import scheduler_for

    config = {**MODELS["v"], "timestep_spacing": spacing}
    for steps in range(1, 120):
        ours, stock = scheduler_for(Sampler(steps=steps), config), EulerDiscreteScheduler.from_config(config)
        ours.set_timesteps(steps, device="cpu")
        stock.set_timesteps(steps, device="cpu")
        assert len(ours.timesteps) == steps
        if len(stock.timesteps) != steps:  # diffusers slips here: it adds a timestep of -1
            assert (spacing, float(stock.timesteps[-1])) == ("trailing", -1)
            continue
        assert torch.equal(ours.sigmas, stock.sigmas)
        assert torch.equal(ours.timesteps, stock.timesteps)
        assert ours.init_noise_sigma == stock.init_noise_sigma


def test_a_beta_schedule_of_many_steps_meets_no_level_twice() -> None:
    levels = build("dpmpp_2m", "beta", "epsilon", 400).sigmas
    assert len(levels) < 401
    assert bool((levels[1:] < levels[:-1]).all())


# --- one step after another, against the formulas ---------------------------------------------------


def toy(scaled: Array) -> Array:
    """What the toy model takes for the clean image, from the input at unit variance."""
    return 0.4 * scaled + 0.3 * np.cos(3 * scaled)


def clean(x: Array, sigma: float) -> Array:
    """The same for x = image + sigma * noise."""
    return toy(x / math.sqrt(1 + sigma**2))


def answers(scaled: Array, sigma: float, prediction: str) -> Array:
    """The toy model's output in the manner of its kind."""
    alpha, noise = 1 / math.sqrt(1 + sigma**2), sigma / math.sqrt(1 + sigma**2)
    image = toy(scaled)
    epsilon = (scaled - alpha * image) / noise
    return epsilon if prediction == "epsilon" else alpha * epsilon - noise * image


def drive(scheduler: Any, model: str, start: Array, seed: int = 5) -> Array:
    """Runs the scheduler as a pipeline does; `start` and the result at image + sigma * noise."""
    import torch

    levels = trained_levels(model)
    own = 1.0 if float(scheduler.init_noise_sigma) > 1 else 1 / math.sqrt(1 + first_level(scheduler, model) ** 2)
    x = torch.from_numpy(start * own).float()
    generator = torch.Generator("cpu").manual_seed(seed)
    takes = "generator" in inspect.signature(scheduler.step).parameters  # as pipelines ask
    kwargs = {"generator": generator} if takes else {}
    for timestep in scheduler.timesteps:
        scaled = scheduler.scale_model_input(x, timestep).double().numpy()
        sigma = float(np.exp(np.interp(float(timestep), np.arange(1000), np.log(levels))))
        output = torch.from_numpy(answers(scaled, sigma, MODELS[model]["prediction_type"])).float()
        x = scheduler.step(output, timestep, x, **kwargs, return_dict=False)[0]
    return x.double().numpy()


def first_level(scheduler: Any, model: str) -> float:
    return (
        float(trained_levels(model)[int(scheduler.timesteps[0])])
        if not hasattr(scheduler, "sigmas")
        else float(scheduler.sigmas[0])
    )


def noises(shape: tuple[int, ...], seed: int = 5) -> Iterator[Array]:
    """The normal numbers that a generator of that seed gives, one array after another."""
    import torch

    generator = torch.Generator("cpu").manual_seed(seed)
    while True:
        yield torch.randn(shape, generator=generator).double().numpy()


def euler(x: Array, sigmas: Array, _noise: Iterator[Array]) -> Array:
    for sigma, after in itertools.pairwise(sigmas):
        x = x + (after - sigma) * (x - clean(x, sigma)) / sigma
    return x


def euler_a(x: Array, sigmas: Array, noise: Iterator[Array]) -> Array:
    for sigma, after in itertools.pairwise(sigmas):
        up = after * math.sqrt(1 - after**2 / sigma**2)
        down = math.sqrt(after**2 - up**2)
        x = x + (down - sigma) * (x - clean(x, sigma)) / sigma + up * next(noise)
    return x


def ddim(x: Array, sigmas: Array, _noise: Iterator[Array]) -> Array:
    """Song et al. 2020, eq. 12 with eta = 0, on abar = 1 / (1 + sigma^2)."""
    for sigma, after in itertools.pairwise(sigmas):
        abar, abar_after = 1 / (1 + sigma**2), 1 / (1 + after**2)
        scaled, image = x * math.sqrt(abar), clean(x, sigma)
        epsilon = (scaled - math.sqrt(abar) * image) / math.sqrt(1 - abar)
        x = (math.sqrt(abar_after) * image + math.sqrt(1 - abar_after) * epsilon) / math.sqrt(abar_after)
    return x


def variance_preserving(sigma: float) -> tuple[float, float, float]:
    """alpha, sigma and lambda = log(alpha / sigma) of Lu et al. 2022."""
    alpha = 1 / math.sqrt(1 + sigma**2)
    return alpha, sigma * alpha, -math.log(sigma) if sigma else math.inf


def dpmpp_2m(x: Array, sigmas: Array, noise: Iterator[Array], stochastic: bool = False) -> Array:
    """Lu et al. 2022, algorithm 2, and its SDE of section 5; the last step has order 1."""
    before: tuple[Array, float] | None = None
    x = x * variance_preserving(sigmas[0])[0]
    for now, after in itertools.pairwise(sigmas):
        _, sigma_s, lambda_s = variance_preserving(now)
        alpha, sigma, lambda_ = variance_preserving(after)
        image, h = toy(x), lambda_ - lambda_s
        difference = np.zeros_like(x)
        if before is not None and after > 0:
            difference = (image - before[0]) * h / (lambda_s - before[1])
        before = image, lambda_s
        if stochastic:
            share = 1 - math.exp(-2 * h)
            x = sigma / sigma_s * math.exp(-h) * x + alpha * share * (image + difference / 2)
            x = x + sigma * math.sqrt(share) * next(noise)
        else:
            x = sigma / sigma_s * x + alpha * (1 - math.exp(-h)) * (image + difference / 2)
    return x


def dpmpp_2m_sde(x: Array, sigmas: Array, noise: Iterator[Array]) -> Array:
    return dpmpp_2m(x, sigmas, noise, stochastic=True)


def uni_pc(x: Array, sigmas: Array, _noise: Iterator[Array]) -> Array:
    """Zhao et al. 2023, algorithms 5 to 8 of order 2 on predicted images, B(h) = e^h - 1; order 1 first and last."""
    x = x * variance_preserving(sigmas[0])[0]
    known: list[tuple[Array, float]] = []  # images and lambdas of the steps so far
    step: tuple[Array, float, int] | None = None  # x and sigma of the last step, its order
    for index, (now, after) in enumerate(itertools.pairwise(sigmas)):
        alpha_s, sigma_s, lambda_s = variance_preserving(now)
        image = toy(x)
        if step is not None:  # the corrector: solves the step that led here once more, knowing its end
            x_before, sigma_before, order = step
            (image_1, lambda_1), h = known[-1], lambda_s - known[-1][1]
            b = math.exp(-h) - 1
            phi_1 = b / -h
            phi_2 = (phi_1 - 1) / -h
            phi_3 = (phi_2 - 0.5) / -h
            if order == 1:
                change = 0.5 * (image - image_1)
            else:
                r = (known[-2][1] - lambda_1) / h
                right = np.array([-h * phi_2 / b, 2 * -h * phi_3 / b])
                weight = np.linalg.solve(np.array([[1.0, 1.0], [r, 1.0]]), right)
                change = weight[0] * (known[-2][0] - image_1) / r + weight[1] * (image - image_1)
            x = sigma_s / sigma_before * x_before - alpha_s * b * image_1 - alpha_s * b * change
        order = 1 if index in (0, len(sigmas) - 2) else 2
        alpha, sigma, lambda_ = variance_preserving(after)
        h = lambda_ - lambda_s
        b = math.exp(-h) - 1
        change = np.zeros_like(x)
        if order == 2:
            change = 0.5 * (known[-1][0] - image) * h / (known[-1][1] - lambda_s)
        known.append((image, lambda_s))
        step = x, sigma_s, order
        x = sigma / sigma_s * x - alpha * b * image - alpha * b * change
    return x


def lcm(x: Array, sigmas: Array, noise: Iterator[Array]) -> Array:
    """Luo et al. 2023, algorithm 3; its c_skip and c_out are 0 and 1 to 2e-6 at t > 36."""
    for now, after in itertools.pairwise(sigmas):
        x = clean(x, now)
        if after > 0:
            x = x + after * next(noise)
    return x


REFERENCES: dict[str, Callable[[Array, Array, Iterator[Array]], Array]] = {
    "euler": euler,
    "euler_a": euler_a,
    "ddim": ddim,
    "dpmpp_2m": dpmpp_2m,
    "dpmpp_2m_sde": dpmpp_2m_sde,
    "uni_pc": uni_pc,
    "lcm": lcm,
}


def levels_of(scheduler: Any, model: str) -> Array:
    if hasattr(scheduler, "sigmas"):
        return scheduler.sigmas.double().numpy()
    return np.append(trained_levels(model)[scheduler.timesteps.numpy()], 0.0)


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize(("name", "schedule"), [each for each in COMBINATIONS if each[0] in REFERENCES])
def test_a_run_follows_the_published_update(name: str, schedule: str, model: str) -> None:
    scheduler = build(name, schedule, model)
    sigmas = levels_of(scheduler, model)
    x = np.random.default_rng(1).normal(size=(1, 4, 6, 6))
    start = x * sigmas[0]
    expected = REFERENCES[name](start, sigmas, noises(start.shape))
    np.testing.assert_allclose(drive(scheduler, model, start), expected, atol=2e-3)


@pytest.mark.filterwarnings("error::UserWarning")
@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("schedule", SCHEDULES)
def test_dpmpp_sde_follows_k_diffusion_along_one_brownian_path(schedule: str, model: str) -> None:
    scheduler = build("dpmpp_sde", schedule, model)
    levels = scheduler.sigmas.double().numpy()
    sigmas = np.append(levels[0:-1:2], 0.0)
    start = np.random.default_rng(1).normal(size=(1, 4, 6, 6)) * sigmas[0]
    found = drive(scheduler, model, start)

    def noise(sigma: float, after: float) -> Array:
        import torch

        return scheduler.noise_sampler(torch.tensor(sigma), torch.tensor(after)).double().numpy()

    def towards(x: Array, image: Array, sigma: float, after: float) -> Array:
        down = after**2 / sigma  # sqrt(after^2 - up^2)
        up = after * math.sqrt(1 - after**2 / sigma**2)
        return down / sigma * x + (1 - down / sigma) * image + up * noise(sigma, after)

    x = start
    for sigma, after in itertools.pairwise(sigmas):
        if after == 0:
            x = clean(x, sigma)
            continue
        middle = math.sqrt(sigma * after)
        half = towards(x, clean(x, sigma), sigma, middle)
        x = towards(x, clean(half, middle), sigma, after)
    np.testing.assert_allclose(found, x, atol=5e-3)


def test_the_noises_of_dpmpp_sde_lie_on_one_path_and_have_unit_variance() -> None:
    import torch

    scheduler = build("dpmpp_sde", "karras", "epsilon")
    x = torch.zeros(1, 4, 64, 64)
    scheduler.step(x, scheduler.timesteps[0], x, generator=torch.Generator().manual_seed(3))
    a, b, c = (torch.tensor(sigma) for sigma in (12.0, 7.0, 1.5))
    first, second, both = (scheduler.noise_sampler(*pair) for pair in ((a, b), (b, c), (a, c)))
    assert abs(float(both.std()) - 1) < 0.03
    assert abs(float((first * second).mean())) < 0.03
    torch.testing.assert_close(first * (a - b).sqrt() + second * (b - c).sqrt(), both * (a - c).sqrt())


@pytest.mark.parametrize("name", ["euler_a", "dpmpp_2m_sde", "dpmpp_sde", "lcm"])
def test_the_noise_of_a_step_comes_from_the_generator(name: str) -> None:
    schedule = "sgm_uniform"
    start = np.random.default_rng(2).normal(size=(1, 4, 6, 6)) * 14.6
    one, same, other = (drive(build(name, schedule, "epsilon"), "epsilon", start, seed=seed) for seed in (1, 1, 2))
    np.testing.assert_array_equal(one, same)
    assert np.abs(one - other).max() > 0.05


def test_a_batch_of_generators_gives_each_image_the_noise_that_it_gets_alone() -> None:
    import torch

    def step(generator: Any, count: int) -> Any:
        scheduler = build("dpmpp_sde", "karras", "epsilon")
        x = torch.ones(count, 4, 6, 6)
        return scheduler.step(x, scheduler.timesteps[0], x, generator=generator).prev_sample

    def source(seed: int) -> Any:
        return torch.Generator().manual_seed(seed)

    together = step([source(1), source(2)], 2)
    torch.testing.assert_close(together, torch.cat([step([source(1)], 1), step([source(2)], 1)]))
    assert not torch.equal(together[0], together[1])


def test_a_step_keeps_the_dtype_of_the_latents() -> None:
    import torch

    for name in SAMPLERS:
        scheduler = build(name, "sgm_uniform", "v")
        x = torch.ones(1, 4, 6, 6, dtype=torch.bfloat16)
        scheduler.scale_model_input(x, scheduler.timesteps[0])
        assert scheduler.step(x, scheduler.timesteps[0], x, return_dict=False)[0].dtype == torch.bfloat16


# --- in the pipeline ------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def pipeline() -> Any:
    import sosie_mini
    import torch
    from diffusers import StableDiffusionXLPipeline

    made = StableDiffusionXLPipeline.from_pretrained(sosie_mini.folder(), dtype=torch.float32, local_files_only=True)
    made.set_progress_bar_config(disable=True)
    made.own_scheduler = made.scheduler
    return made


def draw(pipeline: Any, scheduler: Any, steps: int = 3, seed: int = 1, **more: Any) -> Any:
    import torch

    pipeline.scheduler = scheduler
    generator = torch.Generator("cpu").manual_seed(seed)
    more = more or {"width": 64, "height": 64}
    return pipeline(
        prompt="a woman", num_inference_steps=steps, generator=generator, output_type="latent", **more
    ).images


def test_mini_draws_with_euler_on_its_own_schedule_as_stock_diffusers_does(pipeline: Any) -> None:
    import torch

    from sosie.diffusion.schedulers import scheduler_for

    config = pipeline.own_scheduler.config
    ours = draw(pipeline, scheduler_for(Sampler(steps=3), config))
    assert torch.equal(ours, draw(pipeline, type(pipeline.own_scheduler).from_config(config)))


@pytest.mark.parametrize("name", SAMPLERS)
def test_every_sampler_runs_in_the_pipelines_and_a_seed_gives_one_image(pipeline: Any, name: str) -> None:
    import torch
    from diffusers import StableDiffusionXLImg2ImgPipeline

    from sosie.diffusion.schedulers import scheduler_for

    config = pipeline.own_scheduler.config
    sampler = Sampler(name, "sgm_uniform", 3)
    one, same, other = (draw(pipeline, scheduler_for(sampler, config), seed=seed) for seed in (1, 1, 2))
    assert bool(one.isfinite().all())
    assert torch.equal(one, same)
    assert not torch.equal(one, other)
    again = StableDiffusionXLImg2ImgPipeline(**pipeline.components)
    again.set_progress_bar_config(disable=True)
    kept = draw(again, scheduler_for(sampler, config), 4, image=one, strength=0.25)
    assert bool(kept.isfinite().all())
    assert float((kept - one).abs().mean()) < float((other - one).abs().mean())


# --- what is refused ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sampler", "said"),
    [
        (Sampler("dpmpp_2m_sd"), "did you mean 'dpmpp_2m_sde'"),
        (Sampler("lcm", "karras"), "timesteps after the first; expected 'model', 'sgm_uniform', 'simple', 'beta'"),
        (Sampler("lcm", "exponential"), "whole training timesteps"),
        (Sampler("lcm", "normal"), "after the first"),
        (Sampler("lcm", "model", 51), "expected 1 to 50"),
        (Sampler("euler", steps=0), "expected 1 to 1000"),
        (Sampler("euler", steps=1001), "expected 1 to 1000"),
        (Sampler("euler", shift=3.0), "no timestep shift"),
    ],
)
def test_what_a_sampler_cannot_do_is_said(sampler: Sampler, said: str) -> None:
    assert said in complaint(sampler, "SDXL")


def test_what_a_sampler_can_do_is_not_complained_about() -> None:
    assert [complaint(Sampler(name, schedule, 50), "SDXL") for name, schedule in COMBINATIONS] == [""] * 53
