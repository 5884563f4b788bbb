"""Training a LoRA of FLUX.2 klein: what is predicted, what is changed, what is written."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny_flux2 as tiny

from sosie.core.recipe import Sampler, Training
from sosie.families import trainer_of

pytestmark = pytest.mark.local

SMALL = Training(steps=2, batch=2, rank=2, resolution=64, precision="fp32")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tiny.Made:
    return tiny.make(tmp_path_factory.mktemp("flux2"))


def opened(made: tiny.Made, training: Training = SMALL) -> Any:
    from sosie.families.contract.trains import BaseFiles

    return trainer_of("flux2").open_base(BaseFiles(made.folder), training, "cpu")


def pixels(seed: int) -> Any:
    return np.random.default_rng(seed).integers(0, 256, (64, 96, 3), np.uint8)


def batch_of(base: Any) -> dict[str, Any]:
    import torch

    pictures = [base.encode_picture(pixels(seed), (64, 96), (0, 0)) for seed in range(2)]
    texts = [base.encode_text(text) for text in ("mira, smiling", "mira at the beach")]
    base.settle()
    entries = [{**picture, **text} for picture, text in zip(pictures, texts, strict=True)]
    return {name: torch.stack([entry[name] for entry in entries]) for name in entries[0]}


def test_a_batch_predicts_what_stock_diffusers_predicts_of_each_picture_with_checkpointing_too(made: tiny.Made) -> None:
    import torch

    from sosie.families.flux2.diffusers.latents import places, text_places, tokens

    losses: list[Any] = []
    for again in (False, True):
        base = opened(made, replace(SMALL, gradient_checkpointing=again))
        batch = batch_of(base)
        assert batch["mean"].shape == (2, 128, 4, 6)
        noise = torch.Generator().manual_seed(3)
        given = base.add_noise(batch, noise, lambda count, _: torch.linspace(0.3, 0.8, count))
        errors, weights = base.unreduced_loss(given)
        losses.append(errors)
        assert weights.tolist() == [1, 1]
        for row in range(2):
            with torch.no_grad():
                seen = base.denoiser(
                    hidden_states=tokens(given["noisy"][row : row + 1]), timestep=given["levels"][row : row + 1],
                    encoder_hidden_states=given["states"][row : row + 1], txt_ids=text_places(512),
                    img_ids=places(4, 6), return_dict=False,
                )[0]  # fmt: skip
            predicted = seen.transpose(1, 2).reshape(128, 4, 6)
            torch.testing.assert_close(errors[row], (predicted - given["target"][row]) ** 2, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(*losses, atol=1e-5, rtol=1e-4)


def test_the_loss_takes_nothing_from_main_memory_so_that_a_graph_can_be_captured(made: tiny.Made) -> None:
    import torch
    from torch.utils._python_dispatch import TorchDispatchMode

    crossed: list[str] = []

    class Watch(TorchDispatchMode):
        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            result = func(*args, **(kwargs or {}))
            told = [one for one in (*args, result) if isinstance(one, torch.Tensor) and one.dim()]
            if len({one.device.type for one in told}) > 1:
                crossed.append(str(func))
            return result

    base = opened(made)
    given = base.add_noise(batch_of(base), torch.Generator().manual_seed(3), lambda count, _: torch.rand(count))
    base.denoiser.to("meta")
    elsewhere = {name: tensor.to("meta") for name, tensor in given.items()}
    with Watch():
        errors, _ = base.unreduced_loss(elsewhere)
    assert errors.shape == (2, 128, 4, 6)
    assert crossed == []


def test_what_is_learned_is_the_way_from_the_picture_to_noise(made: tiny.Made) -> None:
    """At level s a step of s along the target leads from the noisy picture to the clean one."""
    import torch

    base = opened(made)
    batch = batch_of(base)
    batch["std"] = torch.zeros_like(batch["std"])
    given = base.add_noise(batch, torch.Generator().manual_seed(1), lambda count, _: torch.full((count,), 0.4))
    torch.testing.assert_close(given["noisy"] - 0.4 * given["target"], batch["mean"], atol=1e-5, rtol=1e-4)


def test_a_sample_is_what_the_engine_draws_without_references(made: tiny.Made) -> None:
    from sosie.families import drawer_of
    from sosie.families.contract.draws import Settings

    base = opened(made)
    stage = tiny.stage(steps=2, cfg=2.0)
    given = tiny.given(stage, {"k": made.folder})
    text = base.encode_text(given.words, "")
    base.settle()
    sampler = Sampler("euler", "model", 2, 2.0)
    ours = np.asarray(base.draw(text, given.seed, (tiny.SIDE, tiny.SIDE), sampler)).astype(int)
    runner = drawer_of("flux2").runner("cpu", Settings())
    engine = np.asarray(runner.run(given).image).astype(int)
    runner.close()
    assert abs(ours - engine).max() <= 1


@pytest.mark.parametrize(("targets", "count"), [("attention", 80), ("feed-forward", 100), ("all", 100)])
def test_what_a_lora_changes_is_found_in_klein_4b_and_read_back_by_every_loader(
    tmp_path: Path, targets: Any, count: int
) -> None:
    import torch
    from diffusers.models.transformers.transformer_flux2 import Flux2Transformer2DModel
    from safetensors.torch import save_file

    from sosie.families import families
    from sosie.families.flux2.training import MATRICES, STORED, TARGETS, key, metadata
    from sosie.lora import read_lora
    from sosie.lora.coverage import coverage
    from sosie.lora.loaders import outcomes

    with torch.device("meta"):
        model = Flux2Transformer2DModel(
            num_layers=5, num_single_layers=20, num_attention_heads=24, joint_attention_dim=7680, guidance_embeds=False
        )
    pattern = re.compile(TARGETS[targets])
    modules: dict[str, Any] = {name: module for name, module in model.named_modules() if pattern.fullmatch(name)}
    assert len(modules) == count
    assert all(re.fullmatch(STORED, name) for name in modules)
    tensors: dict[str, Any] = {}
    for name, module in modules.items():
        shapes = (1, module.in_features), (module.out_features, 1)
        for role, shape in zip(MATRICES, shapes, strict=True):
            tensors[f"{key(name)}.{role}.weight"] = torch.ones(shape, dtype=torch.float16)
        tensors[f"{key(name)}.alpha"] = torch.tensor(0.5)
    save_file(tensors, tmp_path / "lora.safetensors", metadata=metadata("flow", 1024))
    lora = read_lora(tmp_path / "lora.safetensors", families())
    assert (lora.family, lora.variant, lora.strangers, lora.scales) == ("flux2", "klein 4B", (), (0.5,))
    found = coverage(lora, lora.table)
    assert (found.total, found.foreign, found.misfits) == (found.matched, (), ())
    assert {outcome.loader: outcome.result for outcome in outcomes(lora)}["ComfyUI"] == "loads"


def test_the_adapters_of_the_estimate_are_those_of_the_model() -> None:
    import torch
    from diffusers.models.transformers.transformer_flux2 import Flux2Transformer2DModel

    from sosie.families.flux2.training import TARGETS
    from sosie.families.flux2.training_memory import adapters, training_peak

    with torch.device("meta"):
        model = Flux2Transformer2DModel(
            num_layers=5, num_single_layers=20, num_attention_heads=24, joint_attention_dim=7680, guidance_embeds=False
        )
    for targets in ("attention", "feed-forward"):
        pattern = re.compile(TARGETS[targets])
        sides = [
            module.in_features + module.out_features
            for name, module in model.named_modules()
            if pattern.fullmatch(name) and isinstance(module, torch.nn.Linear)
        ]
        assert adapters(Training(rank=16, targets=targets)) == 16 * sum(sides)
    small, large = (training_peak(Training(resolution=side), (side, side)) for side in (512, 1024))
    assert 8e9 < small < large
