"""Users' own ComfyUI workflows: settings, what their places are for, and recipes and workflows on the fake server."""

from __future__ import annotations

import copy
import json
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest
from comfy_bench import engine_on
from recipe_graphs import MIRA, Faces, planned, shipped
from workflow_files import Drawing, api, draw_body, node

from sosie.core import Draw, Plan, Recipe, Render, Request, Stage, plan
from sosie.core.errors import BadModelError, NotFoundError, UsageError
from sosie.doctor.graph_structure import check_structure
from sosie.engines.comfy.compile import GraphCompiler, GraphSupplies
from sosie.engines.comfy.fake import Behaviour, FakeServer
from sosie.engines.comfy.workflow import open_workflow
from sosie.graph import Graph
from sosie.graph.attach import attach, find_seeds
from sosie.graph.build import Place
from sosie.graph.outputs import choose_output, find_output
from sosie.graph.read import read_table
from sosie.graph.settings import Pins, apply_settings
from sosie.graph.to_api import to_api
from sosie.graph.to_ui import to_ui

pytestmark = pytest.mark.once


def graph(table: dict[str, Any] | None = None) -> Graph:
    return read_table(table or api(), "flow.json")


def titled(table: dict[str, Any], **titles: str) -> dict[str, Any]:
    for name, title in titles.items():
        table[name]["_meta"] = {"title": title}
    return table


def own_plan(prompt: str = "a fox", negative: str = "", seed: int = 5, size: int | None = None) -> Plan:
    recipe = Recipe("flow", (Stage("generate", "workflow", "flow.json"),), "{prompt}", 1024, 1024)
    request = Request("flow", "mira", prompt, negative or None, seed, size, size)
    return plan(recipe, MIRA, request, Draw(), {"flow.json": "0" * 64})


def value(of: Graph, place: str) -> Any:
    name, _, key = place.partition(".")
    return of.nodes[name].inputs[key]


# --- settings ---


@pytest.mark.parametrize(
    ("setting", "place", "expected"),
    [
        ("draw.steps=30", "draw.steps", 30),
        ("draw.cfg=5", "draw.cfg", 5.0),
        ("KSampler.seed=18446744073709551615", "draw.seed", 2**64 - 1),
        ("ksampler.sampler_name=euler", "draw.sampler_name", "euler"),
        ("unet.weight_dtype=fp8_e4m3fn", "unet.weight_dtype", "fp8_e4m3fn"),
        ("yes.text=a=b, c.d", "yes.text", "a=b, c.d"),
        ("My prompt v1.2.text=x", "yes.text", "x"),
        ("clip.device=cpu", "clip.device", "cpu"),
    ],
)
def test_a_setting_is_typed_by_the_schema_and_finds_its_node_by_id_title_or_class(
    setting: str, place: str, expected: Any
) -> None:
    changed, pins = apply_settings(graph(titled(api(), yes="My prompt v1.2")), [setting])
    assert value(changed, place) == expected
    assert type(value(changed, place)) is type(expected)
    assert pins == Pins()


@pytest.mark.parametrize(
    ("setting", "error", "said"),
    [
        ("draw.steps", UsageError, "not a setting"),
        ("steps=3", UsageError, "names no input"),
        ("drow.steps=3", NotFoundError, "did you mean 'draw'"),
        ("draw.stpes=3", NotFoundError, "no input 'stpes'; did you mean 'steps'"),
        ("draw.steps=three", UsageError, "expected a whole number"),
        ("draw.steps=0", UsageError, "expected 1 to 10000"),
        ("draw.cfg=nan", UsageError, "expected 0 to 100"),
        ("unet.weight_dtype=fp4", UsageError, "none of the choices"),
        ("draw.model=x", UsageError, "linked to ModelSamplingAuraFlow shift"),
        ("CLIPTextEncode.text=x", UsageError, "means 2 nodes: yes (CLIPTextEncode), no"),
        ("VAEDecode.vae=x", UsageError, "linked to VAELoader"),
    ],
)
def test_a_setting_that_cannot_be_is_refused_with_what_could(setting: str, error: type, said: str) -> None:
    with pytest.raises(error) as caught:
        apply_settings(graph(), [setting])
    assert said in caught.value.message
    assert caught.value.hint


def test_a_linked_value_names_the_node_that_holds_it() -> None:
    table = api(draw_seed=["number", 0]) | {"number": node("PrimitiveInt", value=3)}
    with pytest.raises(UsageError) as caught:
        apply_settings(graph(table), ["draw.seed=4"])
    assert caught.value.hint == 'set that one: --set "number.value=value"'
    changed, _ = apply_settings(graph(table), ["number.value=4"])
    assert value(changed, "number.value") == 4


