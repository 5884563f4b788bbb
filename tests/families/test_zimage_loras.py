"""LoRAs in Z-Image's weights: every layout that trainers write, by the numbers that the model then holds."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny_zimage as tiny

from sosie.core.errors import BadModelError
from sosie.core.recipe import LoraUse
from sosie.doctor.loras import check_lora
from sosie.families import drawer_of
from sosie.families.contract.draws import Settings

pytestmark = [pytest.mark.local, pytest.mark.once]

Sosie = Callable[..., Any]
Pairs = Mapping[str, tuple[Any, Any]]
"""Module of the split model -> A [rank, columns] and B [rows, rank]."""

SPLIT = ("attention.to_q", "attention.to_k", "attention.to_v", "attention.to_out.0")
MODULES = (*SPLIT, "feed_forward.w1", "feed_forward.w2", "feed_forward.w3", "adaLN_modulation.0")


def shapes(transformer: Any) -> dict[str, tuple[int, int]]:
    """The modules that ai-toolkit trains, each with its rows and columns."""
    layers = range(transformer.config.n_layers)
    names = [f"layers.{layer}.{name}" for layer in layers for name in MODULES]
    return {name: tuple(transformer.get_submodule(name).weight.shape) for name in names}


def pairs(transformer: Any, rank: int, size: float = 0.1) -> Pairs:
    import torch

    generator = torch.Generator().manual_seed(11)
    return {
        name: (
            torch.randn((rank, columns), generator=generator) * size,
            torch.randn((rows, rank), generator=generator) * size,
        )
        for name, (rows, columns) in shapes(transformer).items()
    }


def expected(transformer: Any, given: Pairs, scale: float) -> dict[str, Any]:
    """Every weight as it must become, float64."""
    found = {name: tensor.double() for name, tensor in transformer.state_dict().items()}
    for name, (a, b) in given.items():
        found[f"{name}.weight"] = found[f"{name}.weight"] + scale * b.double() @ a.double()
    return found


def fused(given: Pairs) -> dict[str, tuple[Any, Any, int]]:
    """q, k and v as one module of three times the rank, and the names of single files; each with its rank's factor."""
    import torch

    found: dict[str, tuple[Any, Any, int]] = {}
    for name, (a, b) in given.items():
        block, _, module = name.partition(".attention.")
        if module == "to_q":
            three = [given[f"{block}.attention.to_{letter}"] for letter in "qkv"]
            together = torch.cat([one[0] for one in three]), torch.block_diag(*(one[1] for one in three))
            found[f"{block}.attention.qkv"] = (*together, 3)
        elif module == "to_out.0":
            found[f"{block}.attention.out"] = (a, b, 1)
        elif not module:
            found[name] = (a, b, 1)
    return found


def names(style: str) -> tuple[str, str]:
    ends = {
        "A": ("lora_A.weight", "lora_B.weight"),
        "down": ("lora_down.weight", "lora_up.weight"),
        "default": ("lora_A.default.weight", "lora_B.default.weight"),
    }
    return ends[style]


def written(
    given: Pairs, prefix: str, style: str = "A", alpha: float | None = None, flat: bool = False, one: bool = False
) -> dict[str, Any]:
    """The tensors of a layout. With `one` q, k and v are one module."""
    import torch

    modules = fused(given) if one else {name: (a, b, 1) for name, (a, b) in given.items()}
    tensors: dict[str, Any] = {}
    for name, (a, b, times) in modules.items():
        stem = prefix + (name.replace(".", "_") if flat else name)
        down, up = names(style)
        tensors |= {f"{stem}.{down}": a.contiguous(), f"{stem}.{up}": b.contiguous()}
        if alpha is not None:
            tensors[f"{stem}.alpha"] = torch.tensor(alpha * times)
    return tensors


PEFT = {"lora_adapter_metadata": json.dumps({"transformer.r": 4, "transformer.lora_alpha": 2})}

