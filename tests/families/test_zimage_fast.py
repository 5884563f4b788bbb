"""The fast transformer of Z-Image beside diffusers' own, tiny and random."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.util import find_spec

import pytest

pytest.importorskip("torch")
pytest.importorskip("diffusers")

import torch

from sosie.core.errors import EngineError
from sosie.diffusion import kernels
from sosie.diffusion.products import Fp8Weight, times
from sosie.families.zimage.diffusers.fast.computing import run_block
from sosie.families.zimage.diffusers.fast.transformer import FastTransformer, Levers, why_not
from sosie.families.zimage.diffusers.fast.weights import block_of

pytestmark = pytest.mark.local

PLAIN = Levers(compile=False, graph=False)


@pytest.fixture
def model() -> torch.nn.Module:
    """A transformer of three blocks with weights large enough that every part of it shows."""
    from diffusers import ZImageTransformer2DModel

    torch.manual_seed(0)
    sizes = {"dim": 96, "n_layers": 3, "n_refiner_layers": 2, "n_heads": 3, "n_kv_heads": 3, "cap_feat_dim": 40}
    made = ZImageTransformer2DModel(**sizes, axes_dims=[8, 12, 12]).eval().requires_grad_(False)
    for parameter in made.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    return made


def stock(model: torch.nn.Module, latents: torch.Tensor, clean: torch.Tensor, states: torch.Tensor) -> torch.Tensor:
    return model([latents[0][:, None]], clean, [states]).sample[0][:, 0]


def apart(one: torch.Tensor, other: torch.Tensor) -> float:
    return float((one - other).norm() / other.norm())


@pytest.mark.parametrize(("height", "width"), [(16, 16), (12, 20), (10, 14)])
@pytest.mark.parametrize("words", [1, 32, 33])
def test_it_gives_what_diffusers_gives(model: torch.nn.Module, height: int, width: int, words: int) -> None:
    latents, states = torch.randn(1, 16, height, width), torch.randn(words, 40)
    fast = FastTransformer(model, PLAIN)
    caption = fast.read(states)
    for clean in (0.0, 0.3, 0.999):
        at = torch.tensor([clean])
        (made,) = fast.velocities(latents, at, [caption])
        assert apart(made[0], stock(model, latents, at, states)) < 1e-6


@pytest.mark.parametrize(("height", "width"), [(16, 16), (10, 14)])
def test_captions_of_several_lengths_share_the_picture(model: torch.nn.Module, height: int, width: int) -> None:
    fast, at, latents = FastTransformer(model, PLAIN), torch.tensor([0.4]), torch.randn(1, 16, height, width)
    texts = [torch.randn(words, 40) for words in (5, 70, 7)]
    refined: list[int] = []
    refine = fast._noise[0]
    fast._block = lambda *given: (refined.append(1) if given[-1] is refine else None, run_block(*given))[1]
    made = fast.velocities(latents, at, [fast.read(text) for text in texts])
    for way, text in zip(made, texts, strict=True):
        assert apart(way[0], stock(model, latents, at, text)) < 1e-6
    assert len(refined) == (1 if (height, width) == (16, 16) else 3)  # padding stands at 0, wherever the picture does


def test_lengths_that_alternate_do_not_disturb_each_other(model: torch.nn.Module) -> None:
    fast, at, latents = FastTransformer(model, PLAIN), torch.tensor([0.5]), torch.randn(1, 16, 8, 8)
    texts = [torch.randn(5, 40), torch.randn(40, 40)]
    captions = [fast.read(text) for text in texts]
    for place in (0, 1, 0):
        made = fast.velocities(latents, at, [captions[place]])[0][0]
        assert apart(made, stock(model, latents, at, texts[place])) < 1e-6


def test_weights_that_change_in_place_are_used_and_restored_ones_are_their_own(model: torch.nn.Module) -> None:
    latents, states, at = torch.randn(1, 16, 8, 8), torch.randn(7, 40), torch.tensor([0.2])
    fast = FastTransformer(model, PLAIN)
    before = fast.velocities(latents, at, [fast.read(states)])[0].clone()
    layer = model.get_submodule("layers.1.attention.to_k")
    layer.weight.data += torch.randn_like(layer.weight)
    changed = fast.velocities(latents, at, [fast.read(states)])[0][0].clone()
    assert apart(changed, before[0]) > 1e-4
    assert apart(changed, stock(model, latents, at, states)) < 1e-6
    fast.restore()
    parts = [p for n, p in model.named_parameters() if "layers.1" in n and p.dim() == 2]
    assert all(part.untyped_storage().nbytes() == part.nbytes for part in parts)
    assert torch.equal(stock(model, latents, at, states), stock(model, latents, at, states))


def test_nothing_is_held_twice(model: torch.nn.Module) -> None:
    fast = FastTransformer(model, PLAIN)
    layer = model.get_submodule("layers.1.attention")
    storages = {getattr(layer, f"to_{letter}").weight.untyped_storage().data_ptr() for letter in "qkv"}
    assert len(storages) == 1
    fast.restore()


def test_compiled_it_gives_the_same(model: torch.nn.Module) -> None:
    latents, states, at = torch.randn(1, 16, 8, 8), torch.randn(7, 40), torch.tensor([0.2])
    plain = FastTransformer(model, PLAIN)
    expected = plain.velocities(latents, at, [plain.read(states)])[0].clone()
    plain.restore()
    fast = FastTransformer(model, Levers(compile=True, graph=False))
    assert apart(fast.velocities(latents, at, [fast.read(states)])[0], expected) < 1e-5


def test_a_matrix_in_fp8_keeps_the_steps_of_its_format() -> None:
    weight = torch.randn(48, 32) * torch.logspace(-3, 3, 48)[:, None]
    eight = Fp8Weight.of(weight)
    back = eight.values.float() * eight.scale.T
    largest = weight.abs().amax(1, keepdim=True)
    # Three bits of mantissa: half a step is 1/16 of the number, or half the smallest subnormal of the row's scale.
    assert bool(((back - weight).abs() <= weight.abs() / 16 + largest / 448 * 2.0**-10).all())
    assert float(back.abs().amax(1).div(largest[:, 0]).sub(1).abs().max()) < 1e-6


def test_a_product_in_fp8_is_that_of_its_rounded_factors(model: torch.nn.Module) -> None:
    rows, weight = torch.randn(1, 32, 64, dtype=torch.bfloat16), torch.randn(48, 64)
    eight = Fp8Weight.of(weight)
    try:
        got = times(rows, eight).float()
    except (NotImplementedError, RuntimeError) as error:
        pytest.skip(f"no fp8 products here: {error}")
    exact = rows.float() @ weight.T
    assert apart(got, exact) < 0.05


def test_only_the_products_of_inner_blocks_are_in_fp8(model: torch.nn.Module) -> None:
    half = model.to(torch.bfloat16)
    fast = FastTransformer(half, Levers(compile=False, graph=False, fp8=True))
    kinds = [type(block.qkv) is Fp8Weight for block in fast.blocks]
    assert kinds == [False, True, False]
    assert all(isinstance(block.modulation[0], torch.Tensor) for block in fast.blocks if block.modulation)


def test_what_cannot_be_made_fast_says_why(model: torch.nn.Module) -> None:
    assert why_not(model, PLAIN) == ""
    assert why_not(model) == "it is not on a GPU as a whole"
    assert "give bf16" in why_not(model, Levers(compile=False, graph=False, fp8=True))
    model.get_submodule("layers.0.attention.to_q").to(torch.float16)
    assert "more than one type" in why_not(model, PLAIN)
    with pytest.raises(EngineError, match="cannot be accelerated: its weights have more than one type"):
        FastTransformer(model, PLAIN)


def test_a_block_without_modulation_reads_no_noise_level(model: torch.nn.Module) -> None:
    block = block_of(model.context_refiner[0])
    tokens, turns = torch.randn(1, 32, 96), torch.ones(32, 1, 16)
    assert block.modulation is None
    once = run_block(tokens, turns, 0 * turns, None, block)
    assert torch.equal(once, run_block(tokens, turns, 0 * turns, torch.randn(1, 96), block))


KERNELS = """
import torch
from sosie.diffusion import kernels
from sosie.diffusion.products import rms, turned

