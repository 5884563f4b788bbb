"""LoRAs on weights that stay packed: beside them, and gone without a trace."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from sosie.core.recipe import LoraUse

pytestmark = pytest.mark.local


def layer(dtype: str = "float32", kind: str = "F8_E4M3") -> Any:
    import torch

    from sosie.diffusion.weights.layers import PackedLinear
    from sosie.diffusion.weights.packed import Packed

    noise = torch.Generator().manual_seed(1)
    data = torch.randn(24, 32, generator=noise).to(torch.float8_e4m3fn).view(torch.uint8)
    packed = Packed(kind, (24, 32), data, torch.tensor(0.05))
    return PackedLinear(packed, torch.randn(24, generator=noise), getattr(torch, dtype))


def changes(tmp_path: Path) -> dict[str, Any]:
    """Two LoRAs and a full difference, each with what it adds."""
    import torch
    from safetensors.torch import save_file

    noise = torch.Generator().manual_seed(2)
    tensors: Any = {name: torch.randn(4, 32, generator=noise) for name in ("a.down", "b.down")}
    tensors |= {name: torch.randn(24, 4, generator=noise) for name in ("a.up", "b.up")}
    tensors["c.diff"] = torch.randn(24, 32, generator=noise)
    for letter in "abc":
        save_file({k: t for k, t in tensors.items() if k[0] == letter}, tmp_path / f"{letter}.safetensors")
    return {
        "a": tensors["a.up"] @ tensors["a.down"] * 0.5,
        "b": tensors["b.up"] @ tensors["b.down"] * 2.0,
        "c": tensors["c.diff"],
    }


def merge(model: Any) -> Any:
    from sosie.diffusion.lora_merge import LoraMerge, ModuleChange

    def changes_of(path: Path) -> list[Any]:
        letter = path.stem
        if letter == "c":
            return [ModuleChange(("transformer", "layer"), "diff", {"diff": "c.diff"}, 1.0)]
        keys = {"down": f"{letter}.down", "up": f"{letter}.up"}
        return [ModuleChange(("transformer", "layer"), "lora", keys, 0.5 if letter == "a" else 2.0)]

    return LoraMerge({"transformer": model}, changes_of)


def model(dtype: str = "float32") -> Any:
    import torch

    whole = torch.nn.Module()
    whole.layer = layer(dtype)
    return whole


@pytest.mark.parametrize("uses", [{"a": 0.8}, {"a": 0.8, "b": -0.5}, {"c": 0.7}, {"a": 1.0, "c": 0.5}])
def test_they_act_as_if_they_were_merged_and_leave_no_trace(tmp_path: Path, uses: dict[str, float]) -> None:
    import torch

    whole, added = model(), changes(tmp_path)
    loras = merge(whole)
    x = torch.randn(3, 5, 32)
    before, bytes_before = whole.layer(x), whole.layer.packed.clone()
    paths = {name: tmp_path / f"{name}.safetensors" for name in uses}
    assert loras.set([LoraUse(name, weight) for name, weight in uses.items()], paths)
    weight = whole.layer.dequantised(torch.float32) + sum(share * added[name] for name, share in uses.items())
    truth = torch.nn.functional.linear(x, weight, whole.layer.bias)
    assert torch.allclose(whole.layer(x), truth, atol=1e-4)
    assert not torch.allclose(whole.layer(x), before, atol=0.1)
    assert torch.equal(whole.layer.packed, bytes_before)
    assert (whole.layer.whole is not None) == ("c" in uses)
    assert loras.clear()
    assert torch.equal(whole.layer(x), before)
    assert whole.layer.down is None
    assert whole.layer.whole is None


def test_in_bf16_the_error_is_that_of_bf16(tmp_path: Path) -> None:
    import torch

    whole, added = model("bfloat16"), changes(tmp_path)
    merge(whole).set([LoraUse("a", 1.0)], {"a": tmp_path / "a.safetensors"})
    x = torch.randn(64, 32).bfloat16()
    weight = whole.layer.dequantised(torch.float32) + added["a"]
    truth = torch.nn.functional.linear(x.float(), weight, whole.layer.bias)
    error = (whole.layer(x).float() - truth).norm() / truth.norm()
    merged = torch.nn.functional.linear(x, weight.bfloat16(), whole.layer.bias.bfloat16()).float()
    assert error < 2 * (merged - truth).norm() / truth.norm()


def test_casting_and_moving_a_model_leaves_the_packed_bytes_alone() -> None:
    import torch

    whole = model()
    bytes_before = whole.layer.packed.clone()
    whole.to(torch.bfloat16).to("cpu").half()
    assert whole.layer.packed.dtype == torch.uint8
    assert torch.equal(whole.layer.packed, bytes_before)
    whole.to("meta")
    assert whole.layer.packed.is_meta


def test_a_product_by_other_means_is_asked_for_the_weight_alone() -> None:
    import torch

    one = layer()
    x = torch.randn(2, 32)
    expected = one(x)
    one.product = lambda it, given: torch.nn.functional.linear(given, it.dequantised(given.dtype))
    assert torch.allclose(one(x), expected, atol=1e-6)
    from sosie.diffusion.weights.layers import scaled_product

    one.product = scaled_product
    error = (one(x.bfloat16()).float() - expected).norm() / expected.norm()
    assert 0.001 < error < 0.05  # that of rounding x to three bits of mantissa
    with pytest.raises(ValueError, match="e4m3"):
        scaled_product(layer(kind="I8"), x)
