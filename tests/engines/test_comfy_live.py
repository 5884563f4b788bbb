"""What is found out before a run, and that every error of ComfyUI is one of ours."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from comfy_bench import (
    UNET,
    Recipes,
    codes,
    engine_on,
    has_error,
    link_to,
    node,
    plan,
    renders,
    set_behaviour,
    zimage,
)
from PIL import Image
from rules import codes_in

from sosie.core import Finding
from sosie.engines.comfy.answers import Failure, LogEntry, Problem, System
from sosie.engines.comfy.catalogue import NodeCatalogue
from sosie.engines.comfy.errors import (
    FAILURES,
    HINTS,
    PROBLEMS,
    Y025,
    ComfyError,
    OutOfMemoryError,
    failed,
    failure_rule,
    problem_rule,
    refused,
)
from sosie.engines.comfy.fake import FakeServer, Scripted
from sosie.engines.comfy.load_log import loaders
from sosie.engines.comfy.logs import is_cut, last, read_entries, since
from sosie.engines.comfy.matching import check_system, match
from sosie.engines.comfy.names import resolve
from sosie.engines.comfy.pictures import check_picture
from sosie.engines.comfy.program import CompiledGraph, FileUse, GraphProgram, Upload, from_built, png
from sosie.engines.comfy.server import Server
from sosie.graph.build import Builder, GraphPicture, wanted

CODES = codes_in("engines/comfy")

pytestmark = pytest.mark.once

HERE = Server("http://127.0.0.1:1")


@pytest.fixture
def server() -> Iterator[FakeServer]:
    with FakeServer() as fake:
        yield fake


def check(server: FakeServer, **change: dict[str, Any]) -> list[Finding]:
    engine = engine_on(server, compiler=Recipes(change=change))
    try:
        return [finding for finding in engine.check(plan()) if finding.severity != "info"]
    finally:
        engine.close()


# The live check


def test_a_server_that_has_everything_is_described_and_nothing_else(server: FakeServer) -> None:
    engine = engine_on(server)
    (told,) = engine.check(plan())
    assert (told.code, told.severity) == ("SOS-Y005", "info")
    assert told.message == "ComfyUI 0.33.0, torch 2.14.1+cu130, cuda:0 fake (24.0 GiB)"
    engine.close()
    assert server.count("POST", "/prompt") == 0


def test_an_unreachable_server_is_a_finding(server: FakeServer) -> None:
    server.stop()
    (finding,) = check(server)
    assert (finding.code, finding.severity) == ("SOS-Y001", "error")


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("ApplyInstantID", "the pack 'InstantID' brings it"),
        ("UltimateSDUpscale", "the pack 'Ultimate SD Upscale' brings it"),
        ("UNETLoader", "newer versions of ComfyUI bring"),
        ("KSamplr", "did you mean 'KSampler'"),
    ],
)
def test_a_missing_class_is_named_with_what_brings_it(server: FakeServer, kind: str, said: str) -> None:
    set_behaviour(server, lacks=frozenset({kind}))
    found = check(server, **{"30": {"class_type": kind}})
    assert [said in finding.message for finding in found if finding.code == "SOS-Y010"] == [True]


def test_a_missing_model_is_named_with_what_is_there(server: FakeServer) -> None:
    set_behaviour(server, files={**server.behaviour.files, "diffusion_models": ("z_image_fp8.safetensors",)})
    (finding,) = check(server)
    assert finding.code == "SOS-Y011"
    assert f"no model file '{UNET}'; it has z_image_fp8.safetensors" in finding.message


def test_a_file_is_found_by_its_alias_and_in_a_subfolder(server: FakeServer) -> None:
    files = {"text_encoders": ("qwen\\Qwen_3_4b_bf16.safetensors",), "diffusion_models": (f"zimage/{UNET}", "b.sft")}
    set_behaviour(server, files={**server.behaviour.files, **files})
    assert check(server) == []
    (made,) = renders(engine_on(server), 1)
    assert made.image.size == (64, 64)
    assert server.life is not None
    sent = next(iter(server.life.history.values()))["prompt"][2]
    assert sent["1"]["inputs"]["unet_name"] == f"zimage/{UNET}"
    assert sent["2"]["inputs"]["clip_name"] == "qwen\\Qwen_3_4b_bf16.safetensors"


def test_an_ambiguous_name_lists_the_candidates(server: FakeServer) -> None:
    files = {"diffusion_models": (f"a/{UNET}", f"b/{UNET}")}
    set_behaviour(server, files={**server.behaviour.files, **files})
    (finding,) = check(server)
    assert (finding.code, finding.severity) == ("SOS-Y012", "error")
    assert f"a/{UNET}, b/{UNET}" in finding.message
    with pytest.raises(ComfyError, match="fits several"):
        renders(engine_on(server), 1)
    assert server.count("POST", "/prompt") == 0


@pytest.mark.parametrize(
    ("change", "code", "said"),
    [
        ({"8": {"cfg": 101.0}}, "SOS-Y014", "it takes 0.0 to 100.0"),
        ({"8": {"steps": 0}}, "SOS-Y014", "it takes 1 to 10000"),
        ({"8": {"seed": 2**64}}, "SOS-Y014", "it takes 0 to 18446744073709551615"),
        ({"8": {"cfg": float("nan")}}, "SOS-Y014", "not a finite number"),
        ({"8": {"steps": 4.5}}, "SOS-Y013", "whole numbers"),
        ({"8": {"steps": "many"}}, "SOS-Y013", "it takes INT"),
        ({"8": {"sampler_name": "res_multi"}}, "SOS-Y011", "none of its choices: euler"),
        ({"2": {"type": "lumina3"}}, "SOS-Y011", "none of its choices"),
        ({"8": {"model": ["9", 0]}}, "SOS-Y013", "takes MODEL and is given IMAGE by VAEDecode 9"),
        ({"8": {"model": ["99", 0]}}, "SOS-Y013", "node 99, which is not in the graph"),
        ({"8": {"model": ["4", 3]}}, "SOS-Y013", "output 3 of ModelSamplingAuraFlow, which it has not"),
        ({"8": {"model": "x"}}, "SOS-Y013", "it takes a link to MODEL"),
        ({"30": {"class_type": "SaveImage", "filename_prefix": "x"}}, "SOS-Y013", "input 'images' is missing"),
    ],
)
def test_what_does_not_fit_a_node_is_said_before_the_server_says_it(
    server: FakeServer, change: dict[str, Any], code: str, said: str
) -> None:
    found = check(server, **change)
    assert [finding.code for finding in found] == [code]
    assert said in found[0].message
    with pytest.raises(ComfyError) as error:
        renders(engine_on(server, compiler=Recipes(change=change)), 1)
    assert error.value.code == code
    assert server.count("POST", "/prompt") == 0


def test_an_input_that_the_server_does_not_know_is_a_warning(server: FakeServer) -> None:
    """ComfyUI ignores it without a word."""
    (finding,) = check(server, **{"4": {"shfit": 3.0}})
    assert (finding.code, finding.severity) == ("SOS-Y013", "warning")
    assert "did you mean 'shift'" in finding.message


def test_an_output_that_saves_nothing_is_an_error() -> None:
    catalogue = NodeCatalogue({"VAEDecode": {"input": {}, "output": ["IMAGE"], "output_node": False}})
    graph = {"9": node("VAEDecode")}
    assert has_error(match(CompiledGraph(graph, "9"), catalogue, "s").findings, "SOS-Y013")
    assert has_error(match(CompiledGraph(graph, "10"), catalogue, "s").findings, "SOS-Y013")


def test_face_analysis_that_would_download_is_announced(server: FakeServer) -> None:
    engine = engine_on(
        server, compiler=Recipes(change={"30": {"class_type": "InstantIDFaceAnalysis", "provider": "CPU"}})
    )
    assert [finding.code for finding in engine.check(plan())] == ["SOS-Y005", "SOS-Y016"]
    engine.close()


def test_the_face_models_that_are_named_are_those_that_each_node_reads() -> None:
    graph = {
        "1": node("InstantIDFaceAnalysis", provider="CPU"),
        "2": node("IPAdapterInsightFaceLoader", provider="CPU"),
        "3": node("IPAdapterInsightFaceLoader", provider="CPU", model_name="antelopev2"),
        "4": node("IPAdapterUnifiedLoaderFaceID"),
        "9": node("SaveImage"),
    }
    there = {entry["class_type"]: {"output_node": True} for entry in graph.values()}
    found = match(CompiledGraph(graph, "9"), NodeCatalogue(there), "s").findings
    told = [f.hint.rpartition("/")[2] for f in found if f.code == "SOS-Y016"]
    assert told == ["antelopev2", "buffalo_l", "antelopev2", "buffalo_l"]
    # A class that is not there fetches nothing.
    del there["InstantIDFaceAnalysis"]
    less = codes(list(match(CompiledGraph(graph, "9"), NodeCatalogue(there), "s").findings))
    assert (less.count("SOS-Y010"), less.count("SOS-Y016")) == (1, 3)


def test_memory_and_version_are_compared() -> None:
    system = System("0.3.9", "3.11", "2.5", "linux", "cuda:0", 8 * 2**30)
    found = check_system(system, GraphProgram((), memory=12 * 2**30, version="0.3.76"), "s")
    assert [(f.code, f.severity) for f in found] == [
        ("SOS-Y005", "info"),
        ("SOS-Y006", "error"),
        ("SOS-Y007", "warning"),
    ]
    assert codes(check_system(system, GraphProgram((), memory=2**30, version="0.3.9"), "s")) == ["SOS-Y005"]
    assert codes(check_system(System(), GraphProgram((), memory=2**30, version="1"), "s")) == ["SOS-Y005"]


# Shapes of /object_info


def test_all_shapes_of_choices_are_read() -> None:
    catalogue = NodeCatalogue(
        {
            "N": {
                "input": {
                    "required": {
                        "old": [["a", "b"], {}],
                        "older": [["a", "b"]],
                        "new": ["COMBO", {"options": ["a", "b"], "multiselect": False}],
                        "empty": ["COMBO", {"options": []}],
                        "fetched": ["COMBO", {"remote": {"route": "/x"}}],
                        "many": ["COMBO", {"options": ["a"], "multiselect": True}],
                        "dynamic": [
                            "COMFY_DYNAMICCOMBO_V3",
                            {"options": [{"key": "a", "inputs": {"required": {"width": ["INT", {"min": 8}]}}}]},
                        ],
                    },
                    "optional": {"seed": ["INT", {"min": 0, "max": 2**64 - 1}]},
                    "hidden": {"prompt": "PROMPT"},
                },
                "output": ["IMAGE", ["a", "b"]],
                "output_node": True,
            }
        }
    )
    offer = catalogue.node("N")
    assert offer is not None
    assert {takes.name: takes.choices for takes in offer.inputs if takes.type in ("COMBO", "FILE")} == {
        "old": ("a", "b"),
        "older": ("a", "b"),
        "new": ("a", "b"),
        "empty": (),
        "fetched": None,
        "many": None,
        "dynamic": ("a",),
    }
    assert offer.outputs == ("IMAGE", "COMBO")
    seed = offer.input("seed")
    assert seed is not None
    assert (seed.type, seed.high) == ("SEED", 2**64 - 1)
    assert [entry.low for entry in offer.takes({"dynamic": "a"}) if entry.name == "dynamic.width"] == [8]
    assert "dynamic.width" not in [entry.name for entry in offer.takes({"dynamic": "b"})]
    assert offer.input("prompt") is None
    assert catalogue.node("M") is None


@pytest.mark.parametrize(
    "value", [None, [], "x", {"input": [1]}, {"input": {"required": {"a": None, "b": [], "c": 3}}}]
)
def test_a_class_that_is_described_wrong_is_still_a_class(value: Any) -> None:
    offer = NodeCatalogue({"N": value}).node("N")
    assert offer is not None
    match(CompiledGraph({"1": node("N", a=1, b=["2", 0])}, "1"), NodeCatalogue({"N": value}), "s")


def test_the_fake_offers_both_shapes(server: FakeServer) -> None:
    info = link_to(server).client.object_info()
    assert info["UpscaleModelLoader"]["input"]["required"]["model_name"][0] == "COMBO"
    assert info["KSampler"]["input"]["required"]["sampler_name"][0][:2] == ["euler", "euler_ancestral"]
    assert match(Recipes().compiled(plan()), NodeCatalogue(info), "s").findings == ()


# Names


@pytest.mark.parametrize(
    ("names", "options", "found"),
    [
        (("a.sft", "b.sft"), ["b.sft", "a.sft"], "a.sft"),
        (("a.sft", "b.sft"), ["b.sft", "x/a.sft"], "x/a.sft"),
        (("a.sft",), ["x/a.sft", "a.sft"], "a.sft"),
        (("a.sft", "b.sft"), ["B.SFT"], "B.SFT"),
        (("a.sft", "b.sft", "c.sft"), ["b.sft", "c.sft"], "SOS-Y012"),
        (("a.sft",), ["x/a.sft", "y\\A.sft"], "SOS-Y012"),
        (("a.sft",), ["aa.sft", None, 3], "SOS-Y011"),
        (("a.sft",), [], "SOS-Y011"),
    ],
)
def test_names_are_resolved_and_never_guessed(names: tuple[str, ...], options: list[Any], found: str) -> None:
    result = resolve(FileUse("1", "x", names, "VAE"), options, "s")
    assert (result.code if isinstance(result, Finding) else result) == found


def test_a_built_graph_brings_its_files_and_pictures() -> None:
    builder = Builder()
    (image, _) = builder.add("LoadImage", image=GraphPicture("reference 1"))
    (upscaler,) = builder.add("UpscaleModelLoader", model_name=wanted("4x", "upscaler", "upscale_models", (".pth",)))
    (large,) = builder.add("ImageUpscaleWithModel", upscale_model=upscaler, image=image)
    (saved,) = builder.add("SaveImage", images=large)
    compiled = from_built(builder.built(), saved.node, {"reference 1": b"png"}, {"4x": "abc"})
    assert compiled.uploads == (Upload("1", "image", b"png", True),)
    assert compiled.files == (FileUse("2", "model_name", ("4x.pth",), "upscaler", "abc"),)
    assert compiled.graph["3"]["inputs"]["image"] == ["1", 0]
    assert from_built(builder.built(), saved.node).uploads[0].data == b""


# Errors: every type of ComfyUI is one of ours

TYPES = (
    *("no_prompt", "invalid_prompt", "invalid_prompt_id", "missing_node_type", "prompt_no_outputs"),
    *("prompt_outputs_failed_validation", "required_input_missing", "bad_linked_input", "return_type_mismatch"),
    *("exception_during_inner_validation", "exception_during_validation", "invalid_input_type"),
    *("invalid_dynamic_input", "value_smaller_than_min", "value_bigger_than_max", "value_not_in_list"),
    *("custom_validation_failed", "dependency_cycle"),
)
"""The types in execution.py and server.py of ComfyUI 0.33 to 0.36."""


@pytest.mark.parametrize("kind", TYPES)
def test_every_type_of_error_is_one_of_ours(server: FakeServer, kind: str) -> None:
    assert kind in PROBLEMS
    error = {"type": kind, "message": f"about {kind}", "details": "these", "extra_info": {}}
    whole = {"error": error, "node_errors": {}}
    inner = {
        "error": {"type": "prompt_outputs_failed_validation", "message": "", "details": "", "extra_info": {}},
        "node_errors": {"8": {"errors": [error], "dependent_outputs": ["10"], "class_type": "KSampler"}},
    }
    for body in (whole, inner):
        set_behaviour(server, scripted={"/prompt": Scripted(400, json.dumps(body).encode())})
        with pytest.raises(ComfyError, match=f"about {kind}: these") as found:
            link_to(server).client.submit(zimage(1), "me", "id")
        assert found.value.code == problem_rule(kind).code
        assert found.value.code in CODES
        assert found.value.hint


def test_the_table_has_no_type_that_comfyui_does_not_have() -> None:
    assert set(PROBLEMS) == set(TYPES)


def test_a_type_of_a_later_version_is_told_as_it_is() -> None:
    error = refused(HERE, [Problem("loop_not_closed", "a loop is open", "3", "LoopStart")])
    assert (error.code, error.message) == (
        "SOS-Y017",
        "server 127.0.0.1:1 cannot run the graph: LoopStart 3: a loop is open",
    )


def test_many_problems_are_counted_and_three_told() -> None:
    error = refused(HERE, [Problem("value_not_in_list", f"problem {i}", str(i), "K") for i in range(5)])
    assert "K 2: problem 2; and 2 more" in error.message
    assert refused(HERE, []).code == "SOS-Y017"


@pytest.mark.parametrize(
    ("raised", "message", "code"),
    [
        ("torch.OutOfMemoryError", "Allocation on device", "SOS-Y023"),
        ("RuntimeError", "x\nThis error means you ran out of memory on your GPU.", "SOS-Y023"),
        ("safetensors._safetensors_rust.SafetensorError", "incomplete metadata, file not fully covered", "SOS-Y020"),
        ("safetensors._safetensors_rust.SafetensorError", "header too large", "SOS-Y020"),
        ("RuntimeError", "ERROR: Could not detect model type of: x", "SOS-Y021"),
        ("RuntimeError", "shape '[9728, 2560]' is invalid for input of size 1", "SOS-Y021"),
        ("RuntimeError", "Given normalized_shape=[64], expected ... [2,77,768]", "SOS-Y022"),
        ("RuntimeError", "mat1 and mat2 shapes cannot be multiplied (77x768 and 2560x3840)", "SOS-Y022"),
        ("requests.exceptions.ConnectionError", "Max retries exceeded with url", "SOS-Y024"),
        ("AssertionError", "assert 'detection' in self.models", "SOS-Y024"),
        ("FileNotFoundError", "[Errno 2] No such file or directory: 'x'", "SOS-Y011"),
        ("comfy_execution.graph.DependencyCycleError", "cycle", "SOS-Y013"),
        ("ValueError", "anything else", "SOS-Y025"),
        ("", "", "SOS-Y025"),
    ],
)
def test_every_exception_is_one_of_ours(raised: str, message: str, code: str) -> None:
    failure = Failure(raised, message, "8", "KSampler")
    error = failed(HERE, failure)
    assert error.code == failure_rule(failure).code == code
    assert isinstance(error, OutOfMemoryError) == (code == "SOS-Y023")
    assert "KSampler 8 failed" in error.message
    assert error.hint


def test_every_rule_of_the_tables_has_a_title_and_a_hint() -> None:
    given = {*PROBLEMS.values(), *(rule for _, rule in FAILURES), Y025}
    assert {rule.code for rule in given} <= CODES
    assert given - set(HINTS) == set()


# The log


def entries(*texts: str) -> list[LogEntry]:
    return [LogEntry(f"2026-01-01T00:00:{i:02}.000000", text) for i, text in enumerate(texts)]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("lora key not loaded: diffusion_model.layers.0.attention.to_q.lora_A.weight\n", [("SOS-Y030", "error")]),
        ("lora key not loaded: lora_te1_text_model_encoder_layers_0.alpha\n", [("SOS-Y030", "warning")]),
        ("unet missing: ['layers.0.w']\n", [("SOS-Y031", "error")]),
        ("unet unexpected: ['x']\n", [("SOS-Y031", "warning")]),
        ("unet missing: []\n", []),
        ("Missing VAE keys ['decoder.x']\n", [("SOS-Y031", "error")]),
        ("nodes.py:1698: RuntimeWarning: invalid value encountered in cast\n", [("SOS-Y032", "error")]),
        ("Requested to load Lumina2\nloaded completely\nclip missing: ['text_projection.weight']\n", []),
        ("Prompt executed in 0.45 seconds\n", []),
        ("\x1b[31m" * 1000, []),
        ("\x1b[1m\x1b[33m[WARNING]\x1b[0m lora key not loaded: transformer.x.lora_A.weight\n", [("SOS-Y030", "error")]),
        ("\x1b[1m\x1b[33m[WARNING]\x1b[0m unet missing: ['layers.0.w']\n", [("SOS-Y031", "error")]),
        ("\r100%|##########| 8/8 [00:01<00:00,  7.79it/s]", []),
    ],
)
def test_lines_of_the_log_become_findings(text: str, found: list[tuple[str, str]]) -> None:
    assert [(told.finding.code, told.finding.severity) for told in read_entries(entries(text), "s")] == found


def test_keys_are_counted_once_though_they_are_told_in_pieces() -> None:
    (told,) = read_entries(
        entries("lora key not loaded: a.b\nlora key not loaded: a.c", "lora key not loaded: a.b\n"), "s"
    )
    assert told.finding.message.startswith("2 of a LoRA's tensors were not loaded: a.b, a.c")


def test_a_mark_divides_a_log() -> None:
    log = entries("a", "b", "c")
    assert [entry.text for entry in since(log, last(log[:2]))] == ["c"]
    assert since(log, last(log)) == []
    assert len(since(log, last([]))) == 3


def test_a_log_is_cut_when_its_mark_has_left_it() -> None:
    log = entries("a", "b", "c")
    mark = last(log[:1])
    assert not is_cut(log, mark)
    assert is_cut(log[1:], mark)
    assert not is_cut([], mark)
    assert not is_cut(log, "")


def test_loaders_are_known_by_all_that_they_load_from() -> None:
    plain_, with_lora = loaders(zimage(1)), loaders(zimage(1, lora=True))
    assert set(plain_) == {"1", "2", "3"}
    assert with_lora["11"][0] == "lora"
    assert with_lora["1"] == plain_["1"]
    assert loaders(zimage(2)) == plain_
    looped = {"1": node("LoraLoaderModelOnly", model=["1", 0], lora_name="x", strength_model=1.0)}
    assert set(loaders(looped)) == {"1"}


def test_one_colour_is_no_picture() -> None:
    for colour, word in (("black", "black"), ("white", "of one colour"), ((10, 200, 30), "of one colour")):
        (finding,) = check_picture(Image.new("RGB", (8, 8), colour), "s")
        assert word in finding.message
        assert finding.severity == "error"
    assert check_picture(Image.effect_noise((8, 8), 50).convert("RGB"), "s") == []


def test_an_uploaded_image_carries_no_metadata() -> None:
    image = Image.new("RGB", (4, 4))
    image.info["prompt"] = "private"
    assert b"private" not in png(image)


NET = "diffusion_pytorch_model.safetensors"


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
