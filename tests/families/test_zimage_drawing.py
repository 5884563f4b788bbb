"""Z-Image in this process, on a model of two layers with random weights."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny_zimage as tiny
from PIL import Image
from sights import watched

from sosie.core import Sampler
from sosie.core.errors import BadModelError, EngineError
from sosie.families import drawer_of
from sosie.families.contract.draws import Settings

pytestmark = pytest.mark.local


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tiny.Made:
    return tiny.make(tmp_path_factory.mktemp("zimage"))


@pytest.fixture
def runner() -> Iterator[Any]:
    made = drawer_of("zimage").runner("cpu", Settings())
    yield made
    made.close()


def pixels(runner: Any, stage: Any, paths: dict[str, Path], source: Image.Image | None = None) -> Any:
    return np.asarray(runner.run(tiny.given(stage, paths, source)).image)


def single(made: tiny.Made) -> tuple[Any, dict[str, Path]]:
    stage = tiny.stage(text_encoder="qwen", vae="ae")
    return stage, {"z": made.transformer, "qwen": made.text_encoder, "ae": made.vae}


def test_a_folder_its_single_files_and_one_checkpoint_draw_the_same_pixels(made: tiny.Made, runner: Any) -> None:
    of_folder = pixels(runner, tiny.stage(), {"z": made.folder})
    assert of_folder.shape == (tiny.SIDE, tiny.SIDE, 3)
    assert of_folder.std() > 5
    np.testing.assert_array_equal(pixels(runner, *single(made)), of_folder)
    np.testing.assert_array_equal(pixels(runner, tiny.stage(), {"z": made.checkpoint}), of_folder)
    assert np.abs(pixels(runner, tiny.stage(cfg=1.0), {"z": made.folder}).astype(int) - of_folder).mean() > 1


def test_looking_shows_every_step_small_and_changes_nothing(made: tiny.Made, runner: Any) -> None:
    given, seen = watched(tiny.given(tiny.stage(), {"z": made.folder}))
    looked = np.asarray(runner.run(given).image)
    assert [sight.image.size for sight in seen] == [(tiny.SIDE // 2, tiny.SIDE // 2)] * 3
    assert np.asarray(seen[0].image).std() > 1
    np.testing.assert_array_equal(looked, np.asarray(runner.run(tiny.given(tiny.stage(), {"z": made.folder})).image))


def test_the_single_files_of_the_tests_are_those_that_diffusers_own_converters_take(made: tiny.Made) -> None:
    import torch
    from diffusers.loaders import single_file_utils
    from safetensors.torch import load_file

    library: Any = single_file_utils
    transformer, _, vae = tiny.modules()
    turned = library.convert_z_image_transformer_checkpoint_to_diffusers(load_file(made.transformer))
    for name, tensor in transformer.state_dict().items():
        assert torch.equal(turned[name], tensor.to(torch.bfloat16)), name
    turned = library.convert_ldm_vae_checkpoint(load_file(made.vae), dict(vae.config))
    for name, tensor in vae.state_dict().items():
        assert torch.equal(turned[name], tensor.to(torch.bfloat16)), name


def latents(runner: Any, given: Any, width: int = tiny.SIDE, height: int = tiny.SIDE, **under: Any) -> Any:
    import torch

    from sosie.diffusion.canvas import Canvas

    with torch.no_grad():
        return runner._pipelines.denoise(given, Canvas(width, height, **under))


@pytest.mark.parametrize("cfg", [1.0, 4.0])
def test_the_latents_are_those_of_the_stock_pipeline_but_for_rounding(made: tiny.Made, runner: Any, cfg: float) -> None:
    """Measured: 1e-4 of latents around 1 with these weights, 1.3e-5 after 20 steps of mini-z, both in float32.

    The stock pipeline's guidance is the field's less one.
    """
    import torch

    from sosie.families.zimage.diffusers.text import encode

    given = tiny.given(tiny.stage(cfg=cfg), {"z": made.folder})
    ours = latents(runner, given)
    parts = runner._pipelines._model.parts
    stock = tiny.pipeline(made.folder)
    reference = stock(
        prompt_embeds=[encode(parts, given.words)], negative_prompt_embeds=[encode(parts, "")], height=tiny.SIDE,
        width=tiny.SIDE, num_inference_steps=3, guidance_scale=cfg - 1, output_type="latent",
        latents=torch.randn(ours.shape, generator=torch.Generator().manual_seed(given.seed)),
    ).images  # fmt: skip
    assert (ours - reference).abs().max() < 1e-3
    assert reference.std() > 0.3


def test_the_states_of_a_text_are_those_of_the_stock_pipelines_encoder(made: tiny.Made) -> None:
    import torch

    from sosie.families.zimage.diffusers.load import Files, load_parts
    from sosie.families.zimage.diffusers.text import TURN, encode

    parts = load_parts(Files.of(made.folder), torch.float32)
    ids = parts.tokenizer.encode(TURN.format("a cat, naïve"), add_special_tokens=False).ids
    row = torch.zeros(1, 512, dtype=torch.long)
    row[0, : len(ids)] = torch.tensor(ids)
    with torch.no_grad():
        states = tiny.pipeline(made.folder).text_encoder(
            row, attention_mask=torch.arange(512)[None] < len(ids), output_hidden_states=True
        )
    assert (states.hidden_states[-2][0, : len(ids)] - encode(parts, "a cat, naïve")).abs().max() < 1e-5


def test_the_shipped_vocabulary_is_qwens() -> None:
    """Ids as Qwen's own tokenizer gives them."""
    from sosie.diffusion.qwen3.tokenizer import qwen_tokenizer

    text = "<|im_start|>user\nHello world, it's 12 o'clock<|im_end|>\n<|im_start|>assistant\n"
    ids = [151644, 872, 198, 9707, 1879, 11, 432, 594, 220, 16, 17, 297, 62410, 151645, 198, 151644, 77091, 198]
    assert qwen_tokenizer().encode(text, add_special_tokens=False).ids == ids
    assert qwen_tokenizer().token_to_id("</think>") == 151_668


