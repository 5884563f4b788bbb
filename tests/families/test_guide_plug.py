"""A guide that another distribution brings acts in a family of the house; one that is broken breaks nothing else.

The guide is `tests/support/toy_guide`: nothing in the house knows it.
"""

from __future__ import annotations

import importlib
import json
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny_sdxl as tiny
from PIL import Image
from places import ROOT
from safetensors.numpy import save_file
from seen_once import look_once

from sosie.core import Guide
from sosie.core.errors import EngineError
from sosie.doctor.graph_files import GraphFiles
from sosie.doctor.graph_stages import graph_stages
from sosie.families import families, guides_of
from sosie.families.contract.guides import conditionings
from sosie.families.plugged import plugged_guides
from sosie.graph.guides import forget_guides
from sosie.graph.nodes import forget
from sosie.graph.read import read_workflow
from sosie.graph.without_character import guide_changes
from sosie.workspace.workspace import open_workspace

Sosie = Callable[..., Any]
Install = Callable[..., None]

TOY = ROOT / "tests" / "support" / "toy_guide"

RECIPE = """
name = "{name}"
prompt = "portrait of {{description}}, {{prompt}}"
width = 256
height = 256

[[stages]]
kind = "generate"
family = "sdxl"
model = "mini"

[stages.sampler]
steps = 2
cfg = 3.5
"""

GUIDE = """
[[stages.guides]]
kind = "facetoken"
weights = "facetoken"
scale = 2.0
"""


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Install]:
    """Installs the guide as a distribution with an entry point, with `changed` texts in it."""
    look_once(monkeypatch)

    def make(changed: tuple[str, str] = ("", ""), entry: str = "facetoken = sosie_tokens:GUIDE") -> None:
        site = tmp_path / "site"
        shutil.copytree(TOY, site)
        module = site / "sosie_tokens" / "__init__.py"
        assert changed[0] in module.read_text()
        module.write_text(module.read_text().replace(*changed))
        info = site / "sosie_tokens-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text("Metadata-Version: 2.1\nName: sosie-tokens\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text(f"[sosie.guides]\n{entry}\n")
        monkeypatch.syspath_prepend(site)
        _forget()

    yield make
    monkeypatch.undo()
    _forget()


def _forget() -> None:
    sys.modules.pop("sosie_tokens", None)
    importlib.invalidate_caches()
    plugged_guides.cache_clear()
    families.cache_clear()
    forget()
    forget_guides()


@pytest.fixture
def place(workspace: Path) -> Path:
    """A workspace with the guide's file, a recipe that uses it, and the same without it."""
    for folder in ("models", "recipes"):
        (workspace / folder).mkdir(exist_ok=True)
    weight = np.random.default_rng(0).normal(size=(3, 256)).astype(np.float32)
    save_file({"face_token.weight": weight}, workspace / "models" / "facetoken.safetensors")
    (workspace / "recipes" / "plain.toml").write_text(RECIPE.format(name="plain"))
    (workspace / "recipes" / "guided.toml").write_text(RECIPE.format(name="guided") + GUIDE)
    return workspace


