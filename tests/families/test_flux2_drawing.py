"""FLUX.2 klein in this process, on a model of two blocks of each kind with random weights."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import tiny_flux2 as tiny
from PIL import Image
from sights import watched

from sosie.families import drawer_of
from sosie.families.contract.draws import Settings

pytestmark = pytest.mark.local


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tiny.Made:
    return tiny.make(tmp_path_factory.mktemp("flux2"))


@pytest.fixture(scope="module")
def runner() -> Iterator[Any]:
    made = drawer_of("flux2").runner("cpu", Settings())
    yield made
    made.close()


def picture(seed: int, width: int = 64, height: int = 64) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8))


def latents(runner: Any, given: Any, side: int = tiny.SIDE, **under: Any) -> Any:
    import torch

    from sosie.diffusion.canvas import Canvas

    with torch.no_grad():
        return runner._pipelines.denoise(given, Canvas(side, side, **under))


def stock_latents(runner: Any, made: tiny.Made, given: Any, shape: Any, **call: Any) -> Any:
    """What diffusers' own pipeline makes of the same texts and noise, as tokens of mean 0 and deviation 1."""
    import torch

    from sosie.families.flux2.diffusers.latents import patches, statistics
    from sosie.families.flux2.diffusers.text import encode

    parts = runner._pipelines._model.parts
    pipeline = tiny.stock(made.folder, distilled=given.stage.sampler.cfg == 1)
    start = torch.randn(shape, generator=torch.Generator().manual_seed(given.seed))
    raw = pipeline(
        prompt_embeds=encode(parts, given.words)[None], negative_prompt_embeds=encode(parts, "")[None],
        height=tiny.SIDE, width=tiny.SIDE, num_inference_steps=given.stage.sampler.steps, latents=start,
        guidance_scale=given.stage.sampler.cfg, output_type="latent", **call,
    ).images  # fmt: skip
    mean, std = statistics(pipeline.vae, raw)
    return (patches(raw) - mean) / std


def test_a_folder_and_its_single_files_draw_the_same_pixels(made: tiny.Made, runner: Any) -> None:
    of_folder = np.asarray(runner.run(tiny.given(tiny.stage(), {"k": made.folder})).image)
    assert of_folder.shape == (tiny.SIDE, tiny.SIDE, 3)
    assert of_folder.std() > 5
    stage = tiny.stage(text_encoder="qwen", vae="ae")
    paths = {"k": made.transformer, "qwen": made.text_encoder, "ae": made.vae}
    np.testing.assert_array_equal(np.asarray(runner.run(tiny.given(stage, paths)).image), of_folder)


def test_looking_shows_every_step_small_and_changes_nothing(made: tiny.Made, runner: Any) -> None:
    given, seen = watched(tiny.given(tiny.stage(), {"k": made.folder}))
    looked = np.asarray(runner.run(given).image)
    assert [sight.image.size for sight in seen] == [(tiny.SIDE // 2, tiny.SIDE // 2)] * 3
    assert np.asarray(seen[0].image).std() > 1
    np.testing.assert_array_equal(looked, np.asarray(runner.run(tiny.given(tiny.stage(), {"k": made.folder})).image))


def test_the_single_file_of_the_tests_is_what_diffusers_own_converter_takes(made: tiny.Made) -> None:
    import torch
    from diffusers.loaders import single_file_utils
    from safetensors.torch import load_file

    library: Any = single_file_utils
    turned = library.convert_flux2_transformer_checkpoint_to_diffusers(load_file(made.transformer))
    own = tiny.modules()[0].state_dict()
    assert set(turned) == set(own)
    for name, tensor in own.items():
        assert torch.equal(turned[name], tensor), name


@pytest.mark.parametrize(("cfg", "references"), [(1.0, 0), (1.0, 2), (4.0, 1)])
def test_the_latents_are_those_of_the_stock_pipeline_to_1e_5(
    made: tiny.Made, runner: Any, cfg: float, references: int
) -> None:
    from sosie.families.flux2.guides.references import letterboxed

    pictures = [picture(seed, 80 - 24 * seed, 64) for seed in range(references)]
    guides = (tiny.guide(references=references),) if references else ()
    given = tiny.given(tiny.stage(cfg=cfg, guides=guides), {"k": made.folder}, pictures=pictures)
    ours = latents(runner, given)
    shown = [letterboxed(one, (tiny.SIDE, tiny.SIDE)) for one in pictures]
    stock = stock_latents(runner, made, given, ours.shape, **({"image": shown} if shown else {}))
    assert (ours - stock).abs().max() < 1e-5
    assert stock.std() > 0.3
    if references:
        assert (ours - latents(runner, tiny.given(tiny.stage(cfg=cfg), {"k": made.folder}))).abs().max() > 1e-3


def test_image_guidance_goes_from_without_references_through_with_them_and_beyond(made: tiny.Made, runner: Any) -> None:
    """With one step the latents are linear in it."""

    def drawn(scale: float, cfg: float) -> Any:
        guides = (tiny.guide(scale=scale, references=1),)
        stage = tiny.stage(steps=1, cfg=cfg, guides=guides)
        return latents(runner, tiny.given(stage, {"k": made.folder}, pictures=[picture(3)]))

    for cfg in (1.0, 3.0):
        none, once, more = (drawn(scale, cfg) for scale in (0.0, 1.0, 1.5))
        if cfg == 1.0:
            bare = latents(runner, tiny.given(tiny.stage(steps=1, cfg=cfg), {"k": made.folder}))
            assert (none - bare).abs().max() < 1e-6
            assert (more - (none + 1.5 * (once - none))).abs().max() < 1e-5
        assert (more - once).abs().max() > 1e-3