def count(runner: Any, monkeypatch: pytest.MonkeyPatch, given: Any) -> tuple[list[int], int]:
    """The rows of each call of the transformer, and how often the text encoder is asked."""
    latents(runner, given)
    model = runner._pipelines._model
    rows: list[int] = []
    asked: list[int] = []
    forward, read = model.parts.transformer.forward, model.parts.text_encoder.forward

    def transformer(x: Any, *rest: Any, **named: Any) -> Any:
        rows.append(len(x))
        return forward(x, *rest, **named)

    def encoder(*rest: Any, **named: Any) -> Any:
        asked.append(1)
        return read(*rest, **named)

    monkeypatch.setattr(model.parts.transformer, "forward", transformer)
    monkeypatch.setattr(model.parts.text_encoder, "forward", encoder)
    latents(runner, given)
    model.texts.clear()
    latents(runner, given)
    return rows, len(asked)


def test_eight_steps_are_eight_evaluations_and_without_guidance_the_negative_text_is_not_even_read(
    made: tiny.Made, runner: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = tiny.given(tiny.stage(steps=8, cfg=1.0), {"z": made.folder})
    assert count(runner, monkeypatch, given) == ([1] * 16, 1)


def test_texts_of_one_padded_length_go_together_and_others_one_after_the_other(
    made: tiny.Made, runner: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = tiny.given(tiny.stage(steps=2), {"z": made.folder})
    with monkeypatch.context() as patch:
        assert count(runner, patch, given) == ([2] * 4, 2)
    long = tiny.given(tiny.stage(steps=2), {"z": made.folder}, prompt="a red hat, " * 9)
    assert count(runner, monkeypatch, long) == ([1] * 8, 2)


@pytest.mark.parametrize("name", ["res_multistep", "uni_pc", "dpmpp_2m_sde"])
def test_each_sampler_draws_and_keeps_what_may_not_change(made: tiny.Made, runner: Any, name: str) -> None:
    import torch

    from sosie.diffusion.vae import encode_image

    source = picture()
    change = np.zeros((64, 64), np.float32)
    change[16:48, 16:48] = 1.0
    stage = tiny.stage("refine", steps=6, denoise=0.7)
    stage = replace(stage, sampler=replace(stage.sampler, name=name, schedule="simple"))
    drawn = latents(runner, tiny.given(stage, {"z": made.folder}, source), under=source, change=change)
    with torch.no_grad():
        kept = encode_image(runner._pipelines.vae, source)
    moved = (drawn - kept).abs().amax(dim=(0, 1))
    assert moved[:2].max() < 1e-2  # uni_pc ends at noise level 0.001
    assert moved[2:6, 2:6].min() > 0.05


def test_a_side_of_half_a_token_is_drawn(made: tiny.Made, runner: Any) -> None:
    given = tiny.given(tiny.stage(), {"z": made.folder})
    assert latents(runner, given, 72, 64).shape == (1, 16, 8, 9)


def picture(seed: int = 3) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 255, (8, 8, 3), np.uint8)).resize((64, 64))