LAYOUTS: dict[str, tuple[dict[str, Any], float, dict[str, str]]] = {
    "ai-toolkit": ({"prefix": "diffusion_model."}, 1.0, {}),
    "diffusers": ({"prefix": "transformer."}, 1.0, {}),
    "diffusers, alpha in the metadata": ({"prefix": "transformer."}, 0.5, PEFT),
    "OneTrainer": ({"prefix": "transformer.", "style": "down", "alpha": 2.0}, 0.5, {}),
    "musubi": ({"prefix": "lora_unet_", "style": "down", "alpha": 2.0, "flat": True}, 0.5, {}),
    "kohya, fused": ({"prefix": "lora_unet_", "style": "down", "alpha": 2.0, "flat": True, "one": True}, 0.5, {}),
    "fused": ({"prefix": "diffusion_model.", "one": True}, 1.0, {}),
    "fused, alpha": ({"prefix": "diffusion_model.", "one": True, "alpha": 2.0}, 0.5, {}),
    "bare": ({"prefix": ""}, 1.0, {}),
    "DiffSynth": ({"prefix": "", "style": "default"}, 1.0, {}),
    "peft": ({"prefix": "base_model.model."}, 1.0, {}),
    "LyCORIS": ({"prefix": "lycoris_", "style": "down", "alpha": 2.0, "flat": True}, 0.5, {}),
}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tiny.Made:
    return tiny.make(tmp_path_factory.mktemp("zimage"))


@pytest.fixture
def transformer(made: tiny.Made) -> Any:
    """The tiny model's, loaded from its fused single file."""
    return loaded(made.transformer)


def loaded(path: Path) -> Any:
    import torch

    from sosie.families.zimage.diffusers.load import Loading, load_transformer

    return load_transformer(path, Loading(torch.float32))


def merged(transformer: Any, *uses: tuple[Path, float]) -> Any:
    from sosie.families.zimage.diffusers.loras import Loras

    loras = Loras(transformer)
    loras.set([LoraUse(str(path), weight) for path, weight in uses], {str(path): path for path, _ in uses})
    return loras


def expect_weights(transformer: Any, wanted: Mapping[str, Any]) -> None:
    for name, tensor in transformer.state_dict().items():
        assert (tensor.double() - wanted[name]).abs().max() <= 2e-7 * max(1.0, float(wanted[name].abs().max())), name


@pytest.mark.parametrize("name", LAYOUTS)
def test_every_layout_gives_the_weights_that_the_equation_says(transformer: Any, tmp_path: Path, name: str) -> None:
    from safetensors.torch import save_file

    how, scale, metadata = LAYOUTS[name]
    given = pairs(transformer, 4)
    wanted = expected(transformer, given, 0.8 * scale)
    before = {key: tensor.clone() for key, tensor in transformer.state_dict().items()}
    save_file(written(given, **how), tmp_path / "x.safetensors", metadata or None)
    loras = merged(transformer, (tmp_path / "x.safetensors", 0.8))
    expect_weights(transformer, wanted)
    loras.set([], {})
    assert all((tensor == before[key]).all() for key, tensor in transformer.state_dict().items())


def test_several_loras_add_up_each_at_its_strength(transformer: Any, tmp_path: Path) -> None:
    from safetensors.torch import save_file

    given = pairs(transformer, 4)
    half = {name: pair for name, pair in given.items() if "feed_forward" in name}
    wanted = expected(transformer, given, 0.7)
    wanted = {name: tensor - 0.25 * _product(half, name) for name, tensor in wanted.items()}
    save_file(written(given, "diffusion_model."), tmp_path / "a.safetensors")
    save_file(written(half, "lora_unet_", "down", 4.0, flat=True), tmp_path / "b.safetensors")
    merged(transformer, (tmp_path / "a.safetensors", 0.7), (tmp_path / "b.safetensors", -0.25))
    expect_weights(transformer, wanted)


def _product(given: Pairs, name: str) -> Any:
    found = given.get(name.removesuffix(".weight"))
    return 0.0 if found is None else found[1].double() @ found[0].double()


