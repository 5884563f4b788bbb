"""What the editor does to a graph before it sends it: bypasses, promoted values, links of packs, choices in prompts."""

from __future__ import annotations

from typing import Any

import pytest
from workflow_files import Drawing, Json, draw_body, drawing

from sosie.core.errors import BadModelError, UsageError
from sosie.doctor.graph_structure import check_structure
from sosie.graph import Graph, Link, NodeType, node_type
from sosie.graph.attach import expect_runnable
from sosie.graph.dynamic_prompts import DEEPEST, draw_prompt, has_choices, is_dynamic
from sosie.graph.object_info import read_object_info
from sosie.graph.outputs import find_output
from sosie.graph.read import read_table


def graph(table: Json, kinds: Any = None) -> Graph:
    return read_table(table, "w.json", kinds)


def codes(found: Graph) -> list[str]:
    return [finding.code for finding in check_structure(found, "w.json") if finding.severity != "info"]


def saved(kind: str, wire: Any, gives: tuple[str, ...], **more: Any) -> Graph:
    """A picture that goes through one node to be saved."""
    d = Drawing()
    draw_body(d)
    d.add(20, kind, wire, [], gives=gives, **more)
    d.add(21, "SaveImage", {"images": (20, 0, "IMAGE")}, ["x"])
    return graph(d.file())


# Bypassed nodes


@pytest.mark.parametrize("takes", ["IMAGE", "IMAGE,MASK", "MASK,IMAGE", "*", "image"])
def test_a_bypassed_node_passes_on_what_fits_the_type_that_is_wanted(takes: str) -> None:
    found = saved("ResizeImageMaskNode", {"input": (9, 0, takes)}, ("*",), mode=4)
    assert found.nodes["21"].inputs["images"] == Link("9", 0)
    assert codes(found) == []


def test_a_bypassed_node_without_a_fitting_input_passes_nothing_on() -> None:
    found = saved("SomethingElse", {"latent": (8, 0, "LATENT")}, ("IMAGE",), mode=4)
    assert "images" not in found.nodes["21"].inputs


def test_a_bypassed_node_takes_the_exact_type_before_one_that_fits_and_the_same_place_before_both() -> None:
    d = Drawing()
    draw_body(d)
    d.add(19, "VAEDecode", {"samples": (8, 0, "LATENT"), "vae": (4, 0, "VAE")})
    d.add(
        20, "Mix", {"m": (3, 0, "CLIP"), "a": (19, 0, "IMAGE,MASK"), "b": (9, 0, "IMAGE")}, [], gives=("IMAGE",), mode=4
    )
    d.add(21, "Pair", {"a": (19, 0, "IMAGE"), "b": (9, 0, "IMAGE")}, [], gives=("IMAGE", "IMAGE"), mode=4)
    d.add(22, "SaveImage", {"images": (20, 0, "IMAGE")}, ["x"])
    d.add(23, "SaveImage", {"images": (21, 1, "IMAGE")}, ["y"])
    found = graph(d.file())
    assert found.nodes["22"].inputs["images"] == Link("9", 0)
    assert found.nodes["23"].inputs["images"] == Link("9", 0)


def test_the_type_that_is_wanted_is_carried_through_reroutes_and_named_wires() -> None:
    d = Drawing()
    draw_body(d)
    d.add(20, "ResizeImageMaskNode", {"input": (9, 0, "IMAGE,MASK")}, [], gives=("*",), mode=4)
    d.add(24, "Reroute", {"": (20, 0, "*")}, [], gives=("*",), mode=2)
    d.add(25, "SetNode", {"IMAGE": (24, 0, "*")}, ["drawn"], gives=("*",))
    d.add(26, "easy getNode", {}, ["nothing"], gives=("*",))
    d.add(27, "GetNode", {}, ["drawn"], gives=("*",))
    d.add(21, "SaveImage", {"images": (27, 0, "IMAGE")}, ["x"])
    assert graph(d.file()).nodes["21"].inputs["images"] == Link("9", 0)


# Subgraphs


def subgraph(values: Any, **instance: Any) -> Graph:
    """A text and a preview inside that one input of the subgraph stands for, the preview's without a widget."""
    inside = Drawing(as_objects=True)
    inside.add(1, "PreviewAny", {"source": (-10, 0, "STRING")})
    inside.add(2, "PrimitiveStringMultiline", {"value!": (-10, 0, "STRING")}, ["inside"])
    inside.add(3, "PreviewAny", {"source": (2, 0, "STRING")})
    outside = Drawing()
    outside.add(7, "uuid", {"text!": None}, values, gives=(), **instance)
    sub = {"id": "uuid", "name": "Say", "inputs": [{"name": "text"}]}
    # A wire to somewhere keeps this from being a blueprint.
    outside.add(8, "EmptyLatentImage", {}, [512, 512, 1])
    return graph(outside.file(definitions={"subgraphs": [sub | inside.file()]}))