def test_less_noise_stays_nearer_to_the_image_that_is_drawn_over(made: tiny.Made, runner: Any) -> None:
    import torch

    from sosie.diffusion.vae import encode_image

    source = picture()
    far = []
    for denoise in (0.2, 0.5, 1.0):
        given = tiny.given(tiny.stage("refine", steps=10, denoise=denoise), {"z": made.folder}, source)
        drawn = latents(runner, given, under=source)
        with torch.no_grad():
            kept = encode_image(runner._pipelines.vae, source)
        far.append(float((drawn - kept).abs().mean()))
    assert far[0] < far[1] < far[2]
    output = runner.run(tiny.given(tiny.stage("refine", denoise=0.5), {"z": made.folder}, source)).image
    assert output.size == source.size


def test_where_nothing_may_change_the_latents_stay_those_of_the_image(made: tiny.Made, runner: Any) -> None:
    import torch

    from sosie.diffusion.vae import encode_image

    source = picture()
    change = np.zeros((64, 64), np.float32)
    change[16:48, 16:48] = 1.0
    change[16:48, 32:48] = 0.5
    given = tiny.given(tiny.stage("refine", steps=8, denoise=0.8), {"z": made.folder}, source)
    drawn = latents(runner, given, under=source, change=change)
    with torch.no_grad():
        kept = encode_image(runner._pipelines.vae, source)
    moved = (drawn - kept).abs().amax(dim=(0, 1))
    inside = torch.zeros(8, 8, dtype=torch.bool)
    inside[2:6, 2:6] = True
    assert moved[~inside].max() < 1e-5
    assert moved[2:6, 2:4].min() > 0.05
    assert moved[2:6, 4:6].mean() < moved[2:6, 2:4].mean()


def test_a_lora_changes_the_picture_and_leaves_the_model_as_it_was(
    made: tiny.Made, runner: Any, tmp_path: Path
) -> None:
    """As ai-toolkit writes it, split and without alpha, on the fused file of the model."""
    import torch
    from safetensors.torch import save_file

    from sosie.core.recipe import LoraUse

    torch.manual_seed(4)
    names = [f"attention.{one}" for one in ("to_q", "to_k", "to_v", "to_out.0")]
    tensors = {}
    for layer in range(2):
        for name in names:
            stem = f"diffusion_model.layers.{layer}.{name}"
            tensors[f"{stem}.lora_A.weight"] = torch.randn(4, tiny.WIDTH) * 0.3
            tensors[f"{stem}.lora_B.weight"] = torch.randn(tiny.WIDTH, 4) * 0.3
    save_file(tensors, tmp_path / "lora.safetensors")
    stage, paths = single(made)
    before = pixels(runner, stage, paths)
    weights = {name: tensor.clone() for name, tensor in runner._pipelines._model.parts.transformer.state_dict().items()}
    used = replace(stage, loras=(LoraUse("lora", 1.0),))
    after = pixels(runner, used, {**paths, "lora": tmp_path / "lora.safetensors"})
    changed = {
        name
        for name, tensor in runner._pipelines._model.parts.transformer.state_dict().items()
        if not torch.equal(tensor, weights[name])
    }
    assert changed == {f"layers.{layer}.{name}.weight" for layer in range(2) for name in names}
    assert np.abs(after.astype(int) - before).mean() > 0.5
    np.testing.assert_array_equal(pixels(runner, stage, paths), before)


# What is refused, before a tensor is read


def swapped(field: str, other: str) -> Callable[[tiny.Made, Path], dict[str, Path]]:
    def paths(made: tiny.Made, _: Path) -> dict[str, Path]:
        return {**single(made)[1], field: getattr(made, other)}

    return paths