def objects(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


def errors(findings: list[dict[str, str]]) -> list[str]:
    return [finding["code"] for finding in findings if finding["severity"] == "error"]


def test_its_file_and_a_recipe_that_names_it_are_known(sosie: Sosie, place: Path, install: Install) -> None:
    install()
    file = place / "models" / "facetoken.safetensors"
    known, recipe = objects(sosie("doctor", file, "guided", "--json", "--workspace", place).out)
    assert (known["family"], known["role"], known["variant"]) == ("sdxl", "ip-adapter", "facetoken")
    assert errors(known["findings"]) + errors(recipe["findings"]) == [], recipe
    done = sosie("recipe", "check", "guided", "--workspace", place)
    assert done.code == 0, done.err


@pytest.mark.local
@pytest.mark.once
def test_it_changes_the_pixels_that_are_drawn(sosie: Sosie, place: Path, tmp_path: Path, install: Install) -> None:
    install()
    pixels = {name: drawn(sosie, place, tmp_path, name) for name in ("plain", "guided")}
    assert np.abs(pixels["guided"] - pixels["plain"]).mean() > 1


def drawn(sosie: Sosie, place: Path, tmp_path: Path, recipe: str) -> np.ndarray[Any, Any]:
    """The pixels of a recipe's first attempt, kept or not."""
    asked = ("--recipe", recipe, "--seed", 3, "--attempts", 1, "--out", tmp_path / "out", "--json")
    done = sosie("generate", "mira", "smiling", *asked, "--workspace", place)
    assert done.code in (0, 1), done.err
    return np.asarray(Image.open(objects(done.out)[0]["image"]).convert("RGB"), np.float32)


def test_it_is_drawn_as_its_own_node_and_taken_out_of_such_a_graph(
    sosie: Sosie, place: Path, tmp_path: Path, install: Install
) -> None:
    install()
    recipe = place / "recipes" / "guided.toml"
    recipe.write_text(recipe.read_text().replace('"mini"', '"somebodys"'))
    done = sosie("recipe", "show", "guided", "--as", "comfy", "--character", "mira", "--workspace", place)
    assert done.code == 0, done.err
    flow = tmp_path / "flow.json"
    flow.write_text(done.out)
    graph = read_workflow(flow)
    (token,) = graph.of("FaceToken")
    (sampler,) = graph.of("KSampler")
    assert (sampler.inputs["positive"].node, token.inputs["strength"]) == (token.id, 2.0)
    (stage,) = graph_stages(graph, GraphFiles(open_workspace(place)), "flow")
    assert [(guide.kind, guide.scale) for guide in stage.guides] == [("facetoken", 2.0)]
    (output,) = graph.of("SaveImage")
    assert [change.text for change in guide_changes(graph, output.id)] == [f"{token.id}.strength=0"]


def test_without_it_a_recipe_that_names_it_says_which_guides_there_are(sosie: Sosie, place: Path) -> None:
    done = sosie("recipe", "check", "guided", "--workspace", place)
    assert done.code == 1
    assert "stages[0].guides[0].kind = 'facetoken' is not allowed; did you mean 'faceid'?" in done.err


@pytest.mark.parametrize(
    ("changed", "entry", "why"),
    [
        (("from sosie.graph", "from sosie.grap"), "facetoken = sosie_tokens:GUIDE", "cannot be loaded: ModuleNotFound"),
        (("", ""), "facetoken = sosie_tokens:PACK", "names a NodePack, not a GuideKind"),
        (('"facetoken",\n    (', '"other",\n    ('), "facetoken = sosie_tokens:GUIDE", "brings guide 'other'"),
    ],
)
def test_one_that_is_broken_is_told_where_it_is_named_and_breaks_nothing_else(
    sosie: Sosie, place: Path, install: Install, changed: tuple[str, str], entry: str, why: str
) -> None:
    install(changed, entry)
    done = sosie("recipe", "check", "guided", "--workspace", place)
    assert done.code == 1
    assert f"kind = 'facetoken' is not allowed: entry point '{entry}' of sosie-tokens" in done.err
    assert why in done.err
    assert sosie("recipe", "check", "plain", "--workspace", place).code == 0


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        (('("text",)', '("images",)'), "'facetoken' joins a run by its images; SDXL takes adapter, text, control"),
        (('    in_process=InProcess(condition, ("text",)),\n', ""), "'facetoken' cannot act on SDXL in this process"),
    ],
)
@pytest.mark.local
def test_one_that_a_familys_runs_cannot_take_is_refused_before_a_weight_is_read(
    sosie: Sosie, place: Path, tmp_path: Path, install: Install, changed: tuple[str, str], said: str
) -> None:
    install(changed)
    done = sosie("generate", "mira", "x", "--recipe", "guided", "--out", tmp_path / "out", "--workspace", place)
    assert done.code == 2
    assert "SOS-E030" in done.err
    assert said in done.err


def test_one_that_has_no_nodes_is_refused_for_comfyui(sosie: Sosie, place: Path, install: Install) -> None:
    install(("    in_graphs=InGraphs(files, draw),\n", ""))
    done = sosie("recipe", "show", "guided", "--as", "comfy", "--workspace", place)
    assert "guide 'facetoken' has no node for SDXL; expected faceid, faceid-plus-v2, instantid" in done.err


def test_a_file_that_it_needs_and_a_recipe_leaves_out_is_named(sosie: Sosie, place: Path, install: Install) -> None:
    install()
    recipe = place / "recipes" / "guided.toml"
    recipe.write_text(recipe.read_text().replace('weights = "facetoken"\n', ""))
    done = sosie("recipe", "check", "guided", "--workspace", place)
    assert "stages[0].guides[0] has no weights, which 'facetoken' needs" in done.err


def test_what_a_guide_gives_without_having_declared_it_is_an_error(install: Install, tmp_path: Path) -> None:
    install(('InProcess(condition, ("text",))', 'InProcess(condition, ("images",))'))
    paths = {"token": tmp_path / "token.safetensors"}
    save_file({"face_token.weight": np.ones((3, 4), np.float32)}, paths["token"])
    given = tiny.given([Guide("facetoken", "token")], paths, tiny.FakeFaces({}, [Image.new("RGB", (4, 4))]))
    with pytest.raises(EngineError, match="'facetoken' gives something for 'text', and declares images"):
        conditionings(guides_of("sdxl"), given)