def test_an_input_without_a_widget_takes_what_the_subgraphs_instance_holds() -> None:
    assert subgraph(["outside"]).nodes["7:1"].inputs["source"] == "outside"
    assert subgraph(["outside"]).nodes["7:2"].inputs["value"] == "outside"


def test_an_instance_that_holds_nothing_shows_the_value_of_the_widget_inside() -> None:
    found = subgraph([])
    assert found.nodes["7:1"].inputs["source"] == "inside"
    assert codes(found) == []


def test_values_of_an_instance_that_hold_how_a_seed_changes_are_told_apart() -> None:
    inside = Drawing(as_objects=True)
    draw_body(inside, **{"seed!": (-10, 0, "INT"), "steps!": (-10, 1, "INT")})
    outside = Drawing()
    outside.add(70, "uuid", {"seed!": None, "steps!": None}, [11, "randomize", 9], gives=("IMAGE",))
    outside.add(71, "SaveImage", {"images": (70, 0, "IMAGE")}, ["x"])
    sub = {"id": "uuid", "inputs": [{"name": "seed"}, {"name": "steps"}]}
    found = graph(outside.file(definitions={"subgraphs": [sub | inside.file()]})).nodes["70:8"].inputs
    assert (found["seed"], found["steps"]) == (11, 9)


def test_a_getter_inside_a_subgraph_finds_its_setter_outside() -> None:
    inside = Drawing(as_objects=True)
    inside.add(1, "GetNode", {}, ["model"], gives=("MODEL",))
    inside.add(2, "ModelSamplingAuraFlow", {"model": (1, 0, "MODEL")}, [3])
    inside.wire((2, 0, "MODEL"), -20, 0)
    outside = Drawing()
    outside.add(1, "UNETLoader", {}, ["u.safetensors", "default"])
    outside.add(2, "SetNode", {"MODEL": (1, 0, "MODEL")}, ["model"], gives=("MODEL",))
    outside.add(3, "uuid", {}, [], gives=("MODEL",))
    found = graph(outside.file(definitions={"subgraphs": [{"id": "uuid", "inputs": []} | inside.file()]}))
    assert found.nodes["3:2"].inputs["model"] == Link("1", 0)


def test_a_blueprint_is_named_as_one_and_not_called_broken() -> None:
    inside = Drawing(as_objects=True)
    draw_body(inside)
    inside.add(10, "SaveImage", {"images": (-10, 0, "IMAGE")}, ["x"])
    outside = Drawing()
    outside.add(-1, "uuid", {"image": None}, [], gives=())
    found = graph(
        outside.file(definitions={"subgraphs": [{"id": "uuid", "name": "Sharpen", "inputs": []} | inside.file()]})
    )
    assert found.editing.blueprint == "Sharpen"
    (finding, *_) = check_structure(found, "w.json")
    assert (finding.code, codes(found)) == ("SOS-W008", [])
    assert "Sharpen" in finding.message


# Values


@pytest.mark.parametrize("control", [True, False, "randomize", "fixed", "increment"])
def test_true_and_false_after_a_seed_are_old_words_for_how_it_changes(control: Any) -> None:
    table = drawing()
    sampler = next(node for node in table["nodes"] if node["type"] == "KSampler")
    sampler["widgets_values"][1] = control
    found = graph(table)
    assert (found.nodes["8"].inputs["steps"], found.nodes["8"].inputs["denoise"]) == (25, 1)
    assert codes(found) == []


def test_a_truth_value_of_a_widgets_own_is_not_taken_for_it() -> None:
    d = Drawing()
    d.add(1, "SolidMask", {}, [1, 64, 64])
    d.add(2, "GrowMask", {"mask": (1, 0, "MASK")}, [5, False])
    assert graph(d.file()).nodes["2"].inputs["tapered_corners"] is False


def test_a_choice_brings_its_widgets_in_their_order() -> None:
    d = Drawing()
    d.add(1, "LoadImage", {}, ["a.png", "image"])
    d.add(2, "ResizeImageMaskNode", {"input": (1, 0, "IMAGE")}, ["scale total pixels", 2.5, "area"])
    inputs = graph(d.file()).nodes["2"].inputs
    assert (inputs["resize_type"], inputs["resize_type.megapixels"], inputs["scale_method"]) == (
        "scale total pixels",
        2.5,
        "area",
    )
    assert "resize_type.width" not in inputs


