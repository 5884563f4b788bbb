"""How SDXL's need of memory is estimated, which mode is chosen, and where parts are put."""

from __future__ import annotations

import subprocess
import sys
import weakref
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from places import ROOT

from sosie.core.errors import EngineError
from sosie.diffusion.memory import GB, MODES, choose, describe, next_mode
from sosie.families.sdxl.memory import PARAMETERS, ImageNeeds, Work, estimate, estimates

GUIDES = ("faceid-plus-v2", "instantid")
BODY = Work("generate", 1024, 1536, GUIDES)
FACE = Work("detail", 1024, 1024, GUIDES, controls=1)
TILE = Work("upscale", 512, 512)
STACK = ImageNeeds((BODY, FACE, TILE))

MEASURED = {
    ("full", "generate text"): 13.70,
    ("full", "generate denoise"): 14.36,
    ("full", "generate decode"): 18.40,
    ("full", "detail encode"): 15.34,
    ("full", "detail denoise"): 14.34,
    ("full", "detail decode"): 16.64,
    ("full", "upscale"): 15.95,
    ("tiled", "generate decode"): 15.51,
    ("offload", "generate text"): 4.02,
    ("offload", "generate denoise"): 8.86,
    ("offload", "generate decode"): 1.98,
    ("offload", "detail denoise"): 11.36,
    ("offload", "upscale"): 3.54,
    ("sequential", "generate text"): 1.24,
    ("sequential", "generate denoise"): 1.66,
    ("sequential", "detail denoise"): 1.68,
    ("fp8", "generate denoise"): 5.44,
    ("fp8", "detail denoise"): 6.66,
}
"""Gigabytes on an H100 (`docs/speed.md`)."""

sizes = st.integers(8, 256).map(lambda side: 8 * side)


@pytest.mark.parametrize(("mode", "moment"), MEASURED)
def test_an_estimate_is_within_15_percent_of_what_was_measured(mode: Any, moment: str) -> None:
    assert estimate(STACK, mode).moments[moment] / GB == pytest.approx(MEASURED[mode, moment], rel=0.15)


def test_the_whole_stack_fits_24_gigabytes_without_offload() -> None:
    assert choose(int(24 * GB), estimates(STACK)) == "full"
    assert choose(int(24 * GB), estimates(ImageNeeds(STACK.works, accelerated=True))) == "full"


def test_twelve_gigabytes_hold_the_stack_with_8_bit_weights_and_the_body_alone_without() -> None:
    assert choose(int(12 * GB), estimates(STACK)) == "fp8"
    assert choose(int(12 * GB), estimates(ImageNeeds((BODY, TILE)))) == "offload"


@given(width=sizes, height=sizes, rows=st.integers(1, 8), controls=st.integers(0, 2), fast=st.booleans())
def test_each_mode_needs_no_more_than_the_faster_one(
    width: int, height: int, rows: int, controls: int, fast: bool
) -> None:
    needs = ImageNeeds((Work("detail", width, height, GUIDES, controls, rows), TILE), accelerated=fast)
    peaks = {one.mode: one.peak for one in estimates(needs)}
    assert [peaks[mode] for mode in MODES] == sorted(peaks.values(), reverse=True)


@given(width=sizes, height=sizes, rows=st.integers(1, 8))
def test_more_pixels_rows_or_guides_never_need_less(width: int, height: int, rows: int) -> None:
    for mode in MODES:
        least = estimate(ImageNeeds((Work("refine", width, height, (), 0, rows),)), mode).peak
        for more in (
            Work("refine", width + 64, height, (), 0, rows),
            Work("refine", width, height, (), 0, rows + 2),
            Work("refine", width, height, ("instantid",), 1, rows),
        ):
            assert estimate(ImageNeeds((more,)), mode).peak >= least


@given(free=st.integers(int(4 * GB), int(80 * GB)))
def test_the_fastest_mode_that_fits_is_chosen(free: int) -> None:
    mode = choose(free, estimates(STACK))
    assert estimate(STACK, mode).peak < free
    assert all(estimate(STACK, faster).peak * 1.08 > free for faster in MODES[: MODES.index(mode)])


def test_a_card_that_is_too_small_is_an_error_that_says_how_much_is_needed() -> None:
    with pytest.raises(EngineError, match=r"1\.0 GB free.*'sequential'.*needs 3\.\d GB") as caught:
        choose(int(GB), estimates(STACK))
    assert "smaller image" in caught.value.hint


