"""Upscaling: tiles, passes and exact sizes, which files are taken and which are refused, and the shipped upscaler."""

from __future__ import annotations

import importlib.util
import itertools
import os
import sys
import tracemalloc
from collections.abc import Callable, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
from hypothesis import given as examples
from hypothesis import settings
from hypothesis import strategies as st
from PIL import Image
from places import ROOT
from safetensors.numpy import load_file, save_file

from sosie.core import Character, Draw, Plan, Recipe, Request, Stage, Upscale, plan
from sosie.core.errors import BadModelError, EngineError, NotFoundError
from sosie.core.recipe import Precision
from sosie.families import families
from sosie.families.contract.draws import Settings, StageInput, StageOutput
from sosie.families.esrgan import weights
from sosie.families.esrgan.on_diffusers import Runner, check
from sosie.families.esrgan.tiles import grid, join
from sosie.files.model_file import Known, identify
from sosie.files.pickles.records import PickleError
from sosie.workspace.bill import resolve_one
from sosie.workspace.library import installed_models
from sosie.workspace.workspace import open_workspace

pytestmark = pytest.mark.local

Tensors = dict[str, np.ndarray]


def convolution(draw: np.random.Generator, outputs: int, inputs: int, gain: float = 1.3) -> np.ndarray:
    return draw.normal(0, gain / np.sqrt(9 * inputs), (outputs, inputs, 3, 3)).astype(np.float32)


def compact(scale: int = 4, channels: int = 3, width: int = 8, layers: int = 4) -> Tensors:
    """RealESRGAN compact: `body.N.weight`."""
    draw = np.random.default_rng(1)
    sizes = [channels, *[width] * layers, channels * scale**2]
    state: Tensors = {}
    for index, (inputs, outputs) in enumerate(itertools.pairwise(sizes)):
        state[f"body.{2 * index}.weight"] = convolution(draw, outputs, inputs)
        state[f"body.{2 * index}.bias"] = np.zeros(outputs, np.float32)
        if index < layers:
            state[f"body.{2 * index + 1}.weight"] = np.full(outputs, 0.2, np.float32)
    return state


def rrdb(names: Mapping[str, str], inputs: int = 3, width: int = 8) -> Tensors:
    """RRDBNet of one block with its parts called by `names`; it gives values around 0.5."""
    draw = np.random.default_rng(2)
    state: Tensors = {}

    def add(name: str, outputs: int, inputs: int, bias: float = 0.0) -> None:
        state[f"{name}.weight"] = convolution(draw, outputs, inputs)
        state[f"{name}.bias"] = np.full(outputs, bias, np.float32)

    add(names["first"], width, inputs)
    for dense in (1, 2, 3):
        for layer in range(1, 6):
            outputs = width if layer == 5 else 32
            add(names["dense"].format(dense=dense, layer=layer), outputs, width + 32 * (layer - 1))
    for part in ("trunk", "up1", "up2", "hr"):
        add(names[part], width, width)
    add(names["last"], 3, width, 0.5)
    return state


OLD = {
    "first": "model.0",
    "dense": "model.1.sub.0.RDB{dense}.conv{layer}.0",
    "trunk": "model.1.sub.1",
    "up1": "model.3",
    "up2": "model.6",
    "hr": "model.8",
    "last": "model.10",
}
NEW = {
    "first": "conv_first",
    "dense": "body.0.rdb{dense}.conv{layer}",
    "trunk": "conv_body",
    "up1": "conv_up1",
    "up2": "conv_up2",
    "hr": "conv_hr",
    "last": "conv_last",
}
LAYOUTS: dict[str, tuple[Callable[[], Tensors], int]] = {
    "old ESRGAN": (lambda: rrdb(OLD), 4),
    "Real-ESRGAN": (lambda: rrdb(NEW), 4),
    "Real-ESRGAN x2": (lambda: rrdb(NEW, inputs=12), 2),
    "compact": (compact, 4),
    "compact x2": (lambda: compact(2), 2),
}


def saved(path: Path, state: Tensors) -> Path:
    save_file(state, path)
    return path


def noise(width: int, height: int, seed: int = 0) -> Image.Image:
    """Smooth at some places and rough at others."""
    draw = np.random.default_rng(seed)
    small = Image.fromarray(draw.integers(0, 256, (5, 5, 3), np.uint8)).resize(
        (width, height), Image.Resampling.BICUBIC
    )
    rough = draw.normal(0, 12, (height, width, 3)) * (np.arange(width) % 40 < 20)[None, :, None]
    return Image.fromarray((np.asarray(small) + rough).clip(0, 255).astype(np.uint8))


