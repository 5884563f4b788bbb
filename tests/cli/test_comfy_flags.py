"""ComfyUI from the command line: choices of the graphs, the doctor on servers, uploads, and the fake as a program."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from comfy_bench import QUICK, UNET, Recipes, link_to, node, plan, set_behaviour, zimage
from far_machine import FarMachine
from PIL import Image
from test_comfy_graphs import EVERYWHERE, RUNS, SDXL, drafts, made, nodes, only, planned, shipped
from test_comfy_ssh import address, far, here, server
from test_remote_doctor import weights

from sosie.api.bootstrap import Bootstrap, bootstrap
from sosie.api.comfy import open_comfy
from sosie.api.engines import open_engine
from sosie.api.generate import Order, _arguments
from sosie.cli.doctor import command as doctor_command
from sosie.core import Asset, Character, Finding, Render, Stage
from sosie.core.errors import CheckFailedError, UsageError
from sosie.core.plan import asset_names
from sosie.core.recipe import Calibration, Sampler, Upscale
from sosie.engines.comfy.client import Client
from sosie.engines.comfy.compile import expect_effect
from sosie.engines.comfy.errors import HINTS, ComfyError
from sosie.engines.comfy.fake import Behaviour, FakeServer, Scripted
from sosie.engines.comfy.fake.pictures import pictures_of
from sosie.engines.comfy.live import fit
from sosie.engines.comfy.names import resolve
from sosie.engines.comfy.program import Compiled, FileUse, Program, Step, Upload, png
from sosie.engines.comfy.server import parse_servers
from sosie.engines.comfy.station import Station, Work
from sosie.engines.comfy.uploads import smaller
from sosie.families import GraphChoices
from sosie.store import Store
from sosie.workspace.session import Session
from sosie.workspace.workspace import open_workspace

pytestmark = pytest.mark.once

__all__ = ["far", "here", "server"]

Sosie = Callable[..., Any]
DETAILER, TILES = GraphChoices(faces="server"), GraphChoices(tiles=True)
UPSCALE = Stage("upscale", "esrgan", "4x-UltraSharp", upscale=Upscale(4.0))
NET = "diffusion_pytorch_model.safetensors"


@pytest.fixture
def near() -> Iterator[FakeServer]:
    with FakeServer() as fake:
        yield fake


def lines(result: Any) -> list[dict[str, Any]]:
    return [json.loads(line) for line in result.out.splitlines()]


def codes(line: dict[str, Any]) -> list[str]:
    return [finding["code"] for finding in line["findings"]]


# --- names of files ---


@pytest.mark.parametrize(
    ("names", "listed", "found"),
    [
        # An exact alias against the bare name of a file that lies anywhere.
        ((f"instantid/{NET}", f"SDXL/{NET}"), (f"canny/{NET}", f"SDXL/{NET}"), f"SDXL/{NET}"),
        ((f"instantid/{NET}", "control.sft"), (f"canny/{NET}", "control.sft"), "control.sft"),
        (("q.sft", "q_bf16.sft"), ("a/q.sft", "b/q.sft", "q_bf16.sft"), "q_bf16.sft"),
        # The recipe's own name in a subfolder is still its own name: the checkpoint that sosie.toml names.
        (("biglove.sft", "sdxl.sft"), ("SDXL/BigLove.sft", "sdxl.sft"), "SDXL/BigLove.sft"),
        (("q.sft", "q_bf16.sft"), ("q.sft", "q_bf16.sft"), "q.sft"),
        ((f"instantid/{NET}",), (f"models\\{NET}",), f"models\\{NET}"),
        (("q.sft", "r.sft"), ("a/q.sft", "b/q.sft"), "SOS-Y012"),
        (("q.sft", "r.sft", "s.sft"), ("r.sft", "s.sft"), "SOS-Y012"),
    ],
)
def test_an_exact_alias_wins_over_inexact_matches_of_earlier_names(
    names: tuple[str, ...], listed: tuple[str, ...], found: str
) -> None:
    result = resolve(FileUse("1", "x", names), listed, "s")
    assert (result.code if isinstance(result, Finding) else result) == found


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
    catalogue = Station(link_to(near), Recipes(), {})._offers()
    (graph,) = drafts(planned(shipped("hybrid")), DETAILER)
    found = [f for f in fit(Compiled(graph, list(graph)[-1]), catalogue, "s").findings if f.code == "SOS-Y010"]
    assert [(f.severity, "the pack 'Impact Pack' brings it" in f.message) for f in found] == [("error", True)] * 2
    assert "github.com/ltdrdata/ComfyUI-Impact-Pack" in found[0].hint


def test_an_image_that_was_made_otherwise_is_not_recalled(near: FakeServer, tmp_path: Path) -> None:
    session = Session(open_workspace(tmp_path))
    address_ = f"comfy:{near.url}"
    usual, tiled = (open_comfy(session, address_, Recipes(), each.variant) for each in (GraphChoices(), TILES))
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
    (line,) = lines(result)
    assert len(nodes(entry["prompt"][2], "FaceDetailer")) == 1
    assert line["verdict"] == "keep", result.err
    assert Path(line["image"]).name == f"mira-{line['plan'][:8]}+face-detailer.png"


# --- the doctor on servers ---


def test_the_doctor_says_what_a_server_is_and_which_packs_it_has(
    sosie: Sosie, tmp_path: Path, near: FakeServer
) -> None:
    set_behaviour(near, lacks=frozenset({"UltimateSDUpscale", "UltimateSDUpscaleNoUpscale", "SAMLoader"}))
    (line,) = lines(sosie("doctor", f"comfy:{near.url}", "--json", "--workspace", tmp_path))
    assert (line["subject"], line["kind"], codes(line)) == (f"comfy:{near.url}", "server", ["SOS-Y005", "SOS-Y005"])
    told = line["server"]
    assert (told["version"], told["torch"], told["device"], told["memory"]) == (
        "0.33.0",
        "2.14.1+cu130",
        "cuda:0 fake",
        24 * 2**30,
    )
    assert told["packs"]["InstantID"] == {"complete": True, "lacks": []}
    assert told["packs"]["Impact Pack"]["lacks"] == ["SAMLoader"]
    packs = line["findings"][1]
    assert "Impact Pack (without SAMLoader); not there: Ultimate SD Upscale" in packs["message"]
    assert "ssitu/ComfyUI_UltimateSDUpscale" in packs["hint"]
    assert near.count("POST", "/") == 0
    shown = sosie("doctor", f"comfy:{near.url}", "--workspace", tmp_path)
    assert shown.code == 0
    assert shown.out == f"comfy:{near.url}\tok\tserver\n"
    assert "ComfyUI 0.33.0" in shown.err


@pytest.mark.parametrize("recipe", RUNS)
def test_the_fake_has_all_that_a_shipped_recipe_needs(
    sosie: Sosie, tmp_path: Path, near: FakeServer, recipe: str
) -> None:
    result = sosie("doctor", f"comfy:{near.url}", "--recipe", recipe, "--json", "--workspace", tmp_path)
    (line,) = lines(result)
    assert result.code == 0, line
    assert any(f"recipe '{recipe}' can run" in finding["message"] for finding in line["findings"])
    assert line["server"]["files"]
    assert None not in line["server"]["files"].values()


def test_the_doctor_names_what_a_recipe_lacks_on_a_server(sosie: Sosie, tmp_path: Path, near: FakeServer) -> None:
    files = {**near.behaviour.files, "diffusion_models": (), "text_encoders": ("q/qwen_3_4b_bf16.safetensors",)}
    set_behaviour(near, files=files, lacks=frozenset({"ApplyInstantIDAdvanced"}), memory=8 * 2**30, shows_log=False)
    result = sosie("doctor", f"comfy:{near.url}", "--recipe", "hybrid", "--json", "--workspace", tmp_path)
    (line,) = lines(result)
    assert result.code == 1
    assert {"SOS-Y007", "SOS-Y010", "SOS-Y011", "SOS-Y034"} <= set(codes(line))
    assert not any("can run" in finding["message"] for finding in line["findings"])
    assert line["server"]["files"][UNET] is None
    assert line["server"]["files"]["qwen_3_4b.safetensors"] == "q/qwen_3_4b_bf16.safetensors"


def test_of_several_servers_each_is_told_and_a_dead_one_is_an_error(
    sosie: Sosie, tmp_path: Path, near: FakeServer
) -> None:
    subject = f"comfy:{near.url},http://127.0.0.1:1"
    result = sosie("doctor", subject, "--json", "--workspace", tmp_path)
    one, other = lines(result)
    assert result.code == 1
    assert (one["subject"], other["subject"]) == (f"comfy:{near.url}", "comfy:http://127.0.0.1:1")
    assert codes(other) == ["SOS-Y001"]
    assert "server" not in other


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("zimage", "--recipe", "zimage"), "--recipe says what a ComfyUI server shall run"),
        (("--recipe", "zimage"), "--recipe says what a ComfyUI server shall run"),
        (("comfy:http://127.0.0.1:1", "--fix", "--yes"), "--fix mends what is on this machine"),
        (("comfy:ftp://h",), "no address of a ComfyUI server"),
        (("comfy:http://me:s3cret@h",), "holds a name or password"),
        (("comfy:http://127.0.0.1:1", "--recipe", "zimagee"), "did you mean 'zimage'"),
    ],
)
def test_what_the_doctor_cannot_examine_is_refused(
    sosie: Sosie, tmp_path: Path, arguments: tuple[str, ...], said: str
) -> None:
    result = sosie("doctor", *arguments, "--workspace", tmp_path)
    assert result.code == 2
    assert said in result.err
    assert "s3cret" not in result.err


def test_by_ssh_the_machine_and_every_model_file_are_examined_and_nothing_is_brought(
    sosie: Sosie, far: FarMachine, here: Any, server: FakeServer
) -> None:
    (far.root / "models" / "loras" / "broken.safetensors").write_bytes(weights(4)[:-9])
    far.behave(new_key=True)
    subject = address(server)
    result = sosie("doctor", subject, "--json", "--workspace", here.root)
    machine, *files = lines(result)
    assert (machine["subject"], machine["kind"]) == (subject, "server")
    assert {"SOS-Y005", "SOS-X005"} <= set(codes(machine))
    assert machine["server"]["version"] == "0.33.0"
    assert {Path(line["subject"]).name: codes(line) for line in files} == {
        "broken.safetensors": ["SOS-F100"],
        UNET: ["SOS-F101"],
    }
    assert all(line["path"] is None for line in files)
    assert not any("dd of=" in " ".join(call["command"]) for call in far.calls)
    assert sorted(path.name for path in (far.root / "models" / "loras").iterdir()) == ["broken.safetensors"]


def test_by_ssh_with_a_recipe_only_its_files_are_examined(
    sosie: Sosie, far: FarMachine, here: Any, server: FakeServer
) -> None:
    (far.root / "models" / "loras" / "broken.safetensors").write_bytes(weights(4)[:-9])
    result = sosie("doctor", address(server), "--recipe", "zimage", "--json", "--workspace", here.root)
    machine, file = lines(result)
    assert any("recipe 'zimage' can run" in finding["message"] for finding in machine["findings"])
    assert Path(file["subject"]).name == UNET


def test_by_ssh_a_machine_without_comfyui_and_one_that_is_away_are_two_findings(
    sosie: Sosie, far: FarMachine, here: Any
) -> None:
    with FakeServer() as gone:
        subject = address(gone, str(far.root))
    machine, file = lines(sosie("doctor", subject, "--json", "--workspace", here.root))
    assert {"SOS-Y001", "SOS-X009"} <= set(codes(machine))
    assert Path(file["subject"]).name == UNET
    far.behave(says="ssh: connect to host far port 40022: Connection refused")
    (away,) = lines(sosie("doctor", subject, "--json", "--workspace", here.root))
    assert codes(away) == ["SOS-X001"]


def test_the_hint_about_encoders_names_a_command_that_exists(near: FakeServer, tmp_path: Path) -> None:
    told = HINTS["SOS-Y022"].rpartition("sosie doctor ")[2]
    arguments = told.replace("URL", near.url).replace(" R", " zimage").split()
    done = CliRunner().invoke(doctor_command, [*arguments, "--workspace", str(tmp_path)], standalone_mode=False)
    assert (done.exception, done.return_value) == (None, 0)


def test_drawing_a_training_set_looks_for_files_on_the_server(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from sosie.api import bootstrap as module
    from sosie.workspace.characters import load_character

    monkeypatch.setattr(module, "make_judge", lambda *_: SimpleNamespace(findings=()))
    with Session(open_workspace(workspace)) as session:
        recipe = replace(shipped("zimage"), calibration=Calibration(("smiling",)))
        who = load_character(session.workspace, "mira")
        order = Bootstrap(who, recipe, 1, engine="comfy:http://127.0.0.1:1")
        run, found = bootstrap(session, order), list[Any]()
        with contextlib.suppress(CheckFailedError):
            found.extend(iter(run.__next__, None))
    told = [event.code for event in found if isinstance(event, Finding)]
    assert "SOS-Y001" in told
    assert not {"SOS-R002", "SOS-R004"} & set(told)


# --- images that are too large ---


def noise(side: int, seed: int = 1) -> bytes:
    made_ = np.random.default_rng(seed).integers(0, 256, (side // 8, side // 8, 3), "uint8")
    return png(Image.fromarray(made_).resize((side, side), Image.Resampling.BICUBIC))


def one_upload(data: bytes, is_reference: bool) -> Compiled:
    graph = {
        "1": node("LoadImage", image=""),
        "2": node("SaveImage", images=["1", 0], filename_prefix="x"),
    }
    return Compiled(graph, "2", (Upload("1", "image", data, is_reference),))


class Silent:
    """A host that does everything in this thread."""

    def report(self, _: Any) -> None: ...

    def here(self, work: Callable[[], Any]) -> Any:
        return work()


def sent(near: FakeServer, compiled: Compiled) -> tuple[Render, Image.Image]:
    """A render of one upload, and the image that the server has of it."""
    station = Station(link_to(near), Recipes(), {})
    program = Program((Step("generate", compiled),))
    try:
        render = station.render(Work(plan(1), program, None, compiled), "e", Silent())
    finally:
        station.link.close()
    (data,) = near.disk.inputs.values()
    return render, Image.open(BytesIO(data))


def test_a_reference_that_is_too_large_is_scaled_once_and_said(near: FakeServer) -> None:
    data = noise(512)
    set_behaviour(near, max_upload=len(data) // 2)
    render, image = sent(near, one_upload(data, True))
    assert 256 <= image.size[0] == image.size[1] < 512
    (told,) = [f for f in render.findings if f.code == "SOS-Y018"]
    assert told.severity == "info"
    assert f"{image.size[0]}x{image.size[1]} px" in told.message
    assert near.count("POST", "/upload") == 1


def test_other_images_keep_their_pixels_and_the_error_stays_where_that_is_too_much(near: FakeServer) -> None:
    data = noise(512)
    packed = smaller(Upload("1", "image", data), 0)
    assert packed is not None
    set_behaviour(near, max_upload=len(packed.data) + 5000)
    assert near.behaviour.max_upload < len(data)
    render, image = sent(near, one_upload(data, False))
    assert image.convert("RGB").tobytes() == Image.open(BytesIO(data)).tobytes()
    assert [f for f in render.findings if f.code == "SOS-Y018"] == []
    near.disk.inputs.clear()
    set_behaviour(near, max_upload=len(packed.data) - 5000)
    with pytest.raises(ComfyError, match="takes no more than") as error:
        sent(near, one_upload(data, False))
    assert error.value.code == "SOS-Y018"
    set_behaviour(near, max_upload=9000)
    with pytest.raises(ComfyError, match="takes no more than"):
        sent(near, one_upload(data, True))
    assert near.count("POST", "/upload") == 1


def test_a_proxy_that_takes_less_than_the_server_says_is_tried_once_more(near: FakeServer) -> None:
    set_behaviour(near, scripted={"/upload/image": Scripted(413, b"<html>nginx", times=1)})
    render, image = sent(near, one_upload(noise(512), False))
    assert (image.format, image.size, render.image.size) == ("WEBP", (512, 512), (512, 512))
    assert near.count("POST", "/upload") == 2
    near.disk.inputs.clear()
    set_behaviour(near, scripted={"/upload/image": Scripted(413, b"<html>nginx")})
    near.spent.clear()
    with pytest.raises(ComfyError, match="answered 413"):
        sent(near, one_upload(noise(512), False))
    assert near.count("POST", "/upload") == 4
    # What cannot be packed better is not sent a second time.
    raw = np.random.default_rng(2).integers(0, 256, (256, 256, 3), "uint8")
    with pytest.raises(ComfyError, match="answered 413"):
        sent(near, one_upload(png(Image.fromarray(raw)), False))
    assert near.count("POST", "/upload") == 5


# --- the fake ---


def chosen(**changed: Any) -> dict[str, Any]:
    """The nodes by which ComfyUI's own Z-Image templates choose a size and a file format."""
    graph = zimage(1)
    graph["20"] = node("ResolutionSelector", aspect_ratio="2:3 (Portrait Photo)", megapixels=1.0, multiple=64)
    graph["7"]["inputs"] |= {"width": ["20", 0], "height": ["20", 1]}
    saved = {"format": "png", "format.bit_depth": "8-bit", "format.input_color_space": "sRGB"} | changed
    graph["10"] = node("SaveImageAdvanced", images=["9", 0], filename_prefix="t", **saved)
    return graph