def test_values_of_another_version_of_a_class_are_said_and_not_judged() -> None:
    table = drawing()
    sampler = next(node for node in table["nodes"] if node["type"] == "KSampler")
    sampler["widgets_values"] = ["Sample", 13, 7, True, 12, 8, "euler", "normal", 1]
    found = graph(table)
    assert codes(found) == []
    told = [finding for finding in check_structure(found, "w.json") if finding.code == "SOS-W002"]
    assert "KSampler 8" in told[0].message
    with pytest.raises(UsageError, match="KSampler"):
        expect_runnable(found, find_output(found))


# Nodes that only the editor knows


def test_nodes_of_the_editor_alone_are_gone_and_their_wires_hold() -> None:
    d = Drawing()
    draw_body(d)
    d.add(30, "Bookmark (rgthree)", {}, ["1", 1])
    d.add(31, "Label (rgthree)")
    d.add(32, "Fast Groups Muter (rgthree)", {}, [])
    d.add(33, "Reroute (rgthree)", {"": (9, 0, "*")}, [], gives=("IMAGE",))
    d.add(34, "Fast Muter (rgthree)", {"Sampler": (8, 0, "*")}, [], gives=("*",))
    d.add(21, "SaveImage", {"images": (33, 0, "IMAGE")}, ["x"])
    found = graph(d.file())
    assert found.nodes["21"].inputs["images"] == Link("9", 0)
    assert not any("rgthree" in node.kind for node in found)


# Links of cg-use-everywhere


def everywhere(senders: Json) -> Drawing:
    """Z-Image with its model, encoder and VAE sent everywhere; `senders` are nodes by id."""
    d = Drawing()
    d.add(1, "UNETLoader", {}, ["z_image_bf16.safetensors", "default"])
    d.add(3, "CLIPLoader", {}, ["qwen_3_4b.safetensors", "lumina2", "default"])
    d.add(4, "VAELoader", {}, ["ae.safetensors"])
    d.add(5, "CLIPTextEncode", {"clip": None}, ["a lighthouse"], title="Yes")
    d.add(6, "CLIPTextEncode", {"clip": None}, [""], title="No")
    d.add(7, "EmptySD3LatentImage", {}, [64, 64, 1])
    wires = {"model": None, "positive": (5, 0, "CONDITIONING"), "negative": (6, 0, "CONDITIONING")}
    d.add(8, "KSampler", {**wires, "latent_image": (7, 0, "LATENT")}, [1, "fixed", 25, 4, "euler", "simple", 1])
    d.add(9, "VAEDecode", {"samples": (8, 0, "LATENT"), "vae": None})
    d.add(10, "SaveImage", {"images": (9, 0, "IMAGE")}, ["x"])
    for entry in d.nodes:
        for slot, carries in zip(entry["inputs"], ["CLIP"] if entry["id"] in (5, 6) else (), strict=False):
            slot["type"] = carries
        if entry["id"] in (8, 9):
            slot = entry["inputs"][0 if entry["id"] == 8 else 1]
            slot["type"] = "MODEL" if entry["id"] == 8 else "VAE"
    for name, sender in senders.items():
        d.add(int(name), **sender)
    return d


ALL = {
    "20": {"kind": "Anything Everywhere", "wires": {"anything": (1, 0, "*")}},
    "21": {"kind": "Anything Everywhere3", "wires": {"anything": (3, 0, "*"), "anything2": (4, 0, "*")}},
}


def test_what_is_sent_everywhere_feeds_the_open_inputs_of_its_type() -> None:
    found = graph(everywhere(ALL).file())
    assert [found.nodes[name].inputs["clip"] for name in "56"] == [Link("3", 0)] * 2
    assert found.nodes["8"].inputs["model"] == Link("1", 0)
    assert found.nodes["9"].inputs["vae"] == Link("4", 0)
    assert codes(found) == []
    (told,) = [finding for finding in check_structure(found, "w.json") if finding.code == "SOS-W013"]
    assert "4 inputs" in told.message
    expect_runnable(found, find_output(found))


def test_the_links_that_a_file_lists_are_taken_before_any_rule() -> None:
    links = [
        {"downstream": 5, "downstream_slot": 0, "upstream": "3", "upstream_slot": 0, "controller": 21, "type": "CLIP"},
        {"downstream": 99, "downstream_slot": 0, "upstream": "3", "upstream_slot": 0, "controller": 21, "type": "CLIP"},
    ]
    found = graph(everywhere(ALL).file(extra={"ue_links": links}))
    assert found.nodes["5"].inputs["clip"] == Link("3", 0)
    assert "clip" not in found.nodes["6"].inputs