def cut(made: tiny.Made, folder: Path) -> dict[str, Path]:
    """Without one of its tensors."""
    from safetensors.torch import load_file, save_file

    tensors = load_file(made.transformer)
    del tensors["layers.1.feed_forward.w2.weight"]
    save_file(tensors, folder / "cut.safetensors")
    return {**single(made)[1], "z": folder / "cut.safetensors"}


def wide(made: tiny.Made, folder: Path) -> dict[str, Path]:
    """Another width of text."""
    from safetensors.torch import load_file, save_file

    tensors = load_file(made.transformer)
    tensors["cap_embedder.0.weight"] = tensors["cap_embedder.0.weight"].new_ones(48)
    tensors["cap_embedder.1.weight"] = tensors["cap_embedder.1.weight"].new_ones(tiny.WIDTH, 48)
    save_file(tensors, folder / "wide.safetensors")
    return {**single(made)[1], "z": folder / "wide.safetensors"}


@pytest.mark.parametrize(
    ("broken", "expected"),
    [
        (swapped("z", "vae"), r"ae\.safetensors .*; expected the transformer of Z-Image"),
        (swapped("qwen", "vae"), r"ae\.safetensors .*; expected the text encoder of Z-Image"),
        (swapped("ae", "text_encoder"), r"qwen\.safetensors .*; expected the vae of Z-Image"),
        (cut, r"it lacks 1 tensors, first layers\.1\.feed_forward\.w2\.weight"),
        (wide, r"gives states 32 wide; .*wide\.safetensors takes 48"),
    ],
)
def test_a_file_that_is_not_the_part_or_not_whole_is_named(
    made: tiny.Made, runner: Any, tmp_path: Path, broken: Callable[[tiny.Made, Path], dict[str, Path]], expected: str
) -> None:
    stage, _ = single(made)
    with pytest.raises(BadModelError, match=expected):
        runner.run(tiny.given(stage, broken(made, tmp_path)))


def test_a_prompt_longer_than_the_transformers_positions_is_refused(made: tiny.Made, runner: Any) -> None:
    given = tiny.given(tiny.stage(), {"z": made.folder}, prompt="cat dog " * 900)
    with pytest.raises(EngineError, match=r"the prompt has 1\d\d\d tokens; Z-Image takes 1503"):
        runner.run(given)


def test_a_tokenizer_of_another_vocabulary_is_refused(made: tiny.Made, runner: Any, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    shutil.copytree(made.folder, folder)
    (folder / "tokenizer").mkdir()
    (folder / "tokenizer" / "tokenizer.json").write_text("{}")
    with pytest.raises(BadModelError, match=r"tokenizer\.json is no tokenizer"):
        runner.run(tiny.given(tiny.stage(), {"z": folder}))


def test_products_in_fp8_need_a_gpu(made: tiny.Made, runner: Any) -> None:
    with pytest.raises(EngineError, match="there are no products in fp8: this is a CPU"):
        runner.run(tiny.given(replace(tiny.stage(), precision="fp8"), {"z": made.folder}))


def test_fp8_is_said_to_be_missing_where_it_is_from_the_plan_alone() -> None:
    for family in ("sdxl", "esrgan"):
        asked = replace(tiny.stage("upscale" if family == "esrgan" else "generate"), family=family, precision="fp8")
        assert "SOS-E014" in {one.code for one in drawer_of(family).check(asked, tiny.planned(asked))}
    asked = replace(tiny.stage(), precision="fp8")
    assert not drawer_of("zimage").check(asked, tiny.planned(asked))


def test_what_cannot_be_drawn_is_said_from_the_plan_alone() -> None:
    wrong = replace(tiny.stage(), precision="fp16", clip_skip=1, sampler=Sampler(name="eulr"))
    found = {one.code for one in drawer_of("zimage").check(wrong, tiny.planned(wrong))}
    assert found == {"SOS-E002", "SOS-E011", "SOS-E014"}
    schedule = replace(tiny.stage(), sampler=Sampler(schedule="karras"))
    assert [one.code for one in drawer_of("zimage").check(schedule, tiny.planned(schedule))] == ["SOS-E003"]
    upscale = replace(tiny.stage("upscale"), sampler=Sampler())
    assert [one.code for one in drawer_of("zimage").check(upscale, tiny.planned(upscale))] == ["SOS-E001"]