def test_the_fake_has_the_nodes_of_the_official_templates(near: FakeServer) -> None:
    station = Station(link_to(near), Recipes(), {})
    compiled = Compiled(chosen(), "10")
    assert fit(compiled, station._offers(), "s").findings == ()
    render = station.render(Work(plan(1), Program((Step("generate", compiled),)), None, compiled), "e", Silent())
    assert render.image.size == (832, 1280)
    station.link.close()


@pytest.mark.parametrize(
    ("changed", "wrong"),
    [({"format": "exr"}, 2), ({"format": "gif"}, 1), ({"format.bit_depth": "12-bit"}, 1)],
)
def test_the_fake_takes_only_what_a_format_brings(near: FakeServer, changed: dict[str, Any], wrong: int) -> None:
    client = Client(parse_servers(near.url)[0], None, QUICK)
    with pytest.raises(ComfyError, match="Value not in list") as error:
        client.submit(chosen(**changed), "me", "id")
    assert error.value.code == "SOS-Y011"
    offers = Station(link_to(near), Recipes(), {})._offers()
    found = fit(Compiled(chosen(**changed), "10"), offers, "s").findings
    assert sum(f.severity == "error" for f in found) >= 1
    client.close()


def test_the_fake_answers_with_pictures_and_with_what_a_graph_works_on(tmp_path: Path) -> None:
    Image.new("RGB", (40, 20), "red").save(tmp_path / "a.png")
    (tmp_path / "notes.txt").write_text("x")
    with FakeServer(Behaviour(pictures=pictures_of(tmp_path))) as fake:
        render, _ = sent(fake, one_upload(png(Image.new("RGB", (30, 50), "blue")), False))
        assert (render.image.size, render.image.getpixel((9, 9))) == ((30, 50), (0, 0, 255))
        drawn = Compiled(zimage(1), "10")
        station = Station(link_to(fake), Recipes(), {})
        render = station.render(Work(plan(1), Program((Step("generate", drawn),)), None, drawn), "e", Silent())
        assert (render.image.size, render.image.getpixel((9, 9))) == ((64, 64), (255, 0, 0))
        station.link.close()


