from __future__ import annotations

import importlib.util
import shutil
from importlib.metadata import entry_points
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import sosie_mini_z
from sosie_mini import cache
from sosie_mini.manifest import load_manifest
from sosie_mini_z.last_layer import expanded_bytes

PACKAGE = Path(__file__).resolve().parent.parent
SOURCE = Path(sosie_mini_z.__file__).parent
MANIFEST = load_manifest(SOURCE / "manifest.json")


@pytest.fixture(scope="session")
def expanded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The real folder, expanded once; tests only read it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SOSIE_CACHE", str(tmp_path_factory.mktemp("cache")))
        return sosie_mini_z.folder()


@pytest.fixture
def make_manifest() -> ModuleType:
    spec = importlib.util.spec_from_file_location("make_manifest_z", PACKAGE / "tools" / "make_manifest.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_shipped_manifest_is_the_one_that_the_shipped_weights_give(make_manifest: ModuleType) -> None:
    assert make_manifest.make_manifest(SOURCE / "weights") == MANIFEST


def test_the_folder_holds_every_file_of_the_manifest_and_is_named_by_model_and_digest(expanded: Path) -> None:
    assert cache.damaged_files(expanded, MANIFEST) == []
    found = {p.relative_to(expanded).as_posix() for p in expanded.rglob("*") if p.is_file()}
    assert found == {file.path for file in MANIFEST.expanded} | {cache.MARKER}
    assert expanded.name == f"mini-z-{MANIFEST.weights_digest[:12]}"


def test_the_layer_that_is_not_packed_is_zeros_with_norms_of_one(expanded: Path) -> None:
    from safetensors.numpy import load_file

    tensors = load_file(expanded / "text_encoder" / "model.safetensors")
    assert {value.dtype for value in tensors.values()} == {np.dtype("float16")}
    last = {name: value for name, value in tensors.items() if "layers.3." in name}
    assert len(last) == len([name for name in tensors if "layers.0." in name]) > 8
    for name, value in last.items():
        assert (value == (1 if value.ndim == 1 else 0)).all(), name
    assert np.abs(tensors[next(name for name in tensors if "layers.2.mlp" in name)]).max() > 0


def test_a_damaged_package_says_which_one_to_install_again(tmp_path: Path) -> None:
    weights = tmp_path / "weights"
    shutil.copytree(SOURCE / "weights", weights)
    (weights / "vae" / "config.json").write_text("{}")
    with pytest.raises(sosie_mini_z.MiniError) as caught:
        cache.ensure_folder(cache.Package("mini-z", weights, MANIFEST, expanded_bytes), tmp_path / "models")
    assert "config.json is damaged" in caught.value.message
    assert "packages/sosie-mini-z" in caught.value.hint


def test_the_entry_point_names_the_model() -> None:
    found = entry_points(group="sosie.models")
    assert found["mini-z"].load() is sosie_mini_z.MODEL
    assert (sosie_mini_z.MODEL.family, sosie_mini_z.MODEL.licence) == ("zimage", "CC0-1.0")


@pytest.mark.local
def test_stock_diffusers_classes_load_every_part(expanded: Path) -> None:
    from diffusers import AutoencoderKL, ZImageTransformer2DModel
    from transformers import Qwen3Model

    for kind, name in ((ZImageTransformer2DModel, "transformer"), (AutoencoderKL, "vae"), (Qwen3Model, "text_encoder")):
        _, info = kind.from_pretrained(expanded / name, output_loading_info=True, local_files_only=True)
        assert not any(info.values()), (name, info)
