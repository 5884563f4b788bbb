"""A family's parts are found in one place; a part that it does not bring is a finding that says who has one."""

from __future__ import annotations

import importlib.metadata
import json
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from sosie.core.errors import ConfigError, MissingPartError, NotFoundError, UsageError
from sosie.families import drawer_of, families, family_of, grapher_of, partners_of, trainer_of
from sosie.families.contract.family import Family
from sosie.families.contract.partners import Partners
from sosie.graph.build import Builder
from sosie.graph.nodes import NodePack, forget, node_type, packs
from sosie.workspace.recipes import read_recipe

RECIPE = """
name = "mine"
prompt = "{prompt}"
width = 64
height = 64

[[stages]]
kind = "generate"
family = "flux1"
model = "flux1-dev"
text_encoder = "text"
vae = "ae"
"""

MARKS = {
    "double_blocks.0.img_attn.norm.key_norm.scale": (128,),
    "single_blocks.0.norm.key_norm.scale": (128,),
    "img_in.bias": (3072,),
    "vector_in.in_layer.bias": (3072,),
}
"""What FLUX.1's denoiser is known by."""


def write(path: Path, shapes: dict[str, tuple[int, ...]]) -> None:
    table: dict[str, Any] = {}
    end = 0
    for name, shape in shapes.items():
        start, end = end, end + 2 * math.prod(shape)
        table[name] = {"dtype": "BF16", "shape": list(shape), "data_offsets": [start, end]}
    header = json.dumps(table).encode()
    path.write_bytes(
        len(header).to_bytes(8, "little") + header + bytes(range(1, 62)) * (end // 61) + bytes(range(end % 61))
    )


def have(workspace: Path) -> None:
    """A recipe of FLUX.1 with files that Sosie knows."""
    for folder in ("models", "recipes"):
        (workspace / folder).mkdir(exist_ok=True)
    write(workspace / "models" / "flux1-dev.safetensors", MARKS)
    for name in ("text", "ae"):
        write(workspace / "models" / f"{name}.safetensors", {"a": (1,)})
    (workspace / "recipes" / "mine.toml").write_text(RECIPE)


@pytest.mark.once
def test_a_recipe_that_cannot_be_drawn_in_this_process_is_told_the_engine_that_can(
    sosie: Callable[..., Any], workspace: Path, tmp_path: Path
) -> None:
    have(workspace)
    result = sosie("generate", "mira", "x", "--recipe", "mine", "--workspace", workspace, "--out", tmp_path / "out")
    assert (result.code, result.out) == (2, "")
    assert "SOS-E018" in result.err
    assert "FLUX.1 cannot be drawn in this process; families that can: esrgan, flux2, sdxl, zimage" in result.err
    assert "--workflow FILE.json --engine comfy:URL" in result.err
    assert "Traceback" not in result.err


def test_a_family_without_a_part_says_which_families_have_one() -> None:
    for missing, expected in (
        (
            lambda: drawer_of("flux1"),
            "FLUX.1 cannot be drawn in this process; families that can: esrgan, flux2, sdxl, zimage",
        ),
        (
            lambda: grapher_of("flux1"),
            "Sosie draws no graphs for FLUX.1; families that can: esrgan, flux2, sdxl, zimage",
        ),
        (lambda: trainer_of("flux1"), "FLUX.1 cannot be trained; families that can: flux2, sdxl, zimage"),
    ):
        with pytest.raises(MissingPartError, match=expected):
            missing()


def test_a_family_that_is_not_known_names_the_nearest() -> None:
    for find in (family_of, drawer_of, grapher_of, trainer_of):
        with pytest.raises(NotFoundError, match="family 'zimge' is not known; did you mean 'zimage'"):
            find("zimge")
    assert partners_of("zimge") == Partners()


def test_every_family_that_is_shipped_keeps_what_it_promises() -> None:
    for family in families():
        for part in (family.on_diffusers, family.on_comfy):
            assert part is None or part().check


def test_a_guide_of_no_family_names_the_nearest_and_one_of_another_family_is_explained(tmp_path: Path) -> None:
    guide = '[[stages.guides]]\nkind = "instantd"\nweights = "a"\nencoder = "b"\n'
    (tmp_path / "mine.toml").write_text(RECIPE.replace('"flux1"', '"sdxl"') + guide)
    with pytest.raises(UsageError, match=r"guides\[0\].kind = 'instantd' is not allowed; did you mean 'instantid'"):
        read_recipe(tmp_path / "mine.toml")
    (tmp_path / "mine.toml").write_text(RECIPE + guide.replace("instantd", "ip-adapter"))
    with pytest.raises(UsageError, match="'ip-adapter' is not allowed"):
        read_recipe(tmp_path / "mine.toml")
    (tmp_path / "mine.toml").write_text(RECIPE + guide.replace("instantd", "instantid"))
    assert read_recipe(tmp_path / "mine.toml").stages[0].guides[0].kind == "instantid"


@pytest.fixture
def fresh() -> Iterator[None]:
    families.cache_clear()
    forget()
    yield
    families.cache_clear()
    forget()


@pytest.mark.usefixtures("fresh")
def test_a_family_brings_the_classes_of_nodes_that_its_graphs_use(monkeypatch: pytest.MonkeyPatch) -> None:
    pack = NodePack("Toys", "https://example.org/toys", "ToyLoader -> MODEL\n  toy FILE diffusion_models")
    offer(monkeypatch, Family("toy", "Toy", (), nodes=(pack,)))
    loader = node_type("ToyLoader")
    assert loader is not None
    assert (loader.outputs, loader.pack, packs()["Toys"]) == (("MODEL",), "Toys", "https://example.org/toys")
    assert Builder().add("ToyLoader", toy="a.safetensors")


@pytest.mark.usefixtures("fresh")
def test_a_class_of_nodes_that_two_packs_describe_differently_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    offer(monkeypatch, Family("toy", "Toy", (), nodes=(NodePack("Toys", "", "VAEDecode -> LATENT"),)))
    with pytest.raises(ConfigError, match="packs 'core' and 'Toys' describe node 'VAEDecode' differently"):
        node_type("VAEDecode")


def offer(monkeypatch: pytest.MonkeyPatch, family: Family) -> None:
    entry = SimpleNamespace(name=family.name, value="toy:FAMILY", dist=None, load=lambda: family)
    monkeypatch.setattr(importlib.metadata, "entry_points", lambda group: [entry])