def planned(upscale: Upscale, precision: Precision = "auto") -> Plan:
    stage = Stage("upscale", "esrgan", "up", precision=precision, upscale=upscale)
    recipe = Recipe("enlarge", (stage,), "{prompt}", 64, 64)
    request = Request("enlarge", "mira", "x", source="0" * 64, width=64, height=64)
    return plan(recipe, Character("mira", "fictional", True), request, Draw(), {"up": "1" * 64})


def given(
    image: Image.Image,
    path: Path,
    upscale: Upscale,
    on_step: Callable[[int, int], None] = lambda done, steps: None,
    precision: Precision = "auto",
) -> StageInput:
    made = planned(upscale, precision)
    return StageInput(made.stages[0], made, 0, image, {"up": path}, cast(Any, None), on_step)


def upscaled(image: Image.Image, path: Path, upscale: Upscale, precision: Precision = "auto") -> StageOutput:
    return Runner("cpu", Settings()).run(given(image, path, upscale, precision=precision))


def distance(one: Image.Image, two: Image.Image) -> np.ndarray:
    """The largest difference of the channels, in levels, at each pixel."""
    return np.abs(np.asarray(one, int) - np.asarray(two, int)).max(axis=2)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return saved(tmp_path / "compact.safetensors", compact())


# Tiles


@examples(
    length=st.integers(1, 700),
    tile=st.integers(32, 128),
    share=st.floats(0, 0.49),
    multiple=st.sampled_from([1, 2, 4, 16]),
)
@settings(max_examples=150, deadline=None)
def test_tiles_cover_every_pixel_are_no_larger_than_asked_and_share_what_was_asked(
    length: int, tile: int, share: float, multiple: int
) -> None:
    overlap = int(share * tile)
    spans = grid((length, 1), tile, overlap, multiple).columns
    assert (spans[0].start, spans[-1].end) == (0, length)
    assert all(0 < span.end - span.start <= tile for span in spans)
    assert all(one.start < two.start and one.end - two.start >= overlap for one, two in itertools.pairwise(spans))


@examples(width=st.integers(1, 90), height=st.integers(1, 90), overlap=st.integers(0, 15), scale=st.integers(1, 4))
@settings(max_examples=60, deadline=None)
def test_tiles_that_are_enlarged_alike_are_joined_as_if_they_had_been_one(
    width: int, height: int, overlap: int, scale: int
) -> None:
    image = np.asarray(noise(width, height))

    def larger(tile: np.ndarray) -> np.ndarray:
        return np.repeat(np.repeat(tile, scale, 0), scale, 1).astype(np.float32) / 255

    joined = join(image, grid((width, height), 32, overlap), scale, larger)
    assert np.array_equal(joined, np.repeat(np.repeat(image, scale, 0), scale, 1))


def test_memory_is_bounded_by_a_row_of_tiles_and_not_by_the_image() -> None:
    image = np.zeros((3000, 64, 3), np.uint8)

    def larger(tile: np.ndarray) -> np.ndarray:
        return np.zeros((tile.shape[0] * 4, tile.shape[1] * 4, 3), np.float32)

    result = 3000 * 4 * 64 * 4 * 3
    tracemalloc.start()
    join(image, grid((64, 3000), 64, 16), 4, larger)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1.6 * result  # the whole image as float32 alone would be 4 times the result


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_tiled_result_is_the_untiled_one_but_for_a_few_levels_near_the_cuts(tmp_path: Path, layout: str) -> None:
    make, scale = LAYOUTS[layout]
    path, image = saved(tmp_path / "m.safetensors", make()), noise(110, 100)
    whole = upscaled(image, path, Upscale(scale, 512, 32)).image
    apart = distance(whole, upscaled(image, path, Upscale(scale, 96, 32)).image)
    seams = distance(whole, upscaled(image, path, Upscale(scale, 96, 0)).image)
    middle = apart[: 28 * scale, : 30 * scale]  # more than 20 px away from the cuts at 50 and 56 px
    assert middle.max() <= 1
    assert apart.max() <= 2
    assert seams.max() > 3 * apart.max()  # without an overlap they would show


