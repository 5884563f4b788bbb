"""Samplers of flow models on data whose way from noise to picture is known in closed form."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sosie.core.recipe import Sampler
from sosie.diffusion.flow.levels import FlowLevels, flow_levels, schedule_levels, shifted, trained_levels
from sosie.diffusion.flow.samplers import SAMPLERS, SCHEDULES, complaint, evaluations

pytestmark = pytest.mark.local

QUIET = [name for name, known in SAMPLERS.items() if not known.noisy]
NOISY = [name for name, known in SAMPLERS.items() if known.noisy]
MEAN, SPREAD = 0.6, 0.5
"""The data: every number is drawn from a normal distribution of this mean and standard deviation."""


def spread_at(sigma: float) -> float:
    """Standard deviation of x = (1 - sigma) x0 + sigma noise."""
    return math.hypot((1 - sigma) * SPREAD, sigma)


def gaussian(x: Any, sigma: float) -> Any:
    """The mean of x0 given x: what a perfect model says."""
    share = (1 - sigma) * SPREAD**2 / spread_at(sigma) ** 2
    return MEAN + share * (x - (1 - sigma) * MEAN)


def carried(x: Any, sigma: float, to: float) -> Any:
    """Where the probability flow carries x: its place in the distribution stays."""
    return (1 - to) * MEAN + (x - (1 - sigma) * MEAN) / spread_at(sigma) * spread_at(to)


def walk(name: str, sigmas: Any, x: Any, **more: Any) -> Any:
    from sosie.diffusion.flow.sampling import sample

    return sample(name, gaussian, x, FlowLevels(np.asarray(sigmas, np.float32), 3.0), **more)


# --- noise levels ---------------------------------------------------------------------------------


def comfy_levels(schedule: str, steps: int, shift: float) -> list[float]:
    """ComfyUI's definitions, once more: a table of 1000 levels, from which or between which it chooses."""
    table = [shift * k / 1000 / (1 + (shift - 1) * k / 1000) for k in range(1, 1001)]

    def between(count: int) -> list[float]:
        last = table[0]
        even = [1 - (1 - last) * i / (count - 1) if count > 1 else 1.0 for i in range(count)]
        return [shift * u / (1 + (shift - 1) * u) for u in even]

    if schedule == "simple":
        return [table[-(1 + int(i * (1000 / steps)))] for i in range(steps)]
    if schedule == "normal":
        return between(steps)
    if schedule == "sgm_uniform":
        return between(steps + 1)[:-1]
    if schedule == "model":
        return [shifted(1 - i / steps, shift) for i in range(steps)]
    angle = (np.arange(400_000) + 0.5) / 400_000 * math.pi / 2  # with u = sin^2 a, Beta(0.6, 0.6) has no pole
    density = (np.sin(angle) * np.cos(angle)) ** 0.2
    mass = np.cumsum(density) - density / 2
    quantiles = np.interp([1 - i / steps for i in range(steps)], mass / density.sum(), np.sin(angle) ** 2)
    return [table[place] for place, _ in itertools.groupby(round(999 * float(q) + 1e-7) for q in quantiles)]


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("shift", [1.0, 3.0, 6.0])
@pytest.mark.parametrize("steps", [1, 2, 7, 8, 25, 64])
def test_the_levels_are_those_of_the_definition(schedule: str, shift: float, steps: int) -> None:
    found = schedule_levels(schedule, steps, shift)  # type: ignore[arg-type]
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, [*comfy_levels(schedule, steps, shift), 0.0], rtol=3e-6)


