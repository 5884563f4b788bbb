"""Z-Image's layers while they are trained: compiled, they are one code and give what they give otherwise."""

from __future__ import annotations

from typing import Any

import pytest

pytest.importorskip("torch")
pytest.importorskip("diffusers")
pytest.importorskip("peft")

import torch
from torch import nn
from torch._dynamo.backends.debugging import aot_eager

from sosie.core.recipe import Training
from sosie.families.zimage import velocity
from sosie.families.zimage.training import TARGETS
from sosie.training.adapters import Adapters

pytestmark = pytest.mark.local


@pytest.fixture
def model() -> nn.Module:
    """A transformer of five blocks."""
    from diffusers import ZImageTransformer2DModel

    torch.manual_seed(0)
    sizes = {"dim": 96, "n_layers": 5, "n_refiner_layers": 1, "n_heads": 3, "n_kv_heads": 3, "cap_feat_dim": 40}
    return ZImageTransformer2DModel(**sizes, axes_dims=[8, 12, 12]).requires_grad_(False)


def given(model: Any, side: int, words: int) -> dict[str, torch.Tensor]:
    """A picture of random latents with a random text."""
    drawing = torch.Generator().manual_seed(words)
    return {
        "noisy": torch.randn((1, 16, side, side), generator=drawing),
        "levels": torch.tensor([0.3]),
        "states": torch.randn((1, velocity.up(words), 40), generator=drawing),
        **velocity.layout(model.config, (side, side), [words]),
    }


@pytest.mark.filterwarnings("ignore:The .grad attribute")  # the compiler looks at it
def test_layers_that_learn_are_one_code_for_the_compiler_and_give_the_same_slopes(
    model: nn.Module, monkeypatch: pytest.MonkeyPatch
) -> None:
    codes: list[object] = []

    def backend(graph: Any, examples: Any) -> Any:
        codes.append(graph)
        return aot_eager(graph, examples)

    compiled = torch.compile(velocity._block, backend=backend, dynamic=True, fullgraph=True)
    adapters = Adapters(model, TARGETS["feed-forward"], Training(rank=2, alpha=2, steps=1))
    adapters.settle(torch.float32)
    adapters.weights.data.normal_(0, 0.05, generator=torch.Generator().manual_seed(0))
    for latents, words in ((8, 40), (12, 70)):
        found: list[tuple[torch.Tensor, torch.Tensor]] = []
        for block in (velocity._block, compiled):
            monkeypatch.setattr(velocity, "_block", block)
            adapters.begin_step()
            made = velocity.velocity(model, given(model, latents, words))
            made.square().mean().backward()
            found.append((made.detach(), adapters.weights.grad.clone()))
        assert found[0][1].abs().max() > 0
        for plain, other in zip(*found, strict=True):
            torch.testing.assert_close(other, plain)
    assert len(codes) <= 6  # two refiners, the first layer, which gets no slope, and the others; not one a layer
