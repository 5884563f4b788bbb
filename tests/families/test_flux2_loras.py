"""LoRAs of FLUX.2 klein: every layout merges to the same weights, to the last bit; other models' are refused."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import tiny_flux2 as tiny

from sosie.core import LoraUse
from sosie.families.flux2.adapters import modules

pytestmark = pytest.mark.local

RANK = 4
TARGETS = {
    "transformer_blocks.0.attn.to_q": "double_blocks.0.img_attn.qkv",
    "transformer_blocks.1.ff.linear_in": "double_blocks.1.img_mlp.0",
    "single_transformer_blocks.0.attn.to_qkv_mlp_proj": "single_blocks.0.linear1",
    "single_transformer_blocks.1.attn.to_out": "single_blocks.1.linear2",
}
"""diffusers' names, and those of a single file."""


@pytest.fixture
def transformer() -> Any:
    return tiny.modules()[0]


def test_the_adapters_know_every_linear_layer_of_klein_and_its_shape() -> None:
    """Of klein 4B as its header has it."""
    import gzip
    import json

    from places import ROOT

    header = json.loads(gzip.decompress((ROOT / "tests/fixtures/headers/flux2-klein-4b.json.gz").read_bytes()))
    stored = {name: tuple(shape) for name, _, shape in header["tensors"] if len(shape) == 2}
    known = {
        f"{one.name}.weight": one.shape for one in modules(3072, 5, 20, 7680) if "guidance_embedder" not in one.name
    }
    assert {name: shape for name, shape in known.items() if stored.get(name) != tuple(shape)} == {}
    assert set(stored) <= set(known)


def matrices(transformer: Any, seed: int = 5) -> dict[str, tuple[Any, Any]]:
    import torch

    chance = torch.Generator().manual_seed(seed)
    made: dict[str, tuple[Any, Any]] = {}
    for name in TARGETS:
        rows, columns = transformer.get_submodule(name).weight.shape
        made[name] = (
            torch.randn(RANK, columns, generator=chance) * 0.1,
            torch.randn(rows, RANK, generator=chance) * 0.1,
        )
    return made


def write(path: Path, tensors: Mapping[str, Any]) -> Path:
    from safetensors.torch import save_file

    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, path)
    return path


def layouts(transformer: Any) -> dict[str, dict[str, Any]]:
    """As ai-toolkit, diffusers and kohya write the same LoRA; ComfyUI's names keep q, k, v of a stream as one."""
    import torch

    made: dict[str, dict[str, Any]] = {"ai-toolkit": {}, "diffusers": {}, "kohya": {}}
    for name, (down, up) in matrices(transformer).items():
        single = TARGETS[name]
        whole = up
        if single.endswith("qkv"):
            whole = torch.cat([up, torch.zeros_like(up), torch.zeros_like(up)])
        made["ai-toolkit"] |= {
            f"diffusion_model.{single}.lora_A.weight": down,
            f"diffusion_model.{single}.lora_B.weight": whole,
        }
        made["diffusers"] |= {f"transformer.{name}.lora_A.weight": down, f"transformer.{name}.lora_B.weight": up}
        flat = f"lora_unet_{single.replace('.', '_')}"
        made["kohya"] |= {
            f"{flat}.lora_down.weight": down,
            f"{flat}.lora_up.weight": whole,
            f"{flat}.alpha": torch.tensor(float(RANK)),
        }
    return made


@pytest.mark.parametrize("layout", ["ai-toolkit", "diffusers", "kohya"])
def test_a_lora_adds_what_it_says_and_leaves_no_trace(tmp_path: Path, transformer: Any, layout: str) -> None:
    import torch

    from sosie.families.flux2.diffusers.loras import Loras

    before = {name: tensor.clone() for name, tensor in transformer.state_dict().items()}
    path = write(tmp_path / f"{layout}.safetensors", layouts(transformer)[layout])
    merged = Loras(transformer)
    merged.set((LoraUse("l", 0.5),), {"l": path})
    for name, (down, up) in matrices(transformer).items():
        expected = before[f"{name}.weight"] + 0.5 * (up @ down)
        torch.testing.assert_close(transformer.get_submodule(name).weight, expected, atol=1e-6, rtol=0)
    untouched = "transformer_blocks.0.attn.to_k.weight"
    assert torch.equal(transformer.state_dict()[untouched], before[untouched])
    merged.set((), {})
    assert all(torch.equal(tensor, before[name]) for name, tensor in transformer.state_dict().items())


def test_a_lora_of_flux1_is_not_taken_for_one_of_flux2(tmp_path: Path) -> None:
    import torch

    from sosie.families import families
    from sosie.lora import read_lora

    tensors = {
        f"transformer.{name}.lora_{letter}.weight": torch.zeros(*shape)
        for name, columns, rows in (
            ("transformer_blocks.0.attn.to_q", 3072, 3072),
            ("transformer_blocks.0.ff.net.0.proj", 3072, 12288),
            ("single_transformer_blocks.0.proj_mlp", 3072, 12288),
            ("single_transformer_blocks.0.norm.linear", 3072, 9216),
        )
        for letter, shape in (("A", (RANK, columns)), ("B", (rows, RANK)))
    }
    assert read_lora(write(tmp_path / "f1.safetensors", tensors), families()).family == "flux1"