@pytest.mark.parametrize("shift", [1.0, 1.73, 3.0, 6.0])
def test_the_levels_are_rounded_as_torch_rounds_them(shift: float) -> None:
    """A Brownian path, rough at any scale, tells levels apart by their last digit."""
    import torch

    def laid(even: Any) -> Any:
        return (shift * even / (1 + (shift - 1) * even)).tolist() if shift != 1 else even.tolist()

    trained = laid(torch.arange(1, 1001) / 1000)
    for steps in range(1, 80):
        even = [torch.linspace(1.0, trained[0], steps), torch.linspace(1.0, trained[0], steps + 1)[:-1]]
        expected = {
            "simple": [trained[-(1 + int(i * (1000 / steps)))] for i in range(steps)],
            "normal": laid(even[0]),
            "sgm_uniform": laid(even[1]),
            "model": laid(torch.linspace(1.0, 1 / steps, steps)),
        }
        for schedule, levels in expected.items():
            assert schedule_levels(schedule, steps, shift).tolist() == [*levels, 0.0]  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("schedule", "levels"),
    [
        ("simple", [1.0, 0.9545454, 0.9, 0.8333333, 0.75, 0.6428571, 0.5, 0.3]),
        ("normal", [1.0, 0.9475425, 0.8827877, 0.8008373, 0.6937931, 0.5480456, 0.3379722, 0.0089286]),
        ("sgm_uniform", [1.0, 0.9546938, 0.900359, 0.8339981, 0.7511211, 0.6446863, 0.5029851, 0.3050089]),
        ("beta", [1.0, 0.9802494, 0.9335348, 0.8595218, 0.7507493, 0.5963855, 0.3921714, 0.155914]),
    ],
)
def test_eight_steps_of_z_image_are_those_that_comfyui_0_14_1_computed(schedule: Any, levels: list[float]) -> None:
    np.testing.assert_allclose(schedule_levels(schedule, 8, 3.0), [*levels, 0.0], atol=1.5e-7)


def test_the_models_own_schedule_is_that_of_the_stock_pipeline() -> None:
    import torch
    from diffusers import FlowMatchEulerDiscreteScheduler

    for steps, shift in itertools.product((1, 4, 8, 9, 25, 30, 50), (1.0, 3.0, 6.0)):
        stock = FlowMatchEulerDiscreteScheduler(num_train_timesteps=1000, shift=shift)
        stock.set_timesteps(sigmas=torch.linspace(1.0, 1 / steps, steps).tolist())
        ours = flow_levels(Sampler("euler", "model", steps), shift)
        np.testing.assert_array_equal(ours.sigmas, stock.sigmas.numpy())
        np.testing.assert_array_equal(ours.timesteps, stock.timesteps.numpy())


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(SCHEDULES), st.sampled_from(sorted(SAMPLERS)), st.integers(1, 300), st.floats(0.2, 30))
def test_levels_fall_from_1_to_0(schedule: Any, name: str, steps: int, shift: float) -> None:
    levels = flow_levels(Sampler(name, schedule, steps), shift)
    assert levels.sigmas[-1] == 0
    assert 1 - 1e-7 < levels.sigmas[0] <= 1  # rounded as ComfyUI rounds it
    assert bool((np.diff(levels.sigmas) < 0).all())
    assert levels.steps == steps or (schedule == "beta" and levels.steps < steps)
    assert 0 < levels.first_with_signal < 1


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(sorted(SAMPLERS)), st.integers(1, 100), st.floats(0.01, 1))
def test_drawing_over_an_image_takes_the_last_steps_of_the_same_schedule(name: str, steps: int, denoise: float) -> None:
    whole, part = (flow_levels(Sampler(name, "simple", steps), 3.0, share) for share in (1.0, denoise))
    assert part.steps == max(1, int(steps * denoise))
    np.testing.assert_array_equal(part.sigmas, whole.sigmas[-len(part.sigmas) :])


def test_the_samplers_shift_goes_before_the_models() -> None:
    assert flow_levels(Sampler(schedule="simple", steps=2, shift=6.0), 3.0).sigmas[1] == np.float32(6 / 7)
    assert flow_levels(Sampler(schedule="simple", steps=2), 3.0).sigmas[1] == np.float32(3 / 4)
    assert trained_levels(1.0)[499] == np.float32(0.5)


# --- steps ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "order"), [("euler", 1), ("heun", 2), ("dpmpp_2m", 2), ("res_multistep", 2), ("uni_pc", 2)]
)
def test_the_error_falls_with_the_order_of_the_sampler(name: str, order: int) -> None:
    import torch

    x = torch.linspace(-2, 2, 9, dtype=torch.float64)
    exact = carried(x, 0.9, 0.1)
    counts = (20, 40, 80, 160)
    errors = [float((walk(name, np.geomspace(0.9, 0.1, count + 1), x) - exact).abs().max()) for count in counts]
    slopes = [math.log2(coarse / fine) for coarse, fine in itertools.pairwise(errors)]
    assert slopes[-1] == pytest.approx(order, abs=0.35), (errors, slopes)


