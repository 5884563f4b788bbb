"""A user's workflow against a server: examined without drawing, opened by its description of unknown classes, sent."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from comfy_bench import set_behaviour
from json_lines import codes, lines
from recipe_graphs import MIRA
from workflow_files import Drawing, Json, api, draw_body, drawing, node

from sosie.core import Draw, Plan, Recipe, Request, Stage, plan
from sosie.core.errors import UsageError
from sosie.engines.comfy.errors import ComfyError
from sosie.engines.comfy.fake import FakeServer
from sosie.engines.comfy.fake.behaviour import Scripted
from sosie.engines.comfy.workflow import open_workflow
from sosie.servers.kinds import ServedKinds
from sosie.workspace.workspace import open_workspace

pytestmark = pytest.mark.once

Sosie = Callable[..., Any]


def write(path: Path, table: Json) -> Path:
    path.write_text(json.dumps(table))
    return path


def own_plan(seed: int = 5) -> Plan:
    recipe = Recipe("flow", (Stage("generate", "workflow", "flow.json"),), "{prompt}", 1024, 1024)
    return plan(recipe, MIRA, Request("flow", "mira", "", seed=seed), Draw(), {"flow.json": "0" * 64})


def on(server: FakeServer, sosie: Sosie, file: Path, *more: Any) -> Json:
    asked = ("doctor", file, "--engine", f"comfy:{server.url}", "--json", "--workspace", file.parent, *more)
    (line,) = lines(sosie(*asked).out)
    return line


def test_a_workflow_is_held_against_its_server_without_drawing(sosie: Sosie, tmp_path: Path, near: FakeServer) -> None:
    line = on(near, sosie, write(tmp_path / "flow.json", api()))
    assert (line["kind"], codes(line)) == ("workflow", ["SOS-Y005"])
    table = api(unet_unet_name="gone.safetensors", draw_steps=0)
    table["save"]["class_type"] = "SaveImageElsewhere"
    table["show"] = node("PreviewImage", images=["decode", 0])
    found = codes(on(near, sosie, write(tmp_path / "flow.json", table)))
    assert {"SOS-Y011", "SOS-Y014"} <= set(found)
    assert near.count("POST", "/") == 0


def test_a_class_that_a_server_lacks_is_told_with_its_nearest_and_not_with_all(
    sosie: Sosie, tmp_path: Path, near: FakeServer
) -> None:
    for name in ("KSamplre", "Zzyzx"):
        table = api()
        table["draw"]["class_type"] = name
        (told,) = [f for f in on(near, sosie, write(tmp_path / "w.json", table))["findings"] if f["code"] == "SOS-Y010"]
        assert len(told["message"]) < 300
        assert ("KSampler" in told["message"]) == (name == "KSamplre")


def test_engines_that_run_no_workflow_and_subjects_that_are_none_are_refused(
    sosie: Sosie, tmp_path: Path, near: FakeServer
) -> None:
    file = write(tmp_path / "flow.json", api())
    assert "runs no ComfyUI workflows" in sosie("doctor", file, "--engine", "fake").err
    assert "none was named" in sosie("doctor", tmp_path, "--engine", f"comfy:{near.url}").err
    set_behaviour(near, scripted={"/object_info": Scripted(500, b"boom")})
    assert "SOS-Y017" in codes(on(near, sosie, file))


def test_a_relative_subject_is_looked_for_where_the_user_stands(
    sosie: Sosie, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here, there = tmp_path / "here", tmp_path / "there"
    for folder in (here, there):
        folder.mkdir()
    write(here / "flow.json", api())
    write(there / "other.json", api())
    monkeypatch.chdir(here)
    assert sosie("doctor", "flow.json", "--workspace", there).out.startswith("flow.json\t")
    assert "'other.json' is no file" in sosie("doctor", "other.json", "--workspace", there).err


def own_class() -> Json:
    d = Drawing()
    draw_body(d)
    d.add(20, "SomeoneElses", {"image": (9, 0, "IMAGE")}, [0.5, "b"], gives=("IMAGE",))
    d.add(21, "SaveImage", {"images": (20, 0, "IMAGE")}, ["x"])
    d.add(30, "NobodyKnows", {"image": (9, 0, "IMAGE")}, [1], gives=())
    return d.file()


def described() -> bytes:
    inputs = {"required": {"image": ["IMAGE"], "amount": ["FLOAT", {"max": 1}], "way": [["a", "b"]]}}
    return json.dumps({"SomeoneElses": {"input": inputs, "output": ["IMAGE"]}}).encode()


def test_the_servers_own_description_opens_a_file_of_the_editor(tmp_path: Path, near: FakeServer) -> None:
    file = write(tmp_path / "flow.json", own_class())
    with pytest.raises(UsageError, match="SomeoneElses"):
        open_workflow(file)
    set_behaviour(near, scripted={"/object_info": Scripted(body=described())})
    flow = open_workflow(file, (), ServedKinds(f"comfy:{near.url}", open_workspace(tmp_path)))
    sent = flow.compiler(own_plan()).steps[0].draft.graph
    assert sent["20"]["inputs"] == {"amount": 0.5, "way": "b", "image": ["9", 0]}
    assert "30" not in sent


def test_a_server_that_cannot_be_asked_is_named_only_if_it_is_needed(tmp_path: Path, near: FakeServer) -> None:
    kinds = ServedKinds(f"comfy:{near.url}", open_workspace(tmp_path))
    near.stop()
    open_workflow(write(tmp_path / "known.json", drawing()), (), kinds)
    with pytest.raises(ComfyError, match="cannot be reached"):
        open_workflow(write(tmp_path / "flow.json", own_class()), (), kinds)


def test_only_what_the_result_needs_is_sent(tmp_path: Path) -> None:
    table = api() | {"show": node("PreviewAny", source=["yes", 0]), "more": node("SaveImage", images=["decode", 0])}
    table["alone"] = node("SomeoneElses", image=["decode", 0])
    flow = open_workflow(write(tmp_path / "flow.json", table), ["output=save"])
    assert set(flow.compiler(own_plan()).steps[0].draft.graph) == set(api())


def test_choices_of_a_files_prompt_are_drawn_by_the_seed_and_kept_with_the_image(tmp_path: Path) -> None:
    table = drawing()
    text = next(entry for entry in table["nodes"] if entry["id"] == 5)
    text["widgets_values"] = ["a {red|blue} door /* not sent */"]
    flow = open_workflow(write(tmp_path / "flow.json", table))
    sent = {seed: flow.compiler(own_plan(seed)).steps[0].draft for seed in range(12)}
    texts = {seed: draft.graph["5"]["inputs"]["text"] for seed, draft in sent.items()}
    assert set(texts.values()) == {"a red door ", "a blue door "}
    assert texts[3] == flow.compiler(own_plan(3)).steps[0].draft.graph["5"]["inputs"]["text"]
    (told,) = sent[3].finish(None).findings  # pyright: ignore[reportArgumentType]
    assert (told.code, texts[3].strip() in told.message) == ("SOS-W009", True)
    asked = replace(own_plan(3), prompt="{as|it} is")
    assert flow.compiler(asked).steps[0].draft.graph["5"]["inputs"]["text"] == "{as|it} is"


def test_a_file_for_the_api_is_sent_as_it_is(tmp_path: Path) -> None:
    flow = open_workflow(write(tmp_path / "flow.json", api(yes_text="{a|b} // c")))
    assert flow.compiler(own_plan()).steps[0].draft.graph["yes"]["inputs"]["text"] == "{a|b} // c"