def test_after_running_out_of_memory_each_mode_has_a_cheaper_one_but_the_last() -> None:
    following = ["full"]
    while mode := next_mode(following[-1]):  # type: ignore[arg-type]
        following.append(mode)
    assert tuple(following) == MODES


def test_the_choice_is_said_with_what_the_faster_mode_would_need() -> None:
    text = describe("fp8", int(12 * GB), estimates(STACK))
    assert "'fp8'" in text
    assert "of 12.0 GB free" in text
    assert "'offload' needs 11.3 GB" in text
    assert "needs" not in describe("full", int(24 * GB), estimates(STACK))


def test_only_what_a_recipe_uses_counts() -> None:
    plain = estimate(ImageNeeds((Work("generate", 1024, 1024),)), "full").peak
    parts = {"instantid": 1, "faceid-plus-v2": 1, "faceid": 1}
    for guide in parts:
        extra = estimate(ImageNeeds((Work("generate", 1024, 1024, (guide,)),)), "full").peak - plain
        vision = PARAMETERS["image_encoder"] if guide == "faceid-plus-v2" else 0
        assert extra == 2 * (PARAMETERS[guide] + vision)
    net = estimate(ImageNeeds((Work("generate", 1024, 1024, (), controls=1),)), "full").moments["generate denoise"]
    assert net - estimate(ImageNeeds((Work("generate", 1024, 1024),)), "full").moments["generate denoise"] > 2.5 * GB


def test_an_adapter_shared_by_two_stages_counts_once() -> None:
    once = estimate(ImageNeeds((BODY,)), "full").moments["generate denoise"]
    assert estimate(ImageNeeds((BODY, BODY)), "full").moments["generate denoise"] == once


def test_fp32_needs_about_twice_as_much() -> None:
    half, full = (estimate(ImageNeeds(STACK.works, number=number), "full").peak for number in (2, 4))
    assert full / half == pytest.approx(2, rel=0.06)


def test_counts_from_the_files_replace_the_usual_ones() -> None:
    small = ImageNeeds(STACK.works, parameters={**PARAMETERS, "unet": 10**9})
    assert estimate(STACK, "full").peak - estimate(small, "full").peak == 2 * (PARAMETERS["unet"] - 10**9)


def test_estimating_imports_no_torch() -> None:
    code = "import sys, sosie.families.sdxl.memory; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


sys.path.insert(0, str(ROOT / "benchmarks"))


@pytest.fixture
def stack() -> Any:
    """A tiny ControlNet pipeline with identity adapters, encoders and a VAE, on the CPU."""
    pytest.importorskip("torch")
    import sdxl_parts as parts

    where = parts.Place(parts.TINY)
    made = parts.pipeline(where, parts.control(where))
    made.text_encoder, made.text_encoder_2 = parts.encoders(where)
    parts.add_identity(made.unet, where)
    return made


def draw(made: Any) -> Any:
    """An image of 64x64 px, as numbers."""
    import sdxl_parts as parts
    import torch

    where = parts.Place(parts.TINY)
    return made(
        **parts.text(where),
        image=parts.random((1, 3, 64, 64), where, 1).clamp(0, 1),
        ip_adapter_image_embeds=parts.faces(where),
        width=64,
        height=64,
        num_inference_steps=2,
        output_type="pt",
        generator=torch.Generator().manual_seed(1),
    ).images


@pytest.mark.local
def test_the_picture_is_the_same_in_every_mode_that_rounds_nothing(stack: Any) -> None:
    from sosie.diffusion.offload import place

    place(stack, "full", "cpu")
    whole = draw(stack)
    for mode in ("tiled", "offload", "sequential", "offload", "full"):
        place(stack, mode, "cpu")
        assert float((draw(stack) - whole).abs().max()) < 1e-5, mode
    assert not any(hasattr(module, "_hf_hook") for module in stack.unet.modules())


@pytest.mark.local
def test_a_model_that_rested_in_main_memory_draws_the_same_picture(stack: Any) -> None:
    from sosie.diffusion.offload import place, to_main_memory

    for mode in ("full", "offload", "sequential", "fp8"):
        place(stack, mode, "cpu")
        before = draw(stack)
        to_main_memory(stack)
        place(stack, mode, "cpu")
        assert float((draw(stack) - before).abs().max()) < 1e-5, mode