def test_loha_lokr_and_dora_are_computed(transformer: Any, tmp_path: Path) -> None:
    import torch
    from safetensors.torch import save_file

    generator = torch.Generator().manual_seed(3)

    def numbers(*shape: int) -> Any:
        return torch.randn(shape, generator=generator) * 0.2

    width, stem = tiny.WIDTH, "diffusion_model.layers.0.attention"
    before = {name: tensor.double() for name, tensor in transformer.state_dict().items()}
    hada = {f"w{n}_{side}": numbers(*((width, 4) if side == "a" else (4, width))) for n in (1, 2) for side in "ab"}
    kron = {"w1": numbers(8, 8), "w2": numbers(width // 8, width // 8)}
    a, b, scale = numbers(4, width), numbers(width, 4), numbers(width, 1).abs() + 1
    tensors = {f"{stem}.to_q.hada_{name}": tensor for name, tensor in hada.items()}
    tensors |= {f"{stem}.to_k.lokr_{name}": tensor for name, tensor in kron.items()}
    tensors |= {f"{stem}.to_v.lora_A.weight": a, f"{stem}.to_v.lora_B.weight": b, f"{stem}.to_v.dora_scale": scale}
    save_file(tensors, tmp_path / "x.safetensors")
    merged(transformer, (tmp_path / "x.safetensors", 1.0))
    after = {name: tensor.double() for name, tensor in transformer.state_dict().items()}
    own = "layers.0.attention"
    change = (hada["w1_a"].double() @ hada["w1_b"].double()) * (hada["w2_a"].double() @ hada["w2_b"].double())
    wanted = {f"{own}.to_q.weight": before[f"{own}.to_q.weight"] + change}
    wanted[f"{own}.to_k.weight"] = before[f"{own}.to_k.weight"] + torch.kron(kron["w1"].double(), kron["w2"].double())
    turned = before[f"{own}.to_v.weight"] + b.double() @ a.double()
    wanted[f"{own}.to_v.weight"] = turned * scale.double() / turned.norm(dim=1, keepdim=True)
    for name, tensor in after.items():
        assert (tensor - wanted.get(name, before[name])).abs().max() < 1e-5, name


def test_modules_that_a_file_has_as_one_are_computed_each_for_itself(transformer: Any, tmp_path: Path) -> None:
    import torch
    from safetensors.torch import save_file

    generator = torch.Generator().manual_seed(4)
    width, stem = tiny.WIDTH, "diffusion_model.layers.1.attention.qkv"
    one, two = torch.randn((12, 8), generator=generator) * 0.2, torch.randn((16, 8), generator=generator) * 0.2
    save_file({f"{stem}.lokr_w1": one, f"{stem}.lokr_w2": two}, tmp_path / "x.safetensors")
    before = {letter: transformer.layers[1].attention.get_submodule(f"to_{letter}").weight.double() for letter in "qkv"}
    rows = torch.kron(one.double(), two.double()).chunk(3)
    merged(transformer, (tmp_path / "x.safetensors", 1.0))
    for letter, change in zip("qkv", rows, strict=True):
        after = transformer.layers[1].attention.get_submodule(f"to_{letter}").weight
        assert (after.double() - before[letter] - change).abs().max() < 1e-6
    a, b = torch.randn((4, width), generator=generator), torch.randn((3 * width, 4), generator=generator)
    norms = {"dora_scale": torch.ones(1, width), "lora_A.weight": a, "lora_B.weight": b}
    save_file({f"{stem}.{name}": tensor for name, tensor in norms.items()}, tmp_path / "y.safetensors")
    with pytest.raises(BadModelError, match="norms of columns of several modules as one"):
        merged(transformer, (tmp_path / "y.safetensors", 1.0))


# The case of the week: ai-toolkit's LoRA, rank 32, split and without alpha, on the fused single file


@pytest.fixture(scope="module")
def mini_z() -> Path:
    return pytest.importorskip("sosie_mini_z").folder()


@pytest.fixture
def runner() -> Iterator[Any]:
    made = drawer_of("zimage").runner("cpu", Settings())
    yield made
    made.close()


def test_ai_toolkits_lora_changes_every_module_of_mini_z_exactly_on_the_fused_file_as_on_the_folder(
    mini_z: Path, runner: Any, tmp_path: Path
) -> None:
    import torch
    from safetensors.torch import load_file, save_file

    (file,) = (mini_z / "transformer").glob("*.safetensors")
    single = tiny.fused_names(load_file(file))
    del single["norm_final.weight"]
    save_file({name: tensor.contiguous() for name, tensor in single.items()}, tmp_path / "z.safetensors")
    plain = loaded(tmp_path / "z.safetensors")
    given = pairs(plain, 32, 0.02)
    lora = tmp_path / "elena.safetensors"
    save_file(written(given, "diffusion_model."), lora)
    assert len(given) == 7 * 8
    found = {finding.code: finding for finding in check_lora(lora, tmp_path / "z.safetensors")}
    assert "112 of 112 tensors match" in found["SOS-L005"].message
    wanted = expected(plain, given, 1.0)

    def drawn(model: Path, *uses: LoraUse) -> Any:
        stage = tiny.stage(text_encoder="folder", vae="folder", steps=2, loras=uses)
        paths = {"z": model, "folder": mini_z, "elena": lora}
        return np.asarray(runner.run(tiny.given(stage, paths)).image).astype(int)

    torch.manual_seed(0)
    without = drawn(tmp_path / "z.safetensors")
    after = drawn(tmp_path / "z.safetensors", LoraUse("elena", 1.0))
    weights = dict(runner._pipelines._model.parts.transformer.state_dict())
    changed = {name for name, tensor in weights.items() if (tensor != plain.state_dict()[name]).any()}
    assert changed == {f"{name}.weight" for name in given}
    expect_weights(runner._pipelines._model.parts.transformer, wanted)
    assert np.abs(after - without).mean() > 2
    np.testing.assert_array_equal(drawn(mini_z, LoraUse("elena", 1.0)), after)
    assert 0 < np.abs(drawn(mini_z, LoraUse("elena", 0.3)) - without).mean() < np.abs(after - without).mean()


# De-Turbo's LoRA on Base


def test_generate_warns_of_a_lora_of_de_turbo_on_base(
    made: tiny.Made, sosie: Sosie, workspace: Path, transformer: Any
) -> None:
    from safetensors.torch import save_file

    (workspace / "models").mkdir()
    for path, name in ((made.transformer, "z_image_bf16"), (made.text_encoder, "qwen_3_4b"), (made.vae, "ae")):
        (workspace / "models" / f"{name}.safetensors").write_bytes(path.read_bytes())
    lora = workspace / "elena_zimage_v2.safetensors"
    save_file(written(pairs(transformer, 4), "diffusion_model."), lora, {"ss_sd_model_name": "ostris/Z-Image-De-Turbo"})
    done = sosie("lora", "add", "mira", lora, "--model", "z_image_bf16", "--workspace", workspace)
    assert done.code in (0, 1), done.err
    recipes = workspace / "recipes"
    recipes.mkdir()
    shipped = (tiny_recipe() / "zimage.toml").read_text()
    small = shipped.replace("= 1024", "= 64", 2).replace("steps = 25", "steps = 20")
    (recipes / "zimage.toml").write_text(small)
    done = sosie("generate", "mira", "smiling", "--recipe", "zimage", "--attempts", 1, "--workspace", workspace, "-v")
    assert done.code == 1, done.err  # noise: rejected
    assert "SOS-L020" in done.err
    assert "trained on Z-Image De-Turbo" in done.err
    assert "32 of 32 tensors match" in done.err


def tiny_recipe() -> Path:
    from places import ROOT

    return ROOT / "recipes"