def test_values_of_unknown_classes_keep_their_type() -> None:
    table = api() | {"odd": node("Somebodys", strength=0.5, on=True, count=3, name="x", many=["a", "b", "c"])}
    changed, _ = apply_settings(graph(table), ["odd.strength=2", "odd.on=no", "odd.count=-7", "odd.name=y"])
    assert dict(changed.nodes["odd"].inputs) | {"many": ()} == {
        "strength": 2.0,
        "on": False,
        "count": -7,
        "name": "y",
        "many": (),
    }
    for wrong in ("odd.count=1.5", "odd.on=maybe", "odd.many=1", "odd.new=1"):
        with pytest.raises((UsageError, NotFoundError)):
            apply_settings(graph(table), [wrong])


def test_later_settings_win_and_the_graph_that_was_read_is_untouched() -> None:
    before = graph()
    changed, _ = apply_settings(before, ["draw.steps=9", "draw.steps=11"])
    assert (value(changed, "draw.steps"), value(before, "draw.steps")) == (11, 25)


# --- places of a graph ---


def test_seed_and_prompt_are_put_where_the_wires_say() -> None:
    attached = attach(graph(), own_plan(negative="rain"))
    assert attached.output == "save"
    assert value(attached.graph, "yes.text") == "a fox"
    assert value(attached.graph, "no.text") == "rain"
    assert value(attached.graph, "draw.seed") == own_plan().seed
    assert value(attached.graph, "empty.width") == 1024


def test_what_was_not_asked_for_stays_as_it_is() -> None:
    attached = attach(graph(api(no_text="blur")), own_plan(""))
    assert (value(attached.graph, "yes.text"), value(attached.graph, "no.text")) == ("a lighthouse", "blur")
    changed = {n.id for n in attached.graph if n != graph(api(no_text="blur")).nodes[n.id]}
    assert changed == {"draw"}


def test_a_size_that_is_asked_for_goes_to_the_empty_latent() -> None:
    attached = attach(graph(), own_plan(size=768))
    assert (value(attached.graph, "empty.width"), value(attached.graph, "empty.height")) == (768, 768)


def test_values_are_set_at_the_other_end_of_a_wire() -> None:
    table = api(draw_seed=["s", 0], yes_text=["t", 0], empty_width=["w", 0])
    table |= {"s": node("PrimitiveInt", value=3), "t": node("PrimitiveString", value="old")}
    table["w"] = node("PrimitiveInt", value=512)
    attached = attach(graph(table), own_plan(size=640))
    assert value(attached.graph, "s.value") == own_plan().seed
    assert value(attached.graph, "t.value") == "a fox"
    assert (value(attached.graph, "w.value"), value(attached.graph, "empty.height")) == (640, 640)


def test_the_prompt_is_found_behind_controlnets_and_not_taken_for_the_negative() -> None:
    table = api(draw_positive=["cn", 0], draw_negative=["cn", 1])
    table["cn"] = node(
        "ControlNetApplyAdvanced",
        positive=["yes", 0],
        negative=["no", 0],
        control_net=["net", 0],
        image=["picture", 0],
        strength=1.0,
        start_percent=0.0,
        end_percent=1.0,
    )
    table |= {"net": node("ControlNetLoader", control_net_name="x"), "picture": node("LoadImage", image="x.png")}
    attached = attach(graph(table), own_plan(negative="rain"))
    assert (value(attached.graph, "yes.text"), value(attached.graph, "no.text")) == ("a fox", "rain")


def test_a_zeroed_negative_is_no_place_for_a_text() -> None:
    table = api(draw_negative=["zero", 0]) | {"zero": node("ConditioningZeroOut", conditioning=["yes", 0])}
    assert value(attach(graph(table), own_plan()).graph, "yes.text") == "a fox"
    with pytest.raises(UsageError, match="no negative prompt"):
        attach(graph(table), own_plan(negative="rain"))


def test_custom_samplers_are_followed_through_their_guider_and_noise() -> None:
    table = {name: entry for name, entry in api().items() if name not in ("draw", "no")}
    table |= {
        "guider": node("BasicGuider", model=["shift", 0], conditioning=["yes", 0]),
        "noise": node("RandomNoise", noise_seed=1),
        "kind": node("KSamplerSelect", sampler_name="euler"),
        "plan": node("BasicScheduler", model=["shift", 0], scheduler="simple", steps=8, denoise=1.0),
        "draw": node(
            "SamplerCustomAdvanced",
            noise=["noise", 0],
            guider=["guider", 0],
            sampler=["kind", 0],
            sigmas=["plan", 0],
            latent_image=["empty", 0],
        ),
    }
    attached = attach(graph(table), own_plan())
    assert value(attached.graph, "noise.noise_seed") == own_plan().seed
    assert value(attached.graph, "yes.text") == "a fox"