@pytest.mark.local
def test_a_closed_model_is_gone_at_once() -> None:
    """Its parts name each other in circles: left to the collector, they would hold the GPU beside what comes next."""
    import sdxl_parts as parts

    from sosie.families.contract.draws import Settings
    from sosie.families.sdxl.diffusers import pipeline as module

    made = parts.pipeline(parts.Place(parts.TINY))
    made.loop = SimpleNamespace(pipeline=made)
    gone = weakref.ref(made.unet)
    model = module.Model(("tiny",), made, module.Guides(made), module.Loras(made), dict(made.scheduler.config))
    pipelines = module.Pipelines("cpu", Settings())
    pipelines._model = model
    del made, model
    assert gone() is not None
    pipelines.close()
    assert gone() is None


@pytest.mark.local
def test_8_bits_round_the_weights_of_unet_and_controlnet_only_and_for_good(stack: Any) -> None:
    import torch

    from sosie.diffusion.offload import place

    whole = draw(stack)
    place(stack, "fp8", "cpu")
    place(stack, "fp8", "cpu")
    for part in (stack.unet, stack.controlnet):
        held = [parameter.dtype for parameter in part.parameters()]
        assert held.count(torch.float8_e4m3fn) > len(held) / 2
    for part in (stack.vae, stack.text_encoder, stack.text_encoder_2):
        assert {parameter.dtype for parameter in part.parameters()} == {torch.float32}
    drawn = draw(stack)
    assert bool(torch.isfinite(drawn).all())
    assert 0 < float((drawn - whole).abs().mean()) < 0.1
    with pytest.raises(EngineError, match="load the model anew"):
        place(stack, "offload", "cpu")


@pytest.mark.local
def test_only_the_group_at_work_is_on_the_gpu(stack: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    from sosie.diffusion.offload import place

    where = {"unet": "cpu", "controlnet": "cpu", "vae": "cpu", "text_encoder": "cpu", "text_encoder_2": "cpu"}
    names = {id(getattr(stack, name)): name for name in where}
    seen: list[set[str]] = []
    real = torch.nn.Module.to

    def moved(self: Any, *args: Any, **kwargs: Any) -> Any:
        if id(self) in names and args:
            where[names[id(self)]] = str(args[0])
        return self if "meta" in map(str, args) else real(self, *args, **kwargs)

    monkeypatch.setattr(torch.nn.Module, "to", moved)
    for kind in {type(getattr(stack, name)) for name in where}:
        monkeypatch.setattr(kind, "to", moved)
        there = property(lambda self: torch.device(where[names[id(self)]] if id(self) in names else "cpu"))
        monkeypatch.setattr(kind, "device", there)
    place(stack, "offload", "meta")
    for name in ("text_encoder", "text_encoder_2", "controlnet", "unet", "controlnet", "vae", "text_encoder"):
        part = getattr(stack, name)
        part._hf_hook.pre_forward(part)
        seen.append({name for name, device in where.items() if device == "meta"})
    assert seen == [
        {"text_encoder"},
        {"text_encoder", "text_encoder_2"},
        {"controlnet"},
        {"controlnet", "unet"},
        {"controlnet", "unet"},
        {"vae"},
        {"text_encoder"},
    ]


@pytest.mark.local
def test_a_part_that_waits_for_its_turn_is_said_to_work_on_the_gpu(stack: Any) -> None:
    import torch

    from sosie.diffusion.offload import device_of, place

    assert device_of(stack.vae) == torch.device("cpu")
    place(stack, "offload", "cuda")
    assert stack.vae.device == torch.device("cpu")
    assert device_of(stack.vae) == torch.device("cuda")


@pytest.mark.local
def test_tiles_come_and_go_with_the_mode(stack: Any) -> None:
    from sosie.diffusion.offload import place

    place(stack, "tiled", "cpu")
    assert stack.vae.use_tiling
    assert (stack.vae.tile_sample_min_size, stack.vae.tile_latent_min_size) == (512, 64)
    place(stack, "full", "cpu")
    assert not stack.vae.use_tiling


@pytest.mark.local
def test_controlnets_of_other_pipelines_take_turns_too(stack: Any) -> None:
    import sdxl_parts as parts

    from sosie.diffusion.offload import place

    other = parts.control(parts.Place(parts.TINY), seed=9)
    place(stack, "offload", "cpu", [other])
    assert other in stack.vae._hf_hook.others
    assert other not in stack.unet._hf_hook.others
