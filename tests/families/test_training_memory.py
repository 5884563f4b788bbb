"""The memory that training SDXL needs: the estimate against counted tensors, and what the doctor makes of it."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from places import ROOT

from sosie.core.recipe import Training
from sosie.families.sdxl import training_memory
from sosie.families.sdxl.training_memory import adapters, moments, training_peak
from sosie.workspace.recipes import read_recipe

Sosie = Callable[..., Any]

PLAIN = Training(rank=16, resolution=1024, batch=1)
CHECKPOINTED = replace(PLAIN, gradient_checkpointing=True)
SAMPLE = (1024, 1024)
GB = 1e9


def kept(training: Training) -> float:
    return training_memory._passes(training, 2)[0] / GB  # pyright: ignore[reportPrivateUsage]


def needed(training: Training, moment: str) -> float:
    return moments(training, SAMPLE)[moment] / GB


def test_what_a_pass_keeps_is_what_was_counted_in_a_full_size_unet() -> None:
    # Storages that autograd saved in diffusers' UNet in bf16 with a LoRA on 722 layers, parameters left out.
    assert kept(PLAIN) == pytest.approx(6.751, rel=0.03)
    assert kept(replace(PLAIN, rank=64)) == pytest.approx(6.835, rel=0.03)
    assert kept(replace(PLAIN, batch=2)) == pytest.approx(13.501, rel=0.03)
    assert kept(replace(PLAIN, resolution=512)) == pytest.approx(1.707, rel=0.03)
    one_block = 4096 * 2 * (28 * 640 + 8 * 16) / GB  # the largest, which is computed again
    assert kept(CHECKPOINTED) == pytest.approx(0.573 + one_block, rel=0.12)


def test_published_cards_train_what_they_are_known_to_train() -> None:
    assert 8 < needed(CHECKPOINTED, "train") < 10
    assert 13 < needed(PLAIN, "train") < 24


@pytest.mark.parametrize(
    ("change", "more"),
    [
        ({"batch": 4}, True),
        ({"rank": 64}, True),
        ({"resolution": 1536}, True),
        ({"ema": 0.99}, True),
        ({"precision": "fp32"}, True),
        ({"gradient_checkpointing": True}, False),
        ({"base_storage": "fp8"}, False),
        ({"optimizer": "adamw8bit"}, False),
        ({"targets": "attention"}, False),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_each_setting_that_takes_or_saves_memory_does_so_in_the_estimate(change: dict[str, Any], more: bool) -> None:
    before, after = needed(PLAIN, "train"), needed(replace(PLAIN, **change), "train")
    assert (after > before) is more
    assert after != before


def test_eight_bits_save_a_byte_for_each_weight_of_the_blocks() -> None:
    saved = needed(PLAIN, "train") - needed(replace(PLAIN, base_storage="fp8"), "train")
    assert saved == pytest.approx(2.567 * 0.87, abs=0.01)


def test_the_peak_is_that_of_the_worst_moment_and_samples_count() -> None:
    assert training_peak(PLAIN, SAMPLE) == max(moments(PLAIN, SAMPLE).values())
    assert training_peak(PLAIN, (256, 256)) < training_peak(PLAIN, SAMPLE)
    assert training_peak(PLAIN, (1024, 1536)) == training_peak(PLAIN, SAMPLE), "samples are decoded in tiles"
    assert training_peak(PLAIN, (4096, 4096)) > training_peak(PLAIN, SAMPLE), "but drawn as a whole"


@pytest.mark.local
def test_the_shapes_are_those_of_the_real_unet() -> None:
    import torch
    from diffusers import UNet2DConditionModel

    from sosie.families.sdxl.training import TARGETS

    ups = ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D")
    downs = ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D")
    with torch.device("meta"):
        unet = UNet2DConditionModel(
            block_out_channels=training_memory.WIDTHS,
            layers_per_block=training_memory.LAYERS,
            down_block_types=downs,
            up_block_types=ups,
            transformer_layers_per_block=(1, *training_memory.DEPTHS[1:]),
            attention_head_dim=(5, 10, 20),
            cross_attention_dim=training_memory.CONTEXT_WIDTH,
            addition_embed_type="text_time",
            addition_time_embed_dim=256,
            projection_class_embeddings_input_dim=2816,
            use_linear_projection=True,
        )
    modules = dict(unet.named_modules())
    assert sum(p.numel() for p in unet.parameters()) == training_memory.PARAMETERS["unet"]
    for targets, pattern in TARGETS.items():
        layers = [module for name, module in modules.items() if re.fullmatch(pattern, name)]
        columns = sum(layer.weight[0].numel() + layer.weight.shape[0] for layer in layers)
        assert adapters(replace(PLAIN, rank=4, targets=targets)) == 4 * columns
    real = sorted((m.in_channels, m.out_channels) for m in modules.values() if type(m).__name__ == "ResnetBlock2D")
    ours = list(training_memory._residuals())  # pyright: ignore[reportPrivateUsage]
    assert sorted((block.given, block.made) for block in ours) == real
    linear = [m for name, m in modules.items() if type(m) is torch.nn.Linear and "blocks" in name]
    share = sum(m.weight.numel() for m in linear) / training_memory.PARAMETERS["unet"]
    assert share == pytest.approx(training_memory.EIGHT_BITS, abs=0.01)


CARDS = {
    "4060": "NVIDIA GeForce RTX 4060, 8.9, 8188 MiB, 8000 MiB, 575.57.08\n",
    "3090": "NVIDIA GeForce RTX 3090, 8.6, 24576 MiB, 24000 MiB, 575.57.08\n",
    "1080 Ti": "NVIDIA GeForce GTX 1080 Ti, 6.1, 11264 MiB, 11000 MiB, 575.57.08\n",
}


def doctor(sosie: Sosie, workspace: Path, card: str, recipe: str) -> dict[str, dict[str, str]]:
    smi = workspace / "smi.txt"
    smi.write_text("name, compute_cap, memory.total [MiB], memory.free [MiB], driver_version\n" + CARDS[card])
    done = sosie("doctor", recipe, "--training", 1500, "--from", smi, "--json", "--workspace", workspace)
    return {finding["code"]: finding for finding in json.loads(done.out.splitlines()[0])["findings"]}


def test_the_doctor_refuses_a_card_that_is_too_small_to_train_on_and_says_what_saves_memory(
    sosie: Sosie, workspace: Path
) -> None:
    found = doctor(sosie, workspace, "4060", "sdxl-instantid")["SOS-H040"]
    assert found["severity"] == "error"
    assert "gradient_checkpointing = true" in found["hint"]
    assert doctor(sosie, workspace, "3090", "sdxl-instantid") == {}
    assert "SOS-H030" in doctor(sosie, workspace, "1080 Ti", "sdxl-instantid")
    sosie("recipe", "copy", "sdxl-instantid", "wide", "--workspace", workspace)
    recipe = workspace / "recipes" / "wide.toml"
    text = recipe.read_text()
    recipe.write_text(re.sub(r"(?m)^gradient_checkpointing = true", "gradient_checkpointing = false", text))
    more = doctor(sosie, workspace, "3090", "wide")
    recipe.write_text(recipe.read_text().replace("batch = 1", "batch = 8", 1))
    assert "SOS-H040" in {**more, **doctor(sosie, workspace, "3090", "wide")}


@pytest.mark.local
def test_a_small_model_of_the_family_takes_its_share(sosie: Sosie, workspace: Path) -> None:
    assert "SOS-H040" not in doctor(sosie, workspace, "4060", "mini")


# The presets


def test_the_presets_are_those_that_were_written_down_and_suit_their_models(sosie: Sosie, workspace: Path) -> None:
    from sosie.doctor.training import check_training

    folder = ROOT / "recipes"
    found = {name: read_recipe(folder / f"{name}.toml") for name in ("zimage", "sdxl-instantid")}
    zimage, sdxl = found["zimage"].training, found["sdxl-instantid"].training
    assert zimage is not None
    assert sdxl is not None
    assert (zimage.rank, zimage.alpha, zimage.steps, zimage.learning_rate) == (32, 16.0, 4500, 8e-5)
    assert (zimage.precision, sdxl.steps, sdxl.precision) == ("bf16", 1500, "bf16")
    assert [check_training(recipe) for recipe in found.values()] == [[], []]


@pytest.mark.parametrize(
    ("change", "code", "said"),
    [
        ({"precision": "fp16"}, "SOS-T040", "activations of Z-Image reach 344,064"),
        ({"min_snr": 5.0}, "SOS-U007", "zimage is a flow model"),
    ],
)
def test_the_doctor_refuses_a_preset_of_zimage_that_would_waste_the_night(
    sosie: Sosie, workspace: Path, change: dict[str, Any], code: str, said: str
) -> None:
    sosie("recipe", "copy", "zimage", "mine", "--workspace", workspace)
    recipe = workspace / "recipes" / "mine.toml"
    head, table = recipe.read_text().split("[training]")
    for name, value in change.items():
        table = re.sub(rf"(?m)^{name} = \S+", f"{name} = {json.dumps(value)}", table, count=1)
    recipe.write_text(f"{head}[training]{table}")
    for words in (("doctor", "mine"), ("recipe", "check", "mine")):
        done = sosie(*words, "--workspace", workspace)
        assert done.code == 1
        assert any(code in line and "error" in line and said in line for line in done.err.splitlines()), done.err


def test_the_doctor_warns_of_training_on_turbo_itself(sosie: Sosie, workspace: Path) -> None:
    sosie("recipe", "copy", "zimage", "mine", "--workspace", workspace)
    recipe = workspace / "recipes" / "mine.toml"
    recipe.write_text(recipe.read_text().replace('model = "z_image_bf16"', 'model = "z_image_turbo_bf16"', 1))
    done = sosie("doctor", "mine", "--workspace", workspace)
    assert any("warning" in line and "SOS-U007" in line for line in done.err.splitlines())