def second_pass() -> dict[str, Any]:
    """A second sampler with its own text and seed, whose image is saved too."""
    table = api()
    table["more"] = node("CLIPTextEncode", text="detailed", clip=["clip", 0])
    table["again"] = copy.deepcopy(table["draw"])
    table["again"]["inputs"] |= {"latent_image": ["draw", 0], "positive": ["more", 0], "seed": 8, "denoise": 0.5}
    table["decode2"] = node("VAEDecode", samples=["again", 0], vae=["vae", 0])
    table["save2"] = node("SaveImage", images=["decode2", 0], filename_prefix="y")
    return table


def test_different_seeds_stay_different_and_equal_ones_equal() -> None:
    table = second_pass()
    table["more"]["inputs"]["text"] = "a lighthouse"
    attached = attach(graph(table), own_plan(), Pins(output="save2"))
    assert value(attached.graph, "draw.seed") == own_plan().seed
    assert value(attached.graph, "again.seed") == own_plan().stage_seed(1)
    assert value(attached.graph, "more.text") == value(attached.graph, "yes.text") == "a fox"
    table["again"]["inputs"]["seed"] = 7
    attached = attach(graph(table), own_plan(), Pins(output="save2"))
    assert value(attached.graph, "again.seed") == value(attached.graph, "draw.seed")


def test_two_texts_are_an_ambiguity_that_only_the_user_can_end() -> None:
    with pytest.raises(UsageError, match=r"several nodes hold the positive prompt: .*more.*") as caught:
        attach(graph(second_pass()), own_plan(), Pins(output="save2"))
    assert caught.value.hint == 'say which: --set "prompt=yes.text"'
    changed, pins = apply_settings(graph(second_pass()), ["prompt=more.text", "output=save2"])
    attached = attach(changed, own_plan(), pins)
    assert (value(attached.graph, "more.text"), value(attached.graph, "yes.text")) == ("a fox", "a lighthouse")


def test_of_two_saved_images_the_one_made_of_the_other_is_the_result() -> None:
    table = second_pass()
    table["scale"] = node("ImageScaleBy", image=["decode", 0], upscale_method="lanczos", scale_by=2.0)
    table["save2"]["inputs"]["images"] = ["scale", 0]
    assert find_output(graph(table)) == "save2"
    del table["save"], table["save2"]
    with pytest.raises(UsageError, match="saves no image"):
        find_output(graph(table))
    table["show"] = node("PreviewImage", images=["decode", 0])
    assert find_output(graph(table)) == "show"


def test_of_several_images_the_last_that_a_prompt_acts_on_is_taken_and_said(tmp_path: Path) -> None:
    table = second_pass() | {"file": node("LoadImage", image="x.png"), "copy": node("SaveImage", images=["file", 0])}
    found = choose_output(graph(table))
    assert (found.node.id, [other.id for other in found.others]) == ("save2", ["save", "copy"])
    (told,) = open_workflow(write(tmp_path / "flow.json", table)).told
    assert (told.code, told.hint) == ("SOS-W014", 'to take another: --set "output=save"')
    assert open_workflow(tmp_path / "flow.json", ["output=save"]).told == []
    assert "SOS-W014" in [one.code for one in check_structure(graph(table), "flow")]
    table["copy"]["inputs"]["images"] = ["decode2", 0]
    assert find_output(graph(table)) == "copy"


def test_a_graph_that_makes_a_film_alone_is_refused_by_that_name() -> None:
    table = api()
    table["save"] = node("SaveVideo", video=["decode", 0], filename_prefix="x")
    with pytest.raises(UsageError, match=r"^the graph makes a film \(save \(SaveVideo\)\), and saves no image$"):
        find_output(graph(table))
    table["look"] = node("PreviewImage", images=["decode", 0])
    found = choose_output(graph(table))
    assert (found.node.id, found.others, [one.id for one in found.left_out]) == ("look", (), ["save"])
    (told,) = (one for one in check_structure(graph(table), "flow") if one.code == "SOS-W014")
    assert told.message.endswith("is taken as the result, save (SaveVideo) is not run")


def test_a_graph_without_a_seed_would_give_the_same_image_for_ever() -> None:
    table = api(draw_seed=["odd", 0]) | {"odd": node("Somebodys", a=1, b=2)}
    with pytest.raises(UsageError, match="no seed") as caught:
        attach(graph(table), own_plan())
    assert 'seed=NODE.input"' in caught.value.hint
    attached = attach(graph(table), own_plan(), Pins(seed=Place("odd", "b")))
    assert value(attached.graph, "odd.b") == own_plan().seed % 2**32


def test_what_only_shows_something_in_the_editor_is_not_sent() -> None:
    table = api() | {"look": node("PreviewImage", images=["decode", 0]), "compare": node("ImageCompare")}
    assert set(graph(table).nodes) - set(attach(graph(table), own_plan()).graph.nodes) == {"look", "compare"}
    assert "look" in attach(graph(table), own_plan(), Pins(output="look")).graph.nodes


