"""A seed's noise as ComfyUI draws it, held against torch and torchsde themselves."""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from test_samplers import REFERENCES, build, drive, levels_of, trained_levels

from sosie.core import Character, Draw, Plan, Recipe, Request, Sampler, Stage, plan
from sosie.diffusion.flow.levels import flow_levels

pytestmark = pytest.mark.local
SEED = 2**63 - 2
SHAPE = (1, 4, 6, 6)


def planned(sampler: Sampler) -> Plan:
    recipe = Recipe("r", (Stage("generate", "sdxl", "m", sampler=sampler),), "{prompt}", 512, 512)
    return plan(recipe, Character("mira", "fictional", True), Request("r", "mira", "x"), Draw(), {"m": "a" * 64})


def test_the_manner_is_part_of_a_plan_only_where_it_is_asked_for() -> None:
    own, comfys = planned(Sampler()), planned(Sampler(noise="comfy"))
    assert "noise" not in own.to_json()["stages"][0]["sampler"]
    assert own.id != comfys.id
    for each in (own, comfys):
        assert Plan.from_json(each.to_json()) == each


def comfys_numbers(seed: int) -> Iterator[Any]:
    """What a step adds on the CPU."""
    import torch

    source = torch.Generator().manual_seed(seed + 1)
    while True:
        yield torch.randn(SHAPE, generator=source).double().numpy()


def on_a_path(sigmas: Any, seed: int) -> Iterator[Any]:
    """What ComfyUI's path gives: the increment of a Brownian tree over the levels, its sign turned."""
    import torch
    import torchsde

    levels = torch.as_tensor(np.asarray(sigmas, np.float32))
    above = levels[levels > 0]
    tree = torchsde.BrownianTree(above.min(), torch.zeros(SHAPE), above.max(), entropy=seed)
    for sigma, after in itertools.pairwise(above):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it rounds its ends to six digits, and says so
            increment = tree(after, sigma)
        yield -(increment / (sigma - after).sqrt()).double().numpy()
    yield np.zeros(SHAPE)


def test_a_picture_starts_from_what_torch_gives_for_the_seed() -> None:
    import torch

    from sosie.diffusion.comfy_noise import start_noise
    from sosie.diffusion.flow.noise import flow_noise

    expected = torch.randn((1, 16, 8, 12), generator=torch.manual_seed(SEED))
    assert torch.equal(start_noise(SEED, (1, 16, 8, 12)), expected)
    for manner in ("own", "comfy"):
        sampler = Sampler("euler_a", "simple", noise=manner)  # type: ignore[arg-type]
        start, _ = flow_noise(sampler, SEED, (1, 16, 8, 12), flow_levels(sampler, 3.0), "cpu")
        assert torch.equal(start, expected)


@pytest.mark.parametrize("name", ["euler_a", "dpmpp_2m_sde"])
def test_steps_of_a_flow_model_add_the_noise_of_the_seed(name: str) -> None:
    from sosie.diffusion.flow.noise import flow_noise

    sampler = Sampler(name, "simple", 5, noise="comfy")
    levels = flow_levels(sampler, 3.0)
    _, between = flow_noise(sampler, SEED, SHAPE, levels, "cpu")
    expected = comfys_numbers(SEED) if name == "euler_a" else on_a_path(levels.sigmas, SEED)
    for sigma, after in itertools.pairwise(levels.sigmas[:-1]):
        np.testing.assert_allclose(between(float(sigma), float(after)).double().numpy(), next(expected), rtol=1e-6)


def test_own_noise_of_steps_goes_on_where_the_start_ended() -> None:
    import torch

    from sosie.diffusion.flow.noise import flow_noise

    sampler = Sampler("euler_a", "simple", 5)
    start, between = flow_noise(sampler, 3, SHAPE, flow_levels(sampler, 3.0), "cpu")
    source = torch.Generator().manual_seed(3)
    for found in (start, between(0.9, 0.8), between(0.8, 0.7)):
        assert torch.equal(found, torch.randn(SHAPE, generator=source))


@pytest.mark.parametrize(
    ("name", "schedule", "first"),
    [
        ("euler_a", "simple", 0),
        ("lcm", "simple", 0),
        ("dpmpp_2m_sde", "simple", 0),
        ("dpmpp_2m_sde", "karras", 0),
        ("dpmpp_2m_sde", "karras", 2),
    ],
)
def test_steps_of_a_noise_model_add_the_noise_of_the_seed(name: str, schedule: str, first: int) -> None:
    scheduler = as_comfy(name, schedule, 7)
    scheduler.timesteps = scheduler.timesteps[first:] if first else scheduler.timesteps
    sigmas = levels_of(scheduler, "epsilon")[first:]
    if first:  # as a pipeline does where it draws over an image
        scheduler.sigmas = scheduler.sigmas[first:]
    start = np.random.default_rng(1).normal(size=SHAPE) * sigmas[0]
    numbers = on_a_path(sigmas, SEED) if name == "dpmpp_2m_sde" else comfys_numbers(SEED)
    expected = REFERENCES[name](start, sigmas, numbers)
    np.testing.assert_allclose(drive(scheduler, "epsilon", start), expected, atol=2e-3)


def test_the_path_of_dpmpp_sde_is_that_of_the_seed() -> None:
    import torch
    import torchsde

    scheduler = as_comfy("dpmpp_sde", "simple", 4)
    x = torch.zeros(SHAPE)
    scheduler.step(x, scheduler.timesteps[0], x, generator=torch.Generator().manual_seed(1))
    above = scheduler.sigmas[scheduler.sigmas > 0]
    tree = torchsde.BrownianTree(above.min(), torch.zeros(SHAPE), above.max(), entropy=SEED)
    sigma, after = torch.tensor(9.0), torch.tensor(4.0)
    expected = -tree(after, sigma) / (sigma - after).sqrt()
    torch.testing.assert_close(scheduler.noise_sampler(sigma, after), expected)


def test_the_image_under_a_drawing_gets_the_noise_of_the_seed_and_not_the_pipelines() -> None:
    import torch

    scheduler = as_comfy("euler", "simple", 4)
    under, pipelines = torch.ones(SHAPE), torch.full(SHAPE, 9.0)
    noised = scheduler.add_noise(under, pipelines, scheduler.timesteps[1][None])
    noise = torch.randn(SHAPE, generator=torch.manual_seed(SEED))
    torch.testing.assert_close(noised, under + scheduler.sigmas[1] * noise)


def test_without_the_option_everything_is_as_it_was() -> None:
    scheduler = build("euler_a", "simple", "epsilon")
    start = np.random.default_rng(1).normal(size=SHAPE) * trained_levels("epsilon")[-1]
    again = drive(as_comfy("euler_a", "simple", 7), "epsilon", start)
    assert np.abs(drive(scheduler, "epsilon", start) - again).max() > 0.05


def as_comfy(name: str, schedule: str, steps: int) -> Any:
    from test_samplers import MODELS

    from sosie.diffusion.schedulers import scheduler_for

    sampler = replace(Sampler(name, "simple", steps, noise="comfy"), schedule=schedule)  # type: ignore[arg-type]
    scheduler = scheduler_for(sampler, MODELS["epsilon"], SEED)
    scheduler.set_timesteps(steps, device="cpu")
    return scheduler