def test_rules_of_titles_are_followed_and_two_equal_senders_send_nothing() -> None:
    rule = {"ue_properties": {"version": "7.0", "title_regex": "^Yes"}}
    one = {**ALL, "21": {"kind": "Anything Everywhere", "wires": {"a": (3, 0, "*")}, "properties": rule}}
    found = graph(everywhere(one).file())
    assert ("clip" in found.nodes["5"].inputs, "clip" in found.nodes["6"].inputs) == (True, False)
    twice = {**ALL, "22": {"kind": "Anything Everywhere", "wires": {"a": (1, 0, "*")}}}
    assert "model" not in graph(everywhere(twice).file()).nodes["8"].inputs


@pytest.mark.parametrize("rule", [{"group_restricted": 1}, {"group_regex": "a"}, {"title_regex": "(a+)+$"}])
def test_rules_that_only_the_editor_follows_make_no_error_and_are_refused_by_name(rule: Json) -> None:
    properties = {"ue_properties": {"version": "7.0", **rule}}
    senders = {**ALL, "20": {**ALL["20"], "properties": properties}}
    found = graph(everywhere(senders).file())
    assert codes(found) == []
    with pytest.raises(UsageError, match="cg-use-everywhere"):
        expect_runnable(found, find_output(found))


# Choices in prompts


@pytest.mark.parametrize(
    ("text", "drawn"),
    [
        ("{day|night}", {"day", "night"}),
        ("a {red|{light|dark} blue|} hat", {"a red hat", "a light blue hat", "a dark blue hat", "a  hat"}),
        ("a /* not this */ fox // nor this\nruns", {"a  fox \nruns"}),
        (r"\{a\|b\} (x:1.2)", {"{a|b} (x:1.2)"}),
        ("{open|ended", {"open", "ended"}),
        ("/* not closed", {"/* not closed"}),
    ],
)
def test_choices_are_drawn_as_the_editor_draws_them(text: str, drawn: set[str]) -> None:
    assert {draw_prompt(text, str(seed)) for seed in range(60)} == drawn
    assert has_choices(text) == (len(drawn) > 1)
    assert draw_prompt(text, "7") == draw_prompt(text, "7")


def test_plain_prompts_are_no_matter_of_the_editor_and_hostile_ones_end() -> None:
    assert not is_dynamic("a (fox:1.2), [bird]")
    with pytest.raises(BadModelError, match="in more than"):
        draw_prompt("{" * (DEEPEST + 2), "1")
    for text in ("/*" * 9000, "/*/" * 6000, "{|" * 9000, "\\" * 19_999):
        draw_prompt(text, "1")


def test_a_file_of_the_editor_says_which_texts_are_drawn_and_a_promoted_one_is_not() -> None:
    assert graph(drawing()).nodes["5"].dynamic == ("text",)
    inside = Drawing(as_objects=True)
    inside.add(1, "CLIPTextEncode", {"text!": (-10, 0, "STRING"), "clip": None}, ["{a|b}"])
    outside = Drawing()
    outside.add(7, "uuid", {"text!": None}, ["{c|d}"], gives=())
    outside.add(8, "EmptyLatentImage", {}, [64, 64, 1])
    found = graph(
        outside.file(definitions={"subgraphs": [{"id": "uuid", "inputs": [{"name": "text"}]} | inside.file()]})
    )
    assert (found.nodes["7:1"].inputs["text"], found.nodes["7:1"].dynamic) == ("{c|d}", ())


# Classes that a server describes


def described(name: str) -> NodeType | None:
    info = {
        "input": {"required": {"seed": ["INT", {"max": 99}], "image": ["IMAGE"], "way": [["a", "b"]]}},
        "output": ["IMAGE"],
    }
    return read_object_info(name, info) if name == "SomeoneElses" else None


def test_a_servers_description_names_the_values_of_a_class_that_is_not_known() -> None:
    d = Drawing()
    draw_body(d)
    d.add(20, "SomeoneElses", {"image": (9, 0, "IMAGE")}, [5, "randomize", "b"], gives=("IMAGE",))
    d.add(21, "SaveImage", {"images": (20, 0, "IMAGE")}, ["x"])
    assert graph(d.file()).nodes["20"].unread
    found = graph(d.file(), described)
    assert dict(found.nodes["20"].inputs) == {"seed": 5, "way": "b", "image": Link("9", 0)}
    expect_runnable(found, find_output(found))


def test_the_schema_reads_what_a_server_says_of_a_choice_that_brings_inputs() -> None:
    kind = node_type("SaveImageAdvanced")
    assert kind is not None
    assert [entry.name for entry in kind.takes({"format": "exr"})][-1] == "format.input_color_space"
    assert [entry.choices for entry in kind.takes({"format": "exr"})][-2] == ("32-bit float",)