def test_the_fake_runs_as_a_program(sosie: Sosie, tmp_path: Path, references: list[Path]) -> None:
    command = [sys.executable, "-m", "sosie.engines.comfy.fake", "--pictures", str(references[0].parent)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        url = process.stdout.readline().strip()
        try:
            assert sosie("doctor", f"comfy:{url}", "--recipe", "zimage-turbo", "--workspace", tmp_path).code == 0
        finally:
            process.terminate()
    for wrong, said in (
        ([*command[:-1], str(tmp_path)], "holds no .png or .jpg"),
        ([*command, "--holds", "ae.safetensors=sand"], "--holds knows no 'sand'"),
    ):
        refused = subprocess.run(wrong, capture_output=True, text=True, check=False)
        assert refused.returncode == 2
        assert said in refused.stderr


@pytest.mark.parametrize("recipe", RUNS)
def test_every_shipped_recipe_runs_on_the_fake_out_of_the_box(
    workspace: Path, references: list[Path], recipe: str
) -> None:
    from sosie.workspace.characters import load_character

    with Session(open_workspace(workspace)) as session, FakeServer(Behaviour(pictures=tuple(references))) as fake:
        of = replace(planned(shipped(recipe), load_character(session.workspace, "mira")), width=256, height=384)
        engine = open_engine(session, f"comfy:{fake.url}", of.stages, of.character)
        findings = engine.check(of)
        (render,) = (event for event in engine.run([of]) if isinstance(event, Render))
        engine.close()
        assert {finding.severity for finding in (*findings, *render.findings)} <= {"info"}
        assert render.image.size == ((1024, 1536) if recipe == "sdxl-instantid" else (256, 384))
        assert session.detector.detect(np.asarray(render.image))
        assert fake.count("POST", "/prompt") == {"hybrid": 2, "sdxl-instantid": 3}.get(recipe, 1)