@pytest.mark.parametrize("name", SAMPLERS)
@pytest.mark.parametrize("steps", [1, 2, 3, 8])
def test_a_sampler_asks_the_model_as_often_as_it_says_and_tells_each_step(name: str, steps: int) -> None:
    import torch

    from sosie.diffusion.flow.sampling import sample

    asked: list[float] = []
    told: list[tuple[int, int]] = []

    def model(x: Any, sigma: float) -> Any:
        asked.append(sigma)
        return gaussian(x, sigma)

    levels = flow_levels(Sampler(name, "simple", steps), 3.0)
    source = torch.Generator().manual_seed(1)
    start = torch.randn(1, 4, 6, 6, generator=source)
    done = sample(
        name,
        model,
        start,
        levels,
        lambda *_: torch.randn(start.shape, generator=source),
        lambda step, of, x0: told.append((step, of)),
    )
    assert len(asked) == evaluations(name, steps)
    assert told == [(step, steps) for step in range(1, steps + 1)]
    assert asked == sorted(asked, reverse=True)
    assert done.shape == start.shape
    assert bool(done.isfinite().all())


@pytest.mark.parametrize("name", SAMPLERS)
def test_pictures_have_the_mean_and_the_spread_of_the_data(name: str) -> None:
    import torch

    source = torch.Generator().manual_seed(5)
    x = torch.randn(100_000, generator=source, dtype=torch.float64)
    sigmas = flow_levels(Sampler(name, "simple", 240), 3.0).sigmas
    found = walk(name, sigmas, x, noise=lambda *_: torch.randn(x.shape, generator=source, dtype=torch.float64))
    assert float(found.mean()) == pytest.approx(MEAN, abs=0.01)
    assert float(found.std()) == pytest.approx(SPREAD, rel=0.04 if name.startswith("euler") else 0.015)


@pytest.mark.parametrize("name", NOISY)
def test_noise_keeps_the_spread_at_every_level(name: str) -> None:
    import torch

    source = torch.Generator().manual_seed(6)
    x = torch.randn(100_000, generator=source, dtype=torch.float64)
    sigmas = flow_levels(Sampler(name, "simple", 200), 3.0).sigmas
    found = walk(name, sigmas[:150], x, noise=lambda *_: torch.randn(x.shape, generator=source, dtype=torch.float64))
    assert float(found.std()) == pytest.approx(spread_at(float(sigmas[149])), rel=0.02)
    assert float(found.mean()) == pytest.approx((1 - float(sigmas[149])) * MEAN, abs=0.01)


@pytest.mark.parametrize("name", QUIET)
def test_a_model_that_is_sure_of_its_picture_gets_it_in_any_number_of_steps(name: str) -> None:
    import torch

    from sosie.diffusion.flow.sampling import noised, sample, x0_of_velocity

    picture, noise = torch.randn(2, 1, 4, 6, 6, generator=torch.Generator().manual_seed(2)).double()
    for denoise in (1.0, 0.4):
        levels = flow_levels(Sampler(name, "beta", 10), 3.0, denoise)
        start = noised(picture, noise, float(levels.sigmas[0]))
        found = sample(name, lambda x, sigma: x0_of_velocity(noise - picture, x, sigma), start, levels)
        torch.testing.assert_close(found, picture, atol=6e-3 if name == "uni_pc" else 1e-6, rtol=0)


def test_a_sampler_that_adds_noise_says_so_when_it_gets_none() -> None:
    import torch

    with pytest.raises(TypeError, match="adds noise"):
        walk("euler_a", [1.0, 0.5, 0.0], torch.zeros(3))


# --- what is refused ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sampler", "said"),
    [
        (Sampler("eulr"), "no sampler 'eulr'; did you mean 'euler'?"),
        (Sampler("ddim"), "Z-Image has no sampler 'ddim'"),
        (Sampler("euler", "karras"), "half of its steps below noise level 0.1"),
        (Sampler("euler", "exponential"), "expected 'model', 'simple', 'normal', 'sgm_uniform', 'beta'"),
        (Sampler(steps=0), "expected 1 to 1000"),
        (Sampler(denoise=0), "expected more than 0"),
        (Sampler(shift=-1), "expected shift = 3"),
    ],
)
def test_what_a_flow_model_cannot_do_is_said(sampler: Sampler, said: str) -> None:
    assert said in complaint(sampler, "Z-Image", 3.0)


def test_a_shift_is_needed_from_somewhere() -> None:
    assert "needs a timestep shift" in complaint(Sampler(), "A flow model", 0)
    assert complaint(Sampler(shift=3), "A flow model", 0) == ""


def test_all_others_are_taken() -> None:
    assert {complaint(Sampler(name, schedule), "Z-Image", 3.0) for name in SAMPLERS for schedule in SCHEDULES} == {""}
