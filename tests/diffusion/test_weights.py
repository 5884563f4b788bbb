"""Files as other programs store them, read to exactly the numbers that they stand for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sosie.core.errors import BadModelError, NotFoundError

pytestmark = pytest.mark.local

PACKED = ("blocks.0.weight", "blocks.1.weight")


def state() -> dict[str, Any]:
    import torch

    noise = torch.Generator().manual_seed(3)
    shapes = {"blocks.0.weight": (48, 64), "blocks.0.bias": (48,), "blocks.1.weight": (32, 256), "norm.weight": (256,)}
    return {name: torch.randn(shape, generator=noise).bfloat16() for name, shape in shapes.items()}


def read(path: Path, **more: Any) -> Any:
    from sosie.diffusion.weights.reading import read_weights

    return read_weights(path, **more)


def same(one: Any, other: Any) -> bool:
    import torch

    return one.dtype == other.dtype and torch.equal(one, other)


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
def test_plain_files_are_read_as_they_are_and_cast(tmp_path: Path, dtype: str) -> None:
    import torch
    from stored import save

    held = {name: tensor.to(getattr(torch, dtype)) for name, tensor in state().items()}
    weights = read(save(tmp_path / "m.safetensors", held))
    assert weights.names == held.keys()
    for name, tensor in held.items():
        assert weights.shape(name) == tuple(tensor.shape)
        assert same(weights.tensor(name), tensor)
        assert same(weights.tensor(name, torch.float32), tensor.float())
        assert weights.packed(name) is None
    assert same(weights.tensor("blocks.0.weight", rows=(8, 16)), held["blocks.0.weight"][8:16])


@pytest.mark.parametrize("kind", ["float8_e4m3fn", "float8_e5m2"])
@pytest.mark.parametrize("how", ["plain", "old", "comfy", "metadata", "rows"])
def test_fp8_of_every_kind_is_the_cast_times_the_scale(tmp_path: Path, how: str, kind: str) -> None:
    import torch
    from stored import fp8, save

    held, metadata, truth = fp8(state(), PACKED, how, getattr(torch, kind))
    weights = read(save(tmp_path / "m.safetensors", held, metadata))
    assert weights.names == truth.keys()
    for name, tensor in truth.items():
        assert same(weights.tensor(name, torch.bfloat16), tensor)
    name = PACKED[1]
    packed = weights.packed(name)
    assert packed.data.nbytes == truth[name].numel()
    assert same(packed.rows(4, 12).dequantised(torch.bfloat16), truth[name][4:12])
    assert same(weights.tensor(name, torch.bfloat16, rows=(4, 12)), truth[name][4:12])
    assert weights.storage(name) == ("fp8_e4m3" if "e4m3" in kind else "fp8_e5m2") + ("-scaled" * (how != "plain"))
    assert weights.storage("norm.weight") == "bf16"


def test_int8_with_a_scale_a_row_is_the_number_times_the_scale(tmp_path: Path) -> None:
    import torch
    from stored import mark, save

    whole = torch.randint(-127, 128, (16, 64), dtype=torch.int8)
    scale = torch.rand(16) + 0.1
    entry = mark({"format": "int8_tensorwise"})
    held = {"a.weight": whole, "a.weight_scale": scale, "a.comfy_quant": entry, "b.weight": torch.ones(2)}
    weights = read(save(tmp_path / "m.safetensors", held))
    assert same(weights.tensor("a.weight", torch.float32), whole.float() * scale[:, None])
    assert weights.names == {"a.weight", "b.weight"}


LEGACY, K_QUANTS = ["Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0"], ["Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K"]
OTHERS = ["IQ4_NL", "IQ4_XS", "IQ2_XXS", "IQ3_S", "IQ1_M", "TQ2_0", "BF16", "F16", "F32"]


@pytest.mark.parametrize("kind", [*LEGACY, *K_QUANTS, *OTHERS])
def test_gguf_is_what_llama_cpp_s_own_dequantiser_says(tmp_path: Path, kind: str) -> None:
    import gguf
    import torch
    from stored import save_gguf

    number = gguf.GGMLQuantizationType[kind]
    block, size = gguf.GGML_QUANT_SIZES[number]
    noise = np.random.default_rng(5)
    try:
        data = gguf.quantize(noise.standard_normal((40, 512), np.float32), number)
    except NotImplementedError:  # no quantiser in Python: any bytes, with scales that are finite
        data = noise.integers(0, 256, (40, 512 // block * size), np.uint8)
        data[:, :] = np.where(data >= 0x7C, data & 0x3B, data)
    truth = torch.from_numpy(gguf.dequantize(data, number))
    plain = np.arange(8, dtype=np.float32)
    path = save_gguf(tmp_path / "m.gguf", "lumina2", {"w": (data, number), "n": (plain, None)})
    weights = read(path)
    assert weights.shape("w") == (40, 512)
    assert same(weights.tensor("w", torch.float32), truth)
    assert same(weights.tensor("w", torch.bfloat16, rows=(3, 9)), truth[3:9].bfloat16())
    assert same(weights.tensor("n"), torch.from_numpy(plain))
    packed = weights.packed("w")
    assert (packed is None) == (block == 1)
    assert packed is None or (packed.bytes == data.nbytes and weights.storage("w") == f"gguf-{kind}")


def test_a_folder_of_shards_is_one_model_and_a_prefix_chooses(tmp_path: Path) -> None:
    import json

    from stored import save

    held = {f"model.diffusion_model.{name}": tensor for name, tensor in state().items()} | {
        "vae.x": state()["norm.weight"]
    }
    names = list(held)
    save(tmp_path / "a.safetensors", {names[0]: held[names[0]]})
    save(tmp_path / "b.safetensors", {name: held[name] for name in names[1:]})
    table = {name: "a.safetensors" if name == names[0] else "b.safetensors" for name in names}
    (tmp_path / "diffusion_pytorch_model.safetensors.index.json").write_text(json.dumps({"weight_map": table}))
    weights = read(tmp_path, prefix="model.diffusion_model.")
    assert weights.names == state().keys()
    assert same(weights.tensor("norm.weight"), state()["norm.weight"])


def hadamard(size: int) -> Any:
    """Regular, orthogonal: Kronecker powers of the one of 4, whose rows have the sum 2."""
    import torch

    four = torch.ones(4, 4)
    for row in range(4):
        four[row, 3 - row] = -1
    whole = torch.ones(1, 1)
    while len(whole) < size:
        whole = torch.kron(whole, four)
    return whole / size**0.5


def test_int8_that_was_rotated_is_turned_back(tmp_path: Path) -> None:
    import torch
    from stored import mark, save

    pytest.importorskip("comfy_kitchen")
    weight, turn = torch.randn(24, 512) * 0.02, hadamard(64)
    assert torch.allclose(turn @ turn.T, torch.eye(64), atol=1e-6)
    rotated = (weight.reshape(24, 8, 64) @ turn.T).reshape(24, 512)
    scale = rotated.abs().amax(1) / 127
    entry = mark({"format": "int8_tensorwise", "convrot": True, "convrot_groupsize": 64})
    whole = (rotated / scale[:, None]).round().to(torch.int8)
    held = {"a.weight": whole, "a.weight_scale": scale, "a.comfy_quant": entry}
    weights = read(save(tmp_path / "m.safetensors", held))
    truth = ((whole.double() * scale[:, None].double()).reshape(24, 8, 64) @ turn.double()).reshape(24, 512)
    found = weights.tensor("a.weight", torch.float32)
    assert weights.storage("a.weight") == "int8-convrot"
    assert weights.packed("a.weight") is None
    assert (found - truth).abs().max() < 1e-6 * truth.abs().max()
    assert (found - weight).norm() / weight.norm() < 0.01
    assert same(weights.tensor("a.weight", torch.bfloat16, rows=(2, 5)), found[2:5].bfloat16())


def test_nvfp4_of_comfyui_is_the_table_s_number_times_both_scales(tmp_path: Path) -> None:
    import torch
    from stored import mark, save

    pytest.importorskip("comfy_kitchen")
    numbers = torch.tensor([0, 0.5, 1, 1.5, 2, 3, 4, 6])
    table = torch.cat([numbers, -numbers])
    noise = torch.Generator().manual_seed(4)
    codes = torch.randint(0, 16, (128, 64), generator=noise)
    scales = (torch.rand(128, 4, generator=noise) + 0.5).to(torch.float8_e4m3fn)
    # As GPUs want them: of 128 x 4 scales, row r stands at (r % 32) * 16 + r // 32 * 4.
    order = torch.empty(512, dtype=torch.float8_e4m3fn)
    for row in range(128):
        order[row % 32 * 16 + row // 32 * 4 :][:4] = scales[row]
    held = {
        "a.weight": (codes[:, 0::2] << 4 | codes[:, 1::2]).to(torch.uint8),
        "a.weight_scale": order.reshape(128, 4),
        "a.weight_scale_2": torch.tensor(0.25),
        "a.comfy_quant": mark({"format": "nvfp4"}),
    }
    weights = read(save(tmp_path / "m.safetensors", held))
    truth = table[codes] * scales.float().repeat_interleave(16, 1) * 0.25
    assert weights.shape("a.weight") == (128, 64)
    assert same(weights.tensor("a.weight", torch.float32), truth)


def test_what_needs_a_package_says_so_where_it_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import torch
    from stored import mark, save

    from sosie.files import storage

    monkeypatch.setattr(storage.importlib.util, "find_spec", lambda name: None)
    entry = mark({"format": "int8_tensorwise", "convrot": True, "convrot_groupsize": 16})
    held = {"a.weight": torch.ones(4, 16, dtype=torch.int8), "a.weight_scale": torch.ones(4), "a.comfy_quant": entry}
    with pytest.raises(BadModelError, match="rotated") as caught:
        read(save(tmp_path / "m.safetensors", held))
    assert "sosie[kitchen]" in caught.value.hint
    with pytest.raises(BadModelError, match="NVFP4"):
        read(save(tmp_path / "m.safetensors", {**held, "a.weight_scale_2": torch.ones(1)}))


@pytest.mark.parametrize(
    ("held", "word"),
    [
        ({"a.comfy_quant": {"format": "int8_tensorwise", "convrot": True, "convrot_groupsize": 256}}, "convrot"),
        ({"a.comfy_quant": {"format": "nvfp4"}}, "lacks its scales"),
        ({"b.comfy_quant": {"format": "float8_e4m3fn"}}, "has no weight"),
        ({"a.weight_scale_inv": "ones"}, "scales for blocks"),
        ({"a.comfy_quant": {"format": "asym_w4a8_int8"}}, "asym_w4a8_int8"),
        ({"a.comfy_quant": {}}, "None"),
        ({"a.weight_scale_2": "ones"}, "NVFP4 without ComfyUI's metadata"),
        ({"a.qweight": "ones", "a.wscales": "ones", "a.proj_down": "ones"}, "SVDQuant"),
        ({"a.weight.quant_state.bitsandbytes__nf4": "ones"}, "nf4"),
    ],
)
def test_what_is_not_read_is_refused_by_name_before_a_tensor_is(tmp_path: Path, held: Any, word: str) -> None:
    import torch
    from stored import mark, save

    tensors = {name: torch.ones(4) if entry == "ones" else mark(entry) for name, entry in held.items()}
    path = save(tmp_path / "m.safetensors", {"a.weight": torch.ones(4, 4, dtype=torch.int8), **tensors})
    with pytest.raises(BadModelError, match=word) as caught:
        read(path)
    assert "bf16" in caught.value.hint


def test_other_wrong_files_are_errors_of_their_own(tmp_path: Path) -> None:
    import torch
    from stored import fp8, save

    with pytest.raises(NotFoundError):
        read(tmp_path / "none.safetensors")
    pickled = tmp_path / "m.pt"
    torch.save({"a": torch.ones(2)}, pickled)
    with pytest.raises(BadModelError, match="pickle"):
        read(pickled)
    held, _, _ = fp8(state(), PACKED, "comfy")
    path = save(tmp_path / "m.safetensors", {**held, "blocks.0.weight_scale": torch.ones(7)})
    with pytest.raises(BadModelError, match="rows"):
        read(path).tensor("blocks.0.weight")
    path = save(tmp_path / "m.safetensors", {**held, "blocks.0.comfy_quant": torch.full((5,), 200, dtype=torch.uint8)})
    with pytest.raises(BadModelError, match="JSON"):
        read(path)
    weights = read(save(tmp_path / "m.safetensors", state()))
    with pytest.raises(BadModelError, match="no tensor 'x'"):
        weights.tensor("x")
    with pytest.raises(BadModelError, match="begin with"):
        read(tmp_path / "m.safetensors", prefix="vae.")


def test_a_file_that_became_shorter_after_its_header_was_read_is_an_error(tmp_path: Path) -> None:
    import torch
    from stored import save

    from sosie.diffusion.weights.mapped import MappedFile

    path = save(tmp_path / "m.safetensors", {"a": torch.ones(4)})
    mapped = MappedFile(path)
    with pytest.raises(BadModelError, match="shorter"):
        mapped.tensor(torch.float32, (2**40,), 0)
    (tmp_path / "empty").write_bytes(b"")
    with pytest.raises(BadModelError, match="cannot be read"):
        MappedFile(tmp_path / "empty")