def test_no_tile_that_the_network_sees_is_larger_than_asked(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sides: list[int] = []
    watched(monkeypatch, lambda image: sides.extend(image.shape[-2:]))
    upscaled(noise(200, 90), model, Upscale(4, 64, 16))
    assert max(sides) <= 64
    assert len(sides) >= 2 * 8


# Sizes and passes


@pytest.mark.parametrize(
    ("size", "factor", "passes"),
    [((65, 97), 4, 1), ((65, 97), 2, 1), ((33, 70), 3.3, 1), ((71, 35), 1.5, 1), ((31, 47), 7, 2), ((17, 20), 16, 2)],
)
def test_the_size_is_the_factor_times_the_source_to_the_pixel(
    model: Path, size: tuple[int, int], factor: float, passes: int
) -> None:
    output = upscaled(noise(*size), model, Upscale(factor))
    assert output.image.size == (round(size[0] * factor), round(size[1] * factor))
    assert output.image.mode == "RGB"
    assert dict(output.measures)["passes"] == passes


def test_a_factor_above_the_networks_own_is_the_network_twice(tmp_path: Path) -> None:
    path, image = saved(tmp_path / "x2.safetensors", compact(2)), noise(40, 30)
    once = upscaled(image, path, Upscale(2)).image
    assert distance(upscaled(once, path, Upscale(2)).image, upscaled(image, path, Upscale(4)).image).max() == 0


def test_no_pass_makes_more_pixels_than_the_result_needs(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pixels: list[int] = []
    watched(monkeypatch, lambda image: pixels.append(image.shape[-1] * image.shape[-2]))
    upscaled(noise(64, 64), model, Upscale(5))
    assert pixels == [64 * 64, 80 * 80]


# Progress and interruption


def test_progress_counts_the_tiles_of_all_passes_to_the_end(model: Path) -> None:
    steps: list[tuple[int, int]] = []
    runner = Runner("cpu", Settings())
    output = runner.run(given(noise(40, 40), model, Upscale(8, 64, 16), lambda *step: steps.append(step)))
    tiles = int(dict(output.measures)["tiles"])
    assert tiles == 1 + 4
    assert {total for _, total in steps} == {tiles}
    assert list(dict.fromkeys(done for done, _ in steps)) == list(range(tiles + 1))


def test_an_interrupted_image_leaves_a_runner_that_works(model: Path) -> None:
    class StopError(Exception):
        pass

    def stop(done: int, steps: int) -> None:
        if done == 2:
            raise StopError

    runner, image = Runner("cpu", Settings()), noise(120, 60)
    with pytest.raises(StopError):
        runner.run(given(image, model, Upscale(4, 64, 16), stop))
    again = runner.run(given(image, model, Upscale(4, 64, 16))).image
    assert distance(again, upscaled(image, model, Upscale(4, 64, 16)).image).max() == 0
    runner.close()


# Which files are taken


@pytest.mark.parametrize("layout", LAYOUTS)
def test_each_layout_of_keys_is_loaded_at_its_own_scale(tmp_path: Path, layout: str) -> None:
    make, scale = LAYOUTS[layout]
    path = saved(tmp_path / "m.safetensors", make())
    assert weights.load_upscaler(path).scale == scale
    output = upscaled(noise(24, 20), path, Upscale(scale)).image
    assert np.asarray(output).std() > 3


def test_a_pickled_file_gives_the_picture_of_its_tensors_and_averaged_weights_come_first(
    tmp_path: Path, model: Path
) -> None:
    import torch

    state = {name: torch.from_numpy(value) for name, value in compact().items()}
    other = {name: value + 1 for name, value in state.items()}
    torch.save({"params": other, "params_ema": state}, tmp_path / "m.pth")
    expected = upscaled(noise(30, 30), model, Upscale(4)).image
    assert distance(upscaled(noise(30, 30), tmp_path / "m.pth", Upscale(4)).image, expected).max() == 0
    both = {f"params.{name}": value.numpy() for name, value in other.items()}
    both |= {f"params_ema.{name}": value for name, value in compact().items()}
    path = saved(tmp_path / "prefixed.safetensors", both)
    assert distance(upscaled(noise(30, 30), path, Upscale(4)).image, expected).max() == 0


def test_a_pickled_file_with_code_in_it_is_refused_by_name_and_the_code_never_runs(tmp_path: Path) -> None:
    import torch

    class Evil:
        def __reduce__(self) -> Any:
            return os.system, (f"touch {tmp_path / 'ran'}",)

    torch.save({"params_ema": Evil()}, tmp_path / "evil.pth")
    with pytest.raises(PickleError, match=r"evil\.pth.*system"):
        upscaled(noise(30, 30), tmp_path / "evil.pth", Upscale(4))
    assert not (tmp_path / "ran").exists()


REFUSED: dict[str, tuple[Tensors, str]] = {
    "a LoRA": ({"lora_unet_mid_block.lora_down.weight": np.zeros((4, 8), np.float32)}, "spandrel knows no network"),
    "grey": (compact(channels=1), "1 channels to 1"),
    "a restorer": (compact(1), "made for Restoration, 1x"),
    "wrong shapes": ({**compact(), "body.2.weight": np.zeros((8, 5, 3, 3), np.float32)}, "could not load it"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_a_file_of_another_kind_is_refused_with_what_was_found(tmp_path: Path, kind: str) -> None:
    state, why = REFUSED[kind]
    path = saved(tmp_path / "other.safetensors", state)
    with pytest.raises(
        BadModelError, match=rf"other\.safetensors is not an upscaler that can be used: .*{why}"
    ) as error:
        upscaled(noise(30, 30), path, Upscale(4))
    assert error.value.hint == f"sosie model show {path}"


def test_a_file_of_another_family_is_refused_before_its_tensors_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[Path] = []
    monkeypatch.setattr(weights, "_tensors", read.append)
    path = saved(tmp_path / "sdxl.safetensors", {"model.diffusion_model.out.2.weight": np.zeros((4, 320, 3, 3), "f2")})
    with pytest.raises(BadModelError):
        upscaled(noise(30, 30), path, Upscale(4))
    assert read == []


def test_a_truncated_and_a_missing_file_are_said_to_be_so(model: Path) -> None:
    model.write_bytes(model.read_bytes()[:-100])
    with pytest.raises(BadModelError, match="truncated"):
        upscaled(noise(30, 30), model, Upscale(4))
    with pytest.raises(NotFoundError):
        upscaled(noise(30, 30), model.with_name("none.safetensors"), Upscale(4))


# Memory and precision


def watched(monkeypatch: pytest.MonkeyPatch, look: Callable[[Any], object]) -> None:
    """`look` is shown every tensor that a network is given, and may raise."""
    import spandrel

    call = spandrel.ImageModelDescriptor.__call__

    def seen(self: Any, image: Any) -> Any:
        result = look(image)
        return call(self, image) if result is None else result

    monkeypatch.setattr(spandrel.ImageModelDescriptor, "__call__", seen)


@pytest.mark.parametrize("kind", ["OutOfMemoryError", "RuntimeError"])
def test_out_of_memory_takes_smaller_tiles_and_says_so(model: Path, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    import torch

    error = {"OutOfMemoryError": torch.OutOfMemoryError, "RuntimeError": RuntimeError}[kind]

    def small_only(image: Any) -> None:
        if max(image.shape[-2:]) > 100:
            raise error("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes")

    expected = upscaled(noise(400, 90), model, Upscale(4, 75, 18)).image
    watched(monkeypatch, small_only)
    output = upscaled(noise(400, 90), model, Upscale(4, 300, 32))
    assert distance(output.image, expected).max() <= 4
    assert [finding.code for finding in output.findings] == ["SOS-E060", "SOS-E060"]
    assert "300 px; went on with 150 px" in output.findings[0].message
    assert dict(output.measures)["tile_px"] == 75


def test_out_of_memory_at_the_smallest_tile_is_an_error(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    sides: list[int] = []

    def never(image: Any) -> None:
        sides.append(max(image.shape[-2:]))
        raise torch.OutOfMemoryError("CUDA out of memory")

    watched(monkeypatch, never)
    with pytest.raises(EngineError, match="64 px does not fit the memory"):
        upscaled(noise(200, 90), model, Upscale(4))
    assert sides == sorted(sides, reverse=True)
    assert sides[-1] <= 64


def test_what_is_no_number_in_16_bits_is_made_again_in_fp32(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    expected = upscaled(noise(50, 50), model, Upscale(4)).image

    def overflowing(image: Any) -> Any:
        return None if image.dtype == torch.float32 else torch.full((1, 3, 200, 200), torch.nan)

    watched(monkeypatch, overflowing)
    output = upscaled(noise(50, 50), model, Upscale(4), "bf16")
    assert distance(output.image, expected).max() == 0
    assert [finding.code for finding in output.findings] == ["SOS-E061"]
    assert "bfloat16" in output.findings[0].message


def test_weights_that_are_no_numbers_are_an_error(tmp_path: Path) -> None:
    state = compact()
    state["body.0.bias"][0] = np.nan
    with pytest.raises(EngineError, match="no numbers"):
        upscaled(noise(50, 50), saved(tmp_path / "m.safetensors", state), Upscale(4))


def test_fp16_and_bf16_differ_from_fp32_by_a_few_levels(model: Path) -> None:
    image = noise(40, 40)
    exact = upscaled(image, model, Upscale(4)).image
    assert 0 < distance(upscaled(image, model, Upscale(4), "bf16").image, exact).max() <= 6
    assert distance(upscaled(image, model, Upscale(4), "fp16").image, exact).max() <= 1


# Before a run


def test_the_check_knows_stages_sizes_and_packages(monkeypatch: pytest.MonkeyPatch) -> None:
    good = planned(Upscale(4))
    assert check(good.stages[0], good) == []
    other = SimpleNamespace(kind="generate", upscale=Upscale(), precision="auto")
    assert [finding.code for finding in check(cast(Any, other), good)] == ["SOS-E001"]
    large = planned(Upscale(16))
    object.__setattr__(large, "width", 8192)
    assert [finding.code for finding in check(large.stages[0], large)] == ["SOS-E062"]
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert [finding.code for finding in check(good.stages[0], good)] == ["SOS-E004"]


# The shipped upscaler


@pytest.fixture(scope="module")
def shipped(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return resolve_one(open_workspace(tmp_path_factory.mktemp("workspace")), "mini-upscaler").located


def test_the_shipped_upscaler_is_a_model_by_name_and_known_for_what_it_is(shipped: Path, tmp_path: Path) -> None:
    assert installed_models(open_workspace(tmp_path))["mini-upscaler"].licence == "CC0-1.0"
    answer = identify(shipped, families())
    assert isinstance(answer, Known)
    assert (answer.model.family, answer.model.role, answer.model.storage) == ("esrgan", "upscaler", "fp16")
    assert shipped.stat().st_size < 1_500_000


def test_the_training_tool_makes_the_network_that_is_shipped(shipped: Path) -> None:
    spec = importlib.util.spec_from_file_location(
        "train_upscaler", ROOT / "packages" / "sosie-mini" / "tools" / "train_upscaler.py"
    )
    assert spec is not None
    assert spec.loader is not None
    tool = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = tool
    spec.loader.exec_module(tool)
    import torch

    network = tool.Compact()
    network.load_state_dict({name: torch.from_numpy(value).float() for name, value in load_file(shipped).items()})
    image = noise(40, 30)
    with torch.no_grad():
        made = network(torch.from_numpy(np.array(image)).permute(2, 0, 1)[None] / 255)[0].permute(1, 2, 0)
    expected = Image.fromarray((made.clamp(0, 1) * 255).round().byte().numpy())
    assert distance(upscaled(image, shipped, Upscale(4)).image, expected).max() <= 1


@pytest.mark.parametrize("factor", [2, 4])
def test_the_shipped_upscaler_beats_lanczos_on_a_person_it_never_saw(shipped: Path, factor: int) -> None:
    gains: list[float] = []
    for name in ("02", "09"):
        sharp = Image.open(ROOT / "examples" / "mira" / f"{name}.jpg").convert("RGB").crop((100, 60, 420, 380))
        small = sharp.resize((320 // factor, 320 // factor), Image.Resampling.BOX)
        made = upscaled(small, shipped, Upscale(factor)).image
        plain = small.resize(sharp.size, Image.Resampling.LANCZOS)
        gains.append(psnr(made, sharp) - psnr(plain, sharp))
        shift = np.asarray(made, float).mean((0, 1)) - np.asarray(sharp, float).mean((0, 1))
        assert np.abs(shift).max() < 0.5
    assert min(gains) > 1.5


def psnr(made: Image.Image, sharp: Image.Image) -> float:
    error = np.square(np.asarray(made, float) - np.asarray(sharp, float)).mean()
    return float(10 * np.log10(255**2 / error))


def test_the_shipped_upscaler_draws_no_checkerboard_into_what_is_smooth(shipped: Path) -> None:
    for colour in ((0, 0, 0), (255, 255, 255), (222, 184, 150), (20, 30, 90), (200, 60, 40)):
        made = upscaled(Image.new("RGB", (48, 48), colour), shipped, Upscale(4)).image
        assert np.abs(np.asarray(made, int) - colour)[80:-80, 80:-80].max() == 0
    x, y = np.meshgrid(np.linspace(40, 220, 64), np.linspace(200, 60, 64))
    ramp = Image.fromarray(np.stack([x, y, x / 2 + y / 2], axis=2).round().astype(np.uint8))
    plain = ramp.resize((256, 256), Image.Resampling.BICUBIC)
    assert distance(upscaled(ramp, shipped, Upscale(4)).image, plain)[16:-16, 16:-16].max() <= 3
