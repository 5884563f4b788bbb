"""The fast transformer of FLUX.2 klein gives what diffusers' own does, and leaves it as it was."""

from __future__ import annotations

from typing import Any

import pytest

pytest.importorskip("torch")
pytest.importorskip("diffusers")

import tiny_flux2 as tiny
import torch

from sosie.core.errors import EngineError
from sosie.families.flux2.diffusers.denoise import Guidance, Velocity
from sosie.families.flux2.diffusers.fast.transformer import FastTransformer, Levers, why_not
from sosie.families.flux2.diffusers.noise_level import embedded, exact_level

pytestmark = pytest.mark.local

PLAIN = Levers(compile=False, graph=False)


@pytest.fixture
def model() -> Any:
    return tiny.modules()[0]


def drawn(shape: tuple[int, ...], seed: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def test_it_sees_what_the_stock_transformer_sees_with_references_and_without(model: Any) -> None:
    prompt, negative = (drawn((512, 3 * tiny.TEXT), seed) for seed in (1, 2))
    latents, device = drawn((1, 128, 4, 6), 3), torch.device("cpu")
    for references in ([], [drawn((1, 128, 3, 2), 4), drawn((1, 128, 2, 5), 5)]):
        guidance = Guidance(prompt, negative, 3.0, references, 1.5)
        with torch.no_grad():
            stock = Velocity(model, guidance, device)(latents, 0.7)
            fast = FastTransformer(model, PLAIN)
            ours = Velocity(model, guidance, device, fast)(latents, 0.7)
            fast.restore()
        assert (ours - stock).abs().max() < 1e-5
        assert stock.std() > 0.1


def test_restored_the_weights_are_the_models_own_and_unchanged(model: Any) -> None:
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    fast = FastTransformer(model, PLAIN)
    query = model.transformer_blocks[0].attn.to_q.weight
    assert query.untyped_storage().nbytes() > query.nbytes
    fast.restore()
    query = model.transformer_blocks[0].attn.to_q.weight
    assert query.untyped_storage().nbytes() == query.nbytes
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


def test_in_fp8_only_the_blocks_between_the_first_and_the_last_of_a_kind_are_rounded() -> None:
    from diffusers import Flux2Transformer2DModel

    from sosie.diffusion.products import Fp8Weight

    torch.manual_seed(1)
    model: Any = Flux2Transformer2DModel(
        num_layers=3, num_single_layers=3, attention_head_dim=16, num_attention_heads=2, joint_attention_dim=12,
        axes_dims_rope=(4, 4, 4, 4), guidance_embeds=False,
    ).to(torch.bfloat16)  # fmt: skip
    fast = FastTransformer(model, Levers(compile=False, graph=False, fp8=True))
    assert [isinstance(block.picture.qkv, Fp8Weight) for block in fast.doubles] == [False, True, False]
    assert [isinstance(block.inward, Fp8Weight) for block in fast.singles] == [False, True, False]


def test_weights_that_stay_packed_or_lie_elsewhere_are_not_made_fast(model: Any) -> None:
    assert why_not(model) == "it is not on a GPU as a whole"
    with pytest.raises(EngineError, match="cannot be accelerated: it is not on a GPU"):
        FastTransformer(model)
    model.proj_out.to(torch.bfloat16)
    assert why_not(model, PLAIN) == "its weights have more than one type"


def test_in_bfloat16_the_noise_level_is_not_rounded(model: Any) -> None:
    level = torch.tensor([0.7672])
    with torch.no_grad():
        true = embedded(model, level)
    model.to(torch.bfloat16)
    told: list[torch.Tensor] = []
    hook = model.time_guidance_embed.register_forward_hook(lambda *call: told.append(call[2]))
    prompt, latents = drawn((512, 3 * tiny.TEXT), 1), drawn((1, 128, 4, 6), 3)
    with torch.no_grad():
        Velocity(model, Guidance(prompt), torch.device("cpu"))(latents, 0.7672)
        rounded = model.time_guidance_embed(level.bfloat16() * 1000, None)
        alone = embedded(model, level)
    hook.remove()

    def off(one: torch.Tensor) -> float:
        return float((one.float() - true).norm() / true.norm())

    assert torch.equal(told[0], alone)
    assert off(alone) < 0.01
    assert off(rounded) > 0.1


def test_what_else_asks_the_transformer_is_not_told_the_last_level(model: Any) -> None:
    before = model.time_guidance_embed(torch.tensor([300.0]), None)
    with pytest.raises(ValueError, match="stop"), exact_level(model, torch.tensor([0.7])):
        raise ValueError("stop")
    assert torch.equal(model.time_guidance_embed(torch.tensor([300.0]), None), before)
