"""The choices of ComfyUI's graphs, `--face-detailer` and `--tiles`, from the command line to the graph."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from comfy_bench import (
    Recipes,
    link_to,
    plan,
    set_behaviour,
)
from json_lines import lines
from recipe_graphs import EVERYWHERE, SDXL, drafts, made, nodes, only, planned, shipped

from sosie.api.engines import open_graphs
from sosie.api.generation import Order, _arguments
from sosie.core import Asset, Character, Render, Stage
from sosie.core.errors import UsageError
from sosie.core.plan import asset_names
from sosie.core.recipe import Sampler, Upscale
from sosie.engines.comfy.compile import expect_effect
from sosie.engines.comfy.fake import Behaviour, FakeServer
from sosie.engines.comfy.matching import match
from sosie.engines.comfy.program import CompiledGraph
from sosie.engines.comfy.worker import ServerWorker
from sosie.families.contract.graphs import GraphChoices
from sosie.store import Store
from sosie.workspace.session import Session
from sosie.workspace.workspace import open_workspace

pytestmark = pytest.mark.once

Sosie = Callable[..., Any]
DETAILER, TILES = GraphChoices(faces="server"), GraphChoices(tiles=True)
UPSCALE = Stage("upscale", "esrgan", "4x-UltraSharp", upscale=Upscale(4.0))


# --- choices of the graphs ---


@pytest.mark.parametrize("flag", ["--face-detailer", "--tiles"])
@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), "is for ComfyUI; engine 'diffusers'"),
        (("--engine", "fake"), "is for ComfyUI; engine 'fake'"),
        (("--engine", "comfy:http://127.0.0.1:1", "--workflow", "x.json"), "a workflow is run as it is"),
    ],
)
def test_a_choice_of_graphs_is_refused_where_there_are_none(
    sosie: Sosie, workspace: Path, flag: str, arguments: tuple[str, ...], said: str
) -> None:
    result = sosie("generate", "mira", "x", flag, *arguments, "--workspace", workspace)
    assert result.code == 2
    assert f"{flag} is for" in result.err
    assert said in result.err


@pytest.mark.parametrize(
    ("recipe", "choices", "said"),
    [
        ("zimage", DETAILER, "--face-detailer would change nothing: recipe 'zimage' has no face pass"),
        ("hybrid", TILES, "--tiles would change nothing: recipe 'hybrid'"),
        ("hybrid", GraphChoices(faces="server", tiles=True), "--tiles would change nothing"),
    ],
)
def test_a_choice_that_changes_no_graph_is_refused(recipe: str, choices: GraphChoices, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        expect_effect([planned(shipped(recipe))], choices)


def test_a_choice_that_changes_a_graph_is_taken() -> None:
    expect_effect([planned(shipped("sdxl-instantid"))], EVERYWHERE[-1])
    expect_effect([planned(shipped("zimage")), planned(shipped("hybrid"))], DETAILER)


def test_tiles_draw_an_enlarged_image_over_by_the_model_that_drew_it() -> None:
    of = planned(shipped("sdxl-instantid"))
    large = drafts(of, TILES)[-1]
    tiled = only(large, "UltimateSDUpscaleNoUpscale")
    scaled = large[tiled["upscaled_image"][0]]
    assert (scaled["class_type"], scaled["inputs"]["width"], scaled["inputs"]["height"]) == ("ImageScale", 4096, 6144)
    assert (tiled["steps"], tiled["denoise"], tiled["seed"]) == (6, 0.2, of.stage_seed(2))
    # Of the whole picture, not of the close-up, and without guides, which would put a face into every tile.
    assert large[tiled["positive"][0]]["inputs"]["text"] == of.prompt
    assert large[tiled["model"][0]]["class_type"] == "CheckpointLoaderSimple"
    assert nodes(large, "ApplyInstantIDAdvanced") == nodes(large, "IPAdapterFaceID") == []
    assert only(large, "SaveImage")["images"][0] == next(n for n, e in large.items() if e["inputs"] == tiled)
    assert nodes(drafts(of)[-1], "UltimateSDUpscaleNoUpscale") == []


def test_tiles_are_not_drawn_twice_nor_of_what_is_small_nor_by_what_cannot() -> None:
    refine = replace(SDXL, kind="refine", sampler=Sampler("euler", "normal", 20, 5.0, 0.3))
    for stages, count in (
        ((SDXL, UPSCALE, refine), 1),
        ((SDXL, UPSCALE), 1),
        ((SDXL, replace(UPSCALE, upscale=Upscale(1.5))), 0),
        ((shipped("zimage").stages[0], UPSCALE), 0),
        ((SDXL, shipped("zimage").stages[0], UPSCALE), 0),
    ):
        found = [
            entry for graph in drafts(made(*stages), TILES) for entry in nodes(graph, "UltimateSDUpscaleNoUpscale")
        ]
        assert len(found) == count, stages


def test_a_server_without_the_pack_is_told_which_one_brings_the_face_detailer(near: FakeServer) -> None:
    set_behaviour(near, lacks=frozenset({"FaceDetailer", "UltralyticsDetectorProvider"}))
    catalogue = ServerWorker(link_to(near), Recipes(), {})._offers()
    (graph,) = drafts(planned(shipped("hybrid")), DETAILER)
    found = [f for f in match(CompiledGraph(graph, list(graph)[-1]), catalogue, "s").findings if f.code == "SOS-Y010"]
    assert [(f.severity, "the pack 'Impact Pack' brings it" in f.message) for f in found] == [("error", True)] * 2
    assert "github.com/ltdrdata/ComfyUI-Impact-Pack" in found[0].hint


def test_an_image_that_was_made_otherwise_is_not_recalled(near: FakeServer, tmp_path: Path) -> None:
    session = Session(open_workspace(tmp_path))
    address_ = f"comfy:{near.url}"
    usual, tiled = (open_graphs(session, address_, Recipes(), each.variant) for each in (GraphChoices(), TILES))
    assert tiled.name == f"{usual.name}+tiles"
    assert usual.name == f"comfy:{near.url.removeprefix('http://')}"
    assert len({each.variant for each in EVERYWHERE}) == 2
    of = replace(plan(1), assets=tuple(Asset(name, "") for name in asset_names(plan(1).stages)))
    (render,) = (event for event in usual.run([of]) if isinstance(event, Render))
    (other,) = (event for event in tiled.run([of]) if isinstance(event, Render))
    assert (render.engine, other.engine) == (usual.name, tiled.name)
    store = Store.open(tmp_path / "store")
    store.add_render(render)
    assert store.find_render(render.plan.id, usual.name) is not None
    assert store.find_render(render.plan.id, tiled.name) is None
    for one in (usual, tiled, store):
        one.close()


def test_a_run_records_its_choices(tmp_path: Path) -> None:
    who = Character("mira", "fictional", True)
    recorded = [_arguments(Order(who, shipped("hybrid"), (), 1, 0, tmp_path, choices=c)) for c in (DETAILER, TILES)]
    assert [(told["face_detailer"], told["tiles"]) for told in recorded] == [(True, False), (False, True)]


@pytest.mark.local
def test_the_command_delivers_an_image_whose_face_the_server_drew(
    sosie: Sosie, workspace: Path, references: list[Path]
) -> None:
    with FakeServer(Behaviour(pictures=tuple(references[:1]))) as fake:
        arguments = ("mira", "smiling", "--recipe", "hybrid", "--face-detailer", "--size", "256x256", "--attempts", 1)
        place = ("--engine", f"comfy:{fake.url}", "--workspace", workspace, "--json")
        result = sosie("generate", *arguments, *place)
        assert fake.life is not None
        ((_, entry),) = fake.life.history.items()
    (line,) = lines(result.out)
    assert len(nodes(entry["prompt"][2], "FaceDetailer")) == 1
    assert line["verdict"] == "keep", result.err
    assert Path(line["image"]).name == f"mira-{line['plan'][:8]}+face-detailer.png"