device = "cuda" if torch.cuda.is_available() else "cpu"
chance = torch.Generator(device).manual_seed(1)

def drawn(*shape, dtype=torch.bfloat16):
    return torch.randn(*shape, generator=chance, device=device, dtype=dtype)

def apart(one, other):
    return float((one - other).norm() / other.norm())

joined, norms, angles = drawn(1, 7, 3 * 5 * 32), (drawn(32), drawn(32)), drawn(7, 1, 16, dtype=torch.float32)
turns = angles.cos(), angles.sin()
for made, part, norm in zip(kernels.turned(joined, 5, norms, turns, 1e-5), joined.chunk(3, dim=-1), norms):
    expected = turned(rms(part.unflatten(-1, (5, 32)), norm, 1e-5), *turns)
    print(apart(made.float(), expected))
gated = drawn(7, 2 * 100)
eight, scale = kernels.gated_in_eight(gated)
opens, passes = gated.float().chunk(2, dim=-1)
expected = (torch.nn.functional.silu(opens) * passes).bfloat16().float()
print(apart(eight.float() * scale, expected), apart(scale[:, 0], expected.abs().amax(1) / 448))
"""


@pytest.mark.skipif(find_spec("triton") is None, reason="torch brings Triton on Linux only")
def test_the_kernels_give_what_torch_gives() -> None:
    interpreted = {} if torch.cuda.is_available() else {"TRITON_INTERPRET": "1"}
    command = [sys.executable, "-c", KERNELS]
    done = subprocess.run(command, env={**os.environ, **interpreted}, capture_output=True, text=True, check=False)
    assert not done.returncode, done.stderr[-2000:]
    queries, keys, eight, scale = map(float, done.stdout.split())
    assert max(queries, keys) < 5e-3  # a step of bfloat16 is at most 8e-3; the interpreter cuts where a GPU rounds
    assert eight < 0.06  # three bits of mantissa, cut by the interpreter
    assert scale < 8e-3  # a step of bfloat16


def test_the_kernels_take_what_they_can() -> None:
    rows = torch.zeros(1, 4, 96)
    assert not kernels.usable(rows, 32)  # not on a GPU
    assert [kernels.power_of_two(size) for size in (1, 30, 32, 10240)] == [1, 32, 32, 16384]
