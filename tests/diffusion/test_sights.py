"""How a picture looks while it is drawn: the right latents, decoded small, by every family."""

from __future__ import annotations

import math
from typing import Any

import pytest

from sosie.core.recipe import Sampler
from sosie.diffusion.samplers import SAMPLERS

pytestmark = pytest.mark.local

MODEL = {
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "num_train_timesteps": 1000,
    "prediction_type": "epsilon",
    "timestep_spacing": "trailing",
}
PRESERVING = ("ddim", "dpmpp_2m", "dpmpp_2m_sde", "uni_pc", "lcm")
"""Samplers whose picture keeps its variance; the others add noise to a picture of full strength."""


@pytest.mark.parametrize("name", SAMPLERS)
def test_what_a_scheduler_took_for_the_picture_is_what_the_model_said(name: str) -> None:
    import torch

    from sosie.diffusion.glimpse import watch
    from sosie.diffusion.schedulers import scheduler_for

    scheduler: Any = scheduler_for(Sampler(name, "model", 4), MODEL)
    scheduler.set_timesteps(4, device="cpu")
    clean = watch(scheduler)
    assert clean() is None
    picture = torch.randn(1, 4, 4, 4, generator=torch.Generator().manual_seed(0))
    x, generator = torch.randn(1, 4, 4, 4, generator=torch.Generator().manual_seed(1)), torch.Generator().manual_seed(2)
    kept = float(scheduler.alphas_cumprod[int(scheduler.timesteps[0])])
    sigma = math.sqrt((1 - kept) / kept)
    if name not in PRESERVING:
        x = x * float(scheduler.sigmas[0])
    strength = math.sqrt(kept) if name in PRESERVING else 1.0
    said = (x / strength - picture) / sigma
    more = {} if name in ("ddim", "dpmpp_2m", "uni_pc") else {"generator": generator}
    scheduler.step(said, scheduler.timesteps[0], x, **more, return_dict=False)
    seen = clean()
    assert seen is not None
    if name == "lcm":  # its boundary gives a share of the picture itself
        seen = seen / seen.norm() * picture.norm()
    assert float((seen - picture).abs().max()) < 2e-3


def test_a_large_picture_is_decoded_small_and_a_small_one_at_half_its_size() -> None:
    import tiny_zimage
    import torch

    from sosie.diffusion.glimpse import sight_of

    _, _, vae = tiny_zimage.modules(1)
    for side, shown in ((128, 256), (16, 64)):
        with torch.no_grad():
            sight = sight_of(vae, torch.zeros(1, 16, side, side))
        assert sight is not None
        assert (sight.image.size, sight.image.mode) == ((shown, shown), "RGB")
        assert sight.seconds > 0
    assert sight_of(vae, torch.full((1, 16, 16, 16), math.nan)) is None


def test_a_picture_is_not_looked_at_where_its_vae_waits_elsewhere() -> None:
    import torch

    from sosie.diffusion.glimpse import sight_of

    class Away(torch.nn.Module):
        device = torch.device("meta")
        dtype = torch.float32
        _hf_hook = type("Hook", (), {"execution_device": "cpu"})

    away: Any = Away()
    assert sight_of(away, torch.zeros(1, 4, 16, 16)) is None