def test_seeds_of_nodes_that_do_not_run_are_left_alone() -> None:
    table = api() | {"idle": node("RandomNoise", noise_seed=3)}
    assert find_seeds(graph(table), "save") == (Place("draw", "seed"),)


def test_a_size_that_is_nowhere_is_refused() -> None:
    table = api(draw_latent_image=["encode", 0])
    table |= {"encode": node("VAEEncode", pixels=["p", 0], vae=["vae", 0]), "p": node("LoadImage", image="x.png")}
    with pytest.raises(UsageError, match="hold the size") as caught:
        attach(graph(table), own_plan(size=640))
    assert '--set "width=NODE.input"' in caught.value.hint


# --- workflow files ---


def write(path: Path, table: Any) -> Path:
    path.write_text(json.dumps(table))
    return path


def editors_file() -> dict[str, Any]:
    drawing = Drawing()
    draw_body(drawing)
    drawing.add(10, "SaveImage", {"images": (9, 0, "IMAGE")}, ["x"])
    return drawing.file()


def test_a_workflow_is_a_recipe_of_its_own_whose_digest_covers_the_settings(tmp_path: Path) -> None:
    path = write(tmp_path / "flow.json", api(empty_width=832))
    flow = open_workflow(path)
    assert (flow.recipe.name, flow.recipe.width, flow.recipe.height) == ("flow", 832, 1024)
    assert flow.recipe.prompt == "{prompt}"
    other = open_workflow(path, ["draw.steps=30"])
    assert flow.assets.keys() == other.assets.keys() == {"flow.json"}
    assert flow.assets != other.assets
    assert open_workflow(path).assets == flow.assets


def test_an_unknown_class_in_the_editors_format_is_refused_with_the_menu_that_exports(tmp_path: Path) -> None:
    table = editors_file()
    table["nodes"][-2] |= {"type": "SomebodysDecode", "widgets_values": [3, "x"]}
    with pytest.raises(UsageError, match=r"not known here: 9 \(SomebodysDecode\)") as caught:
        open_workflow(write(tmp_path / "flow.json", table))
    assert "Export (API)" in caught.value.hint
    table["nodes"][-2]["widgets_values"] = []
    assert open_workflow(write(tmp_path / "flow.json", table)).recipe.name == "flow"


def test_a_link_to_nowhere_is_refused_before_a_server_is_asked(tmp_path: Path) -> None:
    table = editors_file()
    table["links"] = [link for link in table["links"] if link[3] != 9]
    with pytest.raises(UsageError, match="not whole"):
        open_workflow(write(tmp_path / "flow.json", table))
    with pytest.raises(BadModelError, match="which is not there"):
        to_ui(replace(graph(), nodes=MappingProxyType({"draw": graph().nodes["draw"]})))


# --- on the fake server ---


def images(server: FakeServer, compiler: Any, *plans: Plan) -> list[Render]:
    engine = engine_on(server, compiler=compiler)
    try:
        findings = [finding for one in plans for finding in engine.check(one)]
        assert [finding for finding in findings if finding.severity == "error"] == []
        return [event for event in engine.run(plans) if isinstance(event, Render)]
    finally:
        engine.close()


def own_files(**files: tuple[str, ...]) -> FakeServer:
    return FakeServer(replace(Behaviour(), files={**Behaviour().files, **files}))


def test_the_recipe_zimage_runs_under_whichever_name_the_encoder_has() -> None:
    of = replace(planned(shipped("zimage")), width=64, height=64)
    with own_files(text_encoders=("qwen/qwen_3_4b_bf16.safetensors",)) as server:
        (made,) = images(server, GraphCompiler(GraphSupplies(Faces(), lambda _: ())), of)
    assert made.image.size == (64, 64)


@pytest.mark.parametrize("make", [api, editors_file])
def test_a_users_workflow_runs_in_either_format_and_every_seed_gives_another_image(make: Any, tmp_path: Path) -> None:
    small = ["EmptySD3LatentImage.width=64", "EmptySD3LatentImage.height=64"]
    flow = open_workflow(write(tmp_path / "flow.json", make()), small)
    with FakeServer() as server:
        one, two = images(server, flow.compiler, own_plan(seed=1), own_plan(seed=2))
    assert one.image.size == (64, 64)
    assert one.image.tobytes() != two.image.tobytes()


def test_a_users_workflow_survives_a_trip_through_sosie_unchanged(tmp_path: Path) -> None:
    flow = open_workflow(write(tmp_path / "flow.json", api()))
    sent = dict(flow.compiler(own_plan("")).steps[0].draft.graph)
    expected = to_api(graph())
    expected["draw"]["inputs"]["seed"] = own_plan("").seed
    assert sent == expected
