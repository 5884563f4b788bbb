"""ComfyUI graphs: both formats give one noun, hostile files one error, and the doctor reads what a sampler uses."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from header_files import FACEID_PLUS, INSTANTID, lora, model, write
from hypothesis import given, settings
from hypothesis import strategies as st
from workflow_files import Drawing, Json, api, draw_body, drawing, node

from sosie.core import Finding
from sosie.core.errors import BadModelError, NotFoundError
from sosie.doctor.workflows import check_graph, check_workflow
from sosie.graph import Graph, Link, node_types, read_workflow
from sosie.graph.notation import WIDGETS, read_notation
from sosie.graph.read import MAX_BYTES, read_table
from sosie.workspace.workspace import Config, Workspace

pytestmark = [pytest.mark.once, pytest.mark.usefixtures("unprobed")]

Sosie = Callable[..., Any]


PLACES = ("unet", "shift", "clip", "vae", "yes", "no", "empty", "draw", "decode", "save")
NAMES = {name: str(number) for number, name in enumerate(PLACES, 1)}


def renamed(table: Json, names: dict[str, str]) -> Json:
    """An API graph under other ids."""

    def value(found: Any) -> Any:
        return [names[found[0]], found[1]] if isinstance(found, list) else found

    return {
        names[name]: {**entry, "inputs": {key: value(found) for key, found in entry["inputs"].items()}}
        for name, entry in table.items()
    }


def graph(table: Json) -> Graph:
    return read_table(table, "w.json")


# One noun for both formats


def test_both_formats_give_the_same_graph() -> None:
    assert graph(drawing()) == graph(renamed(api(), NAMES))
    assert graph({"prompt": api(), "client_id": "x"}) == graph(api())
    drawn = graph(drawing()).nodes["8"]
    assert drawn.inputs["model"] == Link("2", 0)
    assert (drawn.inputs["seed"], drawn.inputs["steps"], drawn.inputs["denoise"]) == (7, 25, 1)


def test_a_subgraph_is_unfolded_under_the_ids_that_comfyui_gives() -> None:
    inside = Drawing(as_objects=True)
    draw_body(inside, **{"steps!": (-10, 0, "INT"), "cfg!": (-10, 1, "FLOAT")})
    inside.wire((9, 0, "IMAGE"), -20, 0)
    sub = {"id": "uuid", "inputs": [{"name": "steps"}, {"name": "cfg"}], "outputs": [{"name": "IMAGE"}]}
    outside = Drawing()
    outside.add(70, "uuid", {"steps!": None, "cfg!": None}, [], gives=("IMAGE",))
    outside.add(71, "SaveImage", {"images": (70, 0, "IMAGE")}, ["x"])
    file = outside.file(definitions={"subgraphs": [sub | inside.file()]})
    names = {name: f"70:{number}" for name, number in NAMES.items()} | {"save": "71"}
    assert graph(file) == graph(renamed(api(), names))

    steps = copy.deepcopy(file)
    steps["nodes"][0]["widgets_values"] = [30, 5.0]
    assert graph(steps) == graph(renamed(api(draw_steps=30, draw_cfg=5.0), names))
    proxied = copy.deepcopy(file)
    proxied["nodes"][0] |= {
        "widgets_values": ["a mill", None, 40],
        "properties": {"proxyWidgets": [["5", "text"], ["8", "seed"], ["-1", "steps"]]},
    }
    assert graph(proxied) == graph(renamed(api(yes_text="a mill", draw_steps=40), names))


def test_a_wire_into_a_subgraph_wins_over_the_value_inside() -> None:
    inside = Drawing(as_objects=True)
    draw_body(inside, **{"steps!": (-10, 0, "INT")})
    inside.wire((9, 0, "IMAGE"), -20, 0)
    sub = {"id": "uuid", "inputs": [{"name": "steps"}]}
    outside = Drawing()
    outside.add(1, "PrimitiveInt", {}, [33, "fixed"])
    outside.add(2, "uuid", {"steps!": (1, 0, "INT")}, [25], gives=("IMAGE",))
    outside.add(3, "SaveImage", {"images": (2, 0, "IMAGE")}, ["x"])
    found = graph(outside.file(definitions={"subgraphs": [sub | inside.file()]}))
    assert found.nodes["2:8"].inputs["steps"] == Link("1", 0)
    assert found.nodes["1"].inputs == {"value": 33}


def test_two_instances_of_one_subgraph_keep_their_own_values() -> None:
    inside = Drawing(as_objects=True)
    inside.add(1, "UpscaleModelLoader", {"model_name!": (-10, 0, "COMBO")}, ["a.pth"])
    inside.wire((1, 0, "UPSCALE_MODEL"), -20, 0)
    outside = Drawing()
    for name, value in ((1, "b.pth"), (2, "c.pth")):
        outside.add(name, "uuid", {"model_name!": None}, [value], gives=("UPSCALE_MODEL",))
    found = graph(
        outside.file(definitions={"subgraphs": [{"id": "uuid", "inputs": [{"name": "model_name"}]} | inside.file()]})
    )
    assert {name: entry.inputs["model_name"] for name, entry in found.nodes.items()} == {"1:1": "b.pth", "2:1": "c.pth"}


def test_a_group_node_is_unfolded_like_a_subgraph() -> None:
    inside = [
        {
            "index": 0,
            "type": "VAELoader",
            "inputs": [],
            "outputs": [{"name": "VAE", "type": "VAE"}],
            "widgets_values": ["a"],
        },
        {
            "index": 1,
            "type": "VAEDecode",
            "inputs": [{"name": "samples", "type": "LATENT", "link": 5}, {"name": "vae", "type": "VAE", "link": 6}],
            "outputs": [{"name": "IMAGE", "type": "IMAGE"}],
            "widgets_values": [],
        },
    ]
    d = Drawing()
    d.add(1, "EmptyLatentImage", {}, [512, 512, 1])
    d.add(2, "workflow>decode", {"samples": (1, 0, "LATENT")}, ["b.safetensors"], gives=("IMAGE",))
    d.add(3, "PreviewImage", {"images": (2, 0, "IMAGE")})
    found = graph(d.file(extra={"groupNodes": {"decode": {"nodes": inside, "links": [[0, 0, 1, 1, 9, "VAE"]]}}}))
    assert found.nodes["2:0"].inputs == {"vae_name": "b.safetensors"}
    assert found.nodes["2:1"].inputs == {"samples": Link("1", 0), "vae": Link("2:0", 0)}
    assert found.nodes["3"].inputs == {"images": Link("2:1", 0)}


def test_bypassed_nodes_are_bridged_by_type_and_muted_ones_leave_with_their_links() -> None:
    d = Drawing()
    d.add(1, "CheckpointLoaderSimple", {}, ["c.safetensors"])
    d.add(2, "LoraLoader", {"model": (1, 0, "MODEL"), "clip": (1, 1, "CLIP")}, ["l.safetensors", 1, 1], mode=4)
    d.add(3, "CLIPTextEncode", {"clip": (2, 1, "CLIP")}, ["x"])
    d.add(4, "CLIPTextEncode", {"clip": (2, 1, "CLIP")}, ["y"], mode=2)
    wires = {"model": (2, 0, "MODEL"), "positive": (3, 0, "CONDITIONING"), "negative": (4, 0, "CONDITIONING")}
    d.add(5, "KSampler", wires, [1, "fixed", 20, 7, "euler", "normal", 1])
    found = graph(d.file())
    assert set(found.nodes) == {"1", "3", "5"}
    assert found.nodes["3"].inputs["clip"] == Link("1", 1)
    assert found.nodes["5"].inputs["model"] == Link("1", 0)
    assert "negative" not in found.nodes["5"].inputs


def test_reroutes_primitives_named_wires_and_notes_are_of_the_editor_alone() -> None:
    d = Drawing()
    d.add(1, "UNETLoader", {}, ["u.safetensors", "default"])
    d.add(2, "Reroute", {"": (1, 0, "*")}, [], gives=("MODEL",))
    d.add(3, "Reroute", {"": (2, 0, "*")}, [], gives=("MODEL",))
    d.add(4, "SetNode", {"MODEL": (3, 0, "MODEL")}, ["m"], gives=("MODEL",))
    d.add(5, "GetNode", {}, ["m"], gives=("MODEL",))
    d.add(6, "PrimitiveNode", {}, [3.0, "fixed"], gives=("FLOAT",))
    d.add(7, "ModelSamplingAuraFlow", {"model": (5, 0, "MODEL"), "shift!": (6, 0, "FLOAT")}, [1.73])
    d.add(8, "MarkdownNote", {}, ["settings"])
    found = graph(d.file())
    assert set(found.nodes) == {"1", "7"}
    assert found.nodes["7"].inputs == {"model": Link("1", 0), "shift": 3.0}


def test_values_are_named_by_their_place_and_old_files_get_defaults() -> None:
    d = Drawing()
    d.add(1, "LoadImage", {}, ["face.png", "image"])
    d.add(2, "CLIPLoader", {}, ["q.safetensors", "lumina2"])
    d.add(3, "KSamplerAdvanced", {}, {"steps": 9, "noise_seed": 5})
    d.add(4, "UNETLoader", {}, ["u.safetensors"])
    found = graph(d.file())
    assert found.nodes["1"].inputs == {"image": "face.png"}
    assert found.nodes["2"].inputs == {"clip_name": "q.safetensors", "type": "lumina2"}
    assert found.nodes["3"].inputs["steps"] == 9
    assert found.nodes["3"].inputs["end_at_step"] == 10000
    assert found.nodes["4"].inputs["weight_dtype"] == "default"


def test_an_unknown_class_stays_opaque_and_keeps_its_links() -> None:
    d = Drawing()
    d.add(1, "UNETLoader", {}, ["u.safetensors", "default"])
    d.add(2, "SomeoneElses", {"model": (1, 0, "MODEL")}, [1, "two"])
    found = graph(d.file()).nodes["2"]
    assert found.inputs == {"model": Link("1", 0)}
    assert found.unread == (1, "two")


# The schema


def test_every_default_of_the_schema_is_allowed_by_it() -> None:
    assert len(node_types()) > 150
    for kind in node_types().values():
        names = [entry.name for entry in kind.takes({})]
        assert len(set(names)) == len(names), kind.name
        for entry in kind.inputs:
            assert entry.is_widget or not entry.default, (kind.name, entry)
            assert bool(entry.folder) == (entry.type == "FILE"), (kind.name, entry)
            if isinstance(entry.fallback, int | float) and entry.low is not None and entry.high is not None:
                assert entry.low <= entry.fallback <= entry.high, (kind.name, entry)
            if entry.choices and entry.fallback is not None:
                assert entry.fallback in entry.choices, (kind.name, entry)


def test_the_short_form_of_a_class_is_read_and_a_wrong_one_refused() -> None:
    text = "!Save -> IMAGE, MASK\n  image IMAGE, name FILE loras,\n  n? INT 3 -1:9, way COMBO up up|down"
    (kind,) = read_notation(text, "core")
    assert (kind.name, kind.outputs, kind.ends) == ("Save", ("IMAGE", "MASK"), True)
    assert [entry.name for entry in kind.widgets] == ["name", "n", "way"]
    n = kind.input("n")
    assert n is not None
    assert (n.required, n.fallback, n.low, n.high) == (False, 3, -1, 9)
    assert kind.files[0].folder == "loras"
    for wrong in ("Save IMAGE", "Save -> IMAGE\n  n INT 3 4"):
        with pytest.raises(ValueError, match=r"arrow|default"):
            list(read_notation(wrong, "core"))


# Hostile files


def test_what_is_no_workflow_is_one_error(tmp_path: Path) -> None:
    for content in (b"", b"{", b"[" * 100_000, b"\xff\xfe", b"[]", b"{}", b'{"a": 1}', b'{"nodes": []}', b"1e999"):
        (tmp_path / "w.json").write_bytes(content)
        with pytest.raises(BadModelError):
            read_workflow(tmp_path / "w.json")
    (tmp_path / "big.json").write_bytes(b" " * (MAX_BYTES + 1))
    with pytest.raises(BadModelError, match=r"more than 8,000,000 bytes"):
        read_workflow(tmp_path / "big.json")
    with pytest.raises(NotFoundError):
        read_workflow(tmp_path / "none.json")
    with pytest.raises(BadModelError):
        read_workflow(tmp_path)


def subgraph(name: str, *kinds: str) -> Json:
    d = Drawing(as_objects=True)
    for number, kind in enumerate(kinds):
        d.add(number, kind)
    return {"id": name, **d.file()}


def test_subgraphs_that_hold_themselves_or_explode_are_refused() -> None:
    circle = [subgraph("a", "b"), subgraph("b", "a")]
    start = Drawing()
    start.add(1, "a")
    with pytest.raises(BadModelError, match="holds itself"):
        graph(start.file(definitions={"subgraphs": circle}))
    bomb = [subgraph("a", *["b"] * 10), *(subgraph(chr(98 + n), *[chr(99 + n)] * 10) for n in range(10))]
    with pytest.raises(BadModelError, match="more than 10,000"):
        graph(start.file(definitions={"subgraphs": [*bomb, subgraph("l", "KSampler")]}))


def test_wires_in_a_circle_end() -> None:
    d = Drawing()
    d.add(1, "Reroute", {"": (2, 0, "*")}, [], gives=("*",))
    d.add(2, "Reroute", {"": (1, 0, "*")}, [], gives=("*",))
    d.add(3, "PreviewImage", {"images": (1, 0, "IMAGE")})
    found = graph(d.file())
    assert found.problems == ("PreviewImage 3: the link of 'images' leads nowhere",)
    turning = {"a": node("ModelSamplingAuraFlow", model=["a", 0], shift=3), "b": node("KSampler", model=["a", 0])}
    assert graph(turning).above("b") == {"a", "b"}
    long = Drawing()
    for number in range(5000):
        long.add(number, "Reroute", {"": (number - 1, 0, "*")} if number else {}, [], gives=("*",))
    long.add(9000, "PreviewImage", {"images": (4999, 0, "IMAGE")})
    assert "images" not in graph(long.file()).nodes["9000"].inputs


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({"1": {"class_type": "KSampler", "inputs": []}}, "are not an object"),
        ({"1": {"class_type": "KSampler"}, "2": {"inputs": {}}}, "has no class_type"),
        ({"nodes": [{"id": 1, "type": "A"}, {"id": 1, "type": "B"}]}, "two nodes have the id 1"),
        ({"nodes": [{"type": "A"}]}, "no id or no type"),
        ({"nodes": [{"id": 1, "type": 7}]}, "no id or no type"),
        ({str(n): {"class_type": "A"} for n in range(10_001)}, "at most 10,000"),
        ({"nodes": [{"id": 1, "type": "A"}], "links": [0] * 100_001}, "at most 100,000"),
    ],
)
def test_a_broken_node_is_named(table: Json, message: str) -> None:
    with pytest.raises(BadModelError, match=message):
        graph(table)


KEYS = (
    *("nodes", "links", "inputs", "outputs", "id", "type", "mode", "link", "widget", "name", "widgets_values", "slot"),
    *("properties", "proxyWidgets", "definitions", "subgraphs", "extra", "groupNodes", "external", "class_type", "g"),
)
WORDS = st.sampled_from((*KEYS, "KSampler", "Reroute", "PrimitiveNode", "GetNode", "workflow>g"))
SMALL = st.none() | st.booleans() | st.integers(-20, 12) | st.floats() | WORDS | st.text(max_size=3)
JSON = st.recursive(
    SMALL, lambda inner: st.lists(inner, max_size=6) | st.dictionaries(WORDS, inner, max_size=6), max_leaves=12
)
NODES = st.fixed_dictionaries(
    {
        "id": st.integers(0, 4),
        "type": st.sampled_from(["KSampler", "Reroute", "PrimitiveNode", "GetNode", "s", "workflow>g", "VAEDecode"]),
    },
    optional={"mode": SMALL, "inputs": JSON, "outputs": JSON, "widgets_values": JSON, "properties": JSON},
)
SLOTS = st.lists(
    st.fixed_dictionaries({"name": WORDS, "type": WORDS, "link": st.integers(0, 5)}, optional={"widget": JSON}),
    max_size=3,
)
WIRES = st.lists(st.lists(st.integers(-20, 5), min_size=5, max_size=6), max_size=6)
INSIDES = st.fixed_dictionaries(
    {
        "nodes": st.lists(NODES | NODES.flatmap(lambda n: SLOTS.map(lambda s: n | {"inputs": s})), max_size=4),
        "links": WIRES | JSON,
    }
)


@settings(max_examples=50, deadline=None)
@given(INSIDES, INSIDES, INSIDES, JSON)
def test_any_json_is_a_graph_or_a_bad_file_and_can_be_checked(root: Json, sub: Json, group: Json, more: Any) -> None:
    table = root | {
        "definitions": {"subgraphs": [sub | {"id": "s", "inputs": more}]},
        "extra": {"groupNodes": {"g": group | {"external": more}}},
    }
    for candidate in (table, more, {"1": {"class_type": "KSampler", "inputs": more}}):
        try:
            found = read_table(candidate, "w.json")
        except BadModelError:
            continue
        check_graph(Workspace(Path("/nonexistent"), Config()), found, "w.json")


# The doctor


@pytest.fixture
def comfy(tmp_path: Path) -> Workspace:
    """A workspace beside ComfyUI's folder of models, which has the files of Z-Image, laid out as ComfyUI does it."""
    models = tmp_path / "ComfyUI" / "models"
    model(models / "unet" / "z_image_bf16.safetensors", "zimage-single")
    model(models / "text_encoders" / "qwen_3_4b.safetensors", "qwen3-4b")
    model(models / "vae" / "ae.safetensors", "vae-16-single")
    return Workspace(tmp_path, Config(model_folders=("ComfyUI/models",)))


def check(workspace: Workspace, table: Json) -> list[Finding]:
    return check_graph(workspace, graph(table), "w.json")


def told(findings: list[Finding]) -> list[str]:
    return [finding.code for finding in findings if finding.severity != "info"]


def the(findings: list[Finding], code: str) -> Finding:
    found = [finding for finding in findings if finding.code == code]
    assert len(found) == 1, [(finding.code, finding.message) for finding in findings]
    return found[0]


def test_the_published_settings_of_zimage_give_no_finding(comfy: Workspace) -> None:
    assert check(comfy, api()) == []
    assert check(comfy, drawing()) == []


def test_settings_are_judged_without_the_files_by_their_names(tmp_path: Path) -> None:
    empty = Workspace(tmp_path, Config())
    findings = check(empty, api(draw_steps=8, draw_cfg=1.0, shift_shift=1.73))
    assert told(findings) == ["SOS-R020", "SOS-R021", "SOS-R022"]
    info = the(findings, "SOS-W011")
    assert (
        "3 files were not looked for (z_image_bf16.safetensors, qwen_3_4b.safetensors, ae.safetensors)" in info.message
    )
    turbo = api(unet_unet_name="z_image_turbo_bf16.safetensors", draw_steps=8, draw_cfg=1.0)
    assert told(check(empty, turbo)) == []


def test_steps_and_cfg_are_found_through_primitives_and_custom_samplers(comfy: Workspace) -> None:
    table = api() | {"n": node("PrimitiveInt", value=8)}
    table["draw"]["inputs"]["steps"] = ["n", 0]
    assert told(check(comfy, table)) == ["SOS-R020"]
    table = api()
    table |= {
        "plan": node("BasicScheduler", model=["shift", 0], scheduler="simple", steps=8, denoise=1.0),
        "guide": node("CFGGuider", model=["shift", 0], positive=["yes", 0], negative=["no", 0], cfg=9.0),
        "noise": node("RandomNoise", noise_seed=1),
        "how": node("KSamplerSelect", sampler_name="euler"),
        "draw": node(
            "SamplerCustomAdvanced",
            noise=["noise", 0],
            guider=["guide", 0],
            sampler=["how", 0],
            sigmas=["plan", 0],
            latent_image=["empty", 0],
        ),
    }
    assert told(check(comfy, table)) == ["SOS-R020", "SOS-R021"]


def test_the_default_shift_of_the_node_is_a_warning_also_when_a_file_leaves_it_out(comfy: Workspace) -> None:
    table = drawing()
    table["nodes"][1]["widgets_values"] = []
    assert told(check(comfy, table)) == ["SOS-R022"]


def test_fp16_for_zimage_is_an_error(comfy: Workspace) -> None:
    table = api() | {"half": node("ModelComputeDtype", model=["shift", 0], dtype="fp16")}
    table["draw"]["inputs"]["model"] = ["half", 0]
    assert told(check(comfy, table)) == ["SOS-T040"]


def test_files_are_looked_for_as_comfyui_names_them(comfy: Workspace) -> None:
    deep = comfy.root / "ComfyUI" / "models" / "loras" / "elena" / "v3.safetensors"
    lora(deep)
    table = with_lora("elena\\v3.safetensors")
    assert told(check(comfy, table)) == []
    missing = the(check(comfy, with_lora("v4.safetensors")), "SOS-W010")
    assert "'v4.safetensors' is not in loras/" in missing.message
    for outside in ("../../vae/ae.safetensors", "/etc/passwd", ""):
        assert "SOS-W010" in told(check(comfy, with_lora(outside)))


def with_lora(name: str, strength: float = 1.0) -> Json:
    table = api() | {"lora": node("LoraLoaderModelOnly", model=["unet", 0], lora_name=name, strength_model=strength)}
    table["shift"]["inputs"]["model"] = ["lora", 0]
    return table


def test_a_lora_is_checked_against_the_model_that_it_is_put_on(comfy: Workspace) -> None:
    loras = comfy.root / "ComfyUI" / "models" / "loras"
    lora(loras / "base.safetensors", "Tongyi-MAI/Z-Image")
    lora(loras / "deturbo.safetensors", "ostris/Z-Image-De-Turbo")
    write(
        loras / "flux.safetensors",
        {"transformer.single_transformer_blocks.0.attn.to_q.lora_A.weight": ("F16", [4, 3072])},
    )
    findings = check(comfy, with_lora("base.safetensors"))
    assert told(findings) == []
    assert "240 of 240 tensors match z_image_bf16.safetensors" in the(findings, "SOS-L005").message
    warned = the(check(comfy, with_lora("deturbo.safetensors")), "SOS-L020")
    assert warned.subject == "w.json"
    assert "KSampler draw: deturbo.safetensors: trained on Z-Image De-Turbo" in warned.message
    assert told(check(comfy, with_lora("deturbo.safetensors", 0.0))) == []
    assert "SOS-R014" in told(check(comfy, with_lora("flux.safetensors")))


def test_a_file_in_the_wrong_loader_is_said_once(comfy: Workspace) -> None:
    finding = the(check(comfy, api(unet_unet_name="ae.safetensors")), "SOS-R010")
    assert "UNETLoader unet: 'ae.safetensors' is a vae of family autoencoders" in finding.message
    assert "loads a denoiser or checkpoint" in finding.message


def test_encoder_and_vae_must_fit_the_model(comfy: Workspace) -> None:
    models = comfy.root / "ComfyUI" / "models"
    model(models / "clip" / "clip_l.safetensors", "clip-l")
    model(models / "vae" / "sdxl_vae.safetensors", "vae-4-single")
    assert told(check(comfy, api(clip_clip_name="clip_l.safetensors"))) == ["SOS-R011"]
    assert told(check(comfy, api(vae_vae_name="sdxl_vae.safetensors"))) == ["SOS-R012"]
    assert told(check(comfy, api(vae_vae_name="taesd"))) == []


def with_reference(**more: Any) -> Json:
    table = api() | {"face": node("LoadImage", image="face.png")}
    table["yes"] = node("TextEncodeZImageOmni", clip=["clip", 0], prompt="x", auto_resize_images=True, **more)
    table["yes"]["inputs"]["image1"] = ["face", 0]
    return table


def test_a_face_reference_is_refused_without_siglip_tensors_with_the_true_reason(comfy: Workspace) -> None:
    without = the(check(comfy, with_reference()), "SOS-R030")
    assert without.severity == "error"
    assert "has no siglip_* tensors and was never trained on reference tokens" in without.message
    assert "without a VAE the images are not used at all" in without.message
    assert "LoRA" in without.hint
    assert "hybrid" in without.hint
    beside = the(check(comfy, with_reference(vae=["vae", 0])), "SOS-R030")
    assert "with a VAE they enter as tokens that it never saw" in beside.message
    model(comfy.root / "ComfyUI" / "models" / "diffusion_models" / "z_image_omni.safetensors", "zimage-omni")
    omni = with_reference()
    omni["unet"]["inputs"]["unet_name"] = "z_image_omni.safetensors"
    assert "SOS-R030" not in told(check(comfy, omni))
    unused = with_reference()
    del unused["yes"]["inputs"]["image1"]
    assert told(check(comfy, unused)) == []


def test_a_face_reference_on_a_file_that_is_not_there_is_judged_by_a_published_name_only(tmp_path: Path) -> None:
    here = Workspace(tmp_path, Config())
    published = the(check(here, with_reference()), "SOS-R030")
    assert published.severity == "error"
    assert "(by its name; it is not here to be read)" in published.message
    own = with_reference()
    own["unet"]["inputs"]["unet_name"] = "my_mix.safetensors"
    assert "SOS-R030" not in {found.code for found in check(here, own) if found.severity == "error"}


FACE_ID = {"weight_type": "linear", "combine_embeds": "concat", "embeds_scaling": "V only"}


def faceid(weight: float, faces: str = "buffalo_l") -> Json:
    return {
        "ip": node("IPAdapterModelLoader", ipadapter_file="ip-adapter-faceid-plusv2_sdxl.bin"),
        "faces": node("IPAdapterInsightFaceLoader", provider="CPU", model_name=faces),
        "face": node("LoadImage", image="face.png"),
        "id": node(
            "IPAdapterFaceID",
            model=["unet", 0],
            ipadapter=["ip", 0],
            image=["face", 0],
            insightface=["faces", 0],
            weight=weight,
            weight_faceidv2=1.0,
            start_at=0.0,
            end_at=1.0,
            **FACE_ID,
        ),
    }


def test_an_ip_adapter_on_zimage_is_refused(comfy: Workspace) -> None:
    table = api() | faceid(0.85)
    table["shift"]["inputs"]["model"] = ["id", 0]
    finding = the(check(comfy, table), "SOS-R031")
    assert finding.severity == "error"
    assert "nobody is known to have trained a face adapter for Z-Image (November 2026)" in finding.message
    table["id"]["inputs"]["weight"] = 0.0
    assert "SOS-R031" not in told(check(comfy, table))


@pytest.fixture
def portrait(comfy: Workspace) -> Json:
    """SDXL with FaceID and InstantID on one sampler, and all its files."""
    models = comfy.root / "ComfyUI" / "models"
    model(models / "checkpoints" / "sdxl.safetensors", "sdxl-checkpoint")
    write(models / "ipadapter" / "ip-adapter-faceid-plusv2_sdxl.bin", FACEID_PLUS)
    model(models / "clip_vision" / "clip_h.safetensors", "clip-h-vision")
    write(models / "instantid" / "ip-adapter.bin", INSTANTID)
    model(models / "controlnet" / "instantid.safetensors", "sdxl-controlnet")
    pack = models / "insightface" / "models" / "antelopev2"
    pack.mkdir(parents=True)
    (pack / "glintr100.onnx").write_bytes(b"x")
    guided = faceid(0.85)
    guided["id"]["inputs"]["clip_vision"] = ["sees", 0]
    return guided | {
        "unet": node("CheckpointLoaderSimple", ckpt_name="sdxl.safetensors"),
        "sees": node("CLIPVisionLoader", clip_name="clip_h.safetensors"),
        "yes": node("CLIPTextEncode", text="a woman", clip=["unet", 1]),
        "no": node("CLIPTextEncode", text="", clip=["unet", 1]),
        "iid": node("InstantIDModelLoader", instantid_file="ip-adapter.bin"),
        "look": node("InstantIDFaceAnalysis", provider="CPU"),
        "net": node("ControlNetLoader", control_net_name="instantid.safetensors"),
        "apply": node(
            "ApplyInstantID",
            instantid=["iid", 0],
            insightface=["look", 0],
            control_net=["net", 0],
            image=["face", 0],
            model=["id", 0],
            positive=["yes", 0],
            negative=["no", 0],
            weight=0.8,
            start_at=0.0,
            end_at=1.0,
        ),
        "empty": node("EmptyLatentImage", width=1024, height=1024, batch_size=1),
        "draw": node(
            "KSampler",
            model=["apply", 0],
            positive=["apply", 1],
            negative=["apply", 2],
            latent_image=["empty", 0],
            seed=1,
            steps=30,
            cfg=4.0,
            sampler_name="dpmpp_2m_sde",
            scheduler="karras",
            denoise=1.0,
        ),
        "decode": node("VAEDecode", samples=["draw", 0], vae=["unet", 2]),
        "save": node("SaveImage", images=["decode", 0], filename_prefix="x"),
    }


def test_two_identity_guides_on_one_sampler_are_a_warning(comfy: Workspace, portrait: Json) -> None:
    findings = check(comfy, portrait)
    assert told(findings) == ["SOS-R032"]
    assert "KSampler draw: instantid 0.8 and faceid 0.85 act at once" in the(findings, "SOS-R032").message
    needs = the(findings, "SOS-W007").message
    assert "InstantID (3 nodes: https://github.com/cubiq/ComfyUI_InstantID)" in needs
    assert "IPAdapter plus (3 nodes" in needs
    portrait["id"]["inputs"]["weight"] = 0.4
    assert told(check(comfy, portrait)) == []


def test_a_guide_of_a_graph_is_known_with_its_files_and_its_face_encoder(comfy: Workspace, portrait: Json) -> None:
    portrait["id"]["inputs"]["weight"] = 0.4
    wrong = copy.deepcopy(portrait)
    wrong["faces"]["inputs"]["model_name"] = "antelopev2"
    assert told(check(comfy, wrong)) == ["SOS-R033"]
    model(comfy.root / "ComfyUI" / "models" / "controlnet" / "sd1.safetensors", "sd1-controlnet")
    portrait["net"]["inputs"]["control_net_name"] = "sd1.safetensors"
    finding = the(check(comfy, portrait), "SOS-R010")
    assert "of family sd1" in finding.message
    assert "expected controlnet of family sdxl" in finding.message


def test_instantids_face_pack_must_lie_where_its_node_looks(comfy: Workspace, portrait: Json) -> None:
    portrait["id"]["inputs"]["weight"] = 0.4
    pack = comfy.root / "ComfyUI" / "models" / "insightface" / "models" / "antelopev2"
    (pack / "antelopev2").mkdir()
    (pack / "glintr100.onnx").rename(pack / "antelopev2" / "glintr100.onnx")
    absent, nested = (one for one in check(comfy, portrait) if one.code == "SOS-W012")
    assert (nested.severity, absent.severity) == ("error", "info")
    assert "no insightface/models/buffalo_l/*.onnx" in absent.message
    (pack.parent / "buffalo_l").mkdir()
    (pack.parent / "buffalo_l" / "w600k_r50.onnx").touch()
    assert "one folder too deep" in nested.message
    (pack / "antelopev2" / "glintr100.onnx").unlink()
    assert the(check(comfy, portrait), "SOS-W012").severity == "warning"


def test_a_name_that_no_file_can_have_is_a_file_that_is_not_there(comfy: Workspace) -> None:
    for name in ("x" * 5000, "a\0b", "\udc80"):
        findings = check(comfy, api(vae_vae_name=name + ".safetensors"))
        assert told(findings) == ["SOS-W010"]


def test_what_comfyui_would_refuse_is_found_without_a_server(comfy: Workspace) -> None:
    assert told(check(comfy, api(draw_steps=0))) == ["SOS-W005", "SOS-R020"]
    assert told(check(comfy, api(draw_denoise="much"))) == ["SOS-W005"]
    findings = check(comfy, api(unet_weight_dtype="int4"))
    newer = the(findings, "SOS-W005")
    assert (told(findings), newer.severity) == ([], "info")
    assert "'weight_dtype' is 'int4', which the version known here has not" in newer.message
    assert told(check(comfy, api(decode_samples=None))) == ["SOS-W005"]
    crossed = the(check(comfy, api(decode_vae=["clip", 0])), "SOS-W004")
    assert "'vae' takes VAE, and CLIPLoader clip gives CLIP" in crossed.message
    assert "not there" in the(check(comfy, api(decode_vae=["nobody", 0])), "SOS-W004").message
    assert "which has 1" in the(check(comfy, api(decode_vae=["vae", 3])), "SOS-W004").message
    table = api()
    del table["draw"]["inputs"]["latent_image"]
    assert "'latent_image' (LATENT) is missing" in the(check(comfy, table), "SOS-W003").message
    table = api()
    del table["save"]
    assert told(check(comfy, table)) == ["SOS-W006"]


def test_a_node_that_would_not_run_is_not_judged(comfy: Workspace) -> None:
    assert check(comfy, api() | {"spare": node("VAEDecode"), "odd": node("EmptyLatentImage", width=-5)}) == []


def test_unknown_classes_are_listed_and_stop_nothing(comfy: Workspace) -> None:
    table = api() | {"odd": node("KSamplr", model=["shift", 0]), "own": node("MyThing\x1b[31m", image=["decode", 0])}
    info = the(check(comfy, table), "SOS-W002")
    assert info.severity == "info"
    assert info.message.startswith("2 classes of nodes are not known here")
    assert "\x1b" not in info.message
    assert info.hint == "did you mean 'KSampler'?"


def test_the_doctor_takes_a_workflow_by_its_path(sosie: Sosie, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "w.json").write_text(json.dumps(api(draw_steps=8)))
    result = sosie("doctor", "w.json", "--json", "--workspace", tmp_path)
    line = json.loads(result.out)
    assert (result.code, line["kind"], line["subject"]) == (1, "workflow", "w.json")
    assert [finding["code"] for finding in line["findings"]] == ["SOS-W011", "SOS-R020"]
    (tmp_path / "x.json").write_text('{"a": 1}')
    broken = json.loads(sosie("doctor", "x.json", "--json", "--workspace", tmp_path).out)
    assert [finding["code"] for finding in broken["findings"]] == ["SOS-W001"]
    assert check_workflow(Workspace(tmp_path, Config()), tmp_path / "none.json")[0].code == "SOS-W001"


def test_the_schema_names_only_types_that_it_knows() -> None:
    links = {kind for entry in node_types().values() for kind in entry.outputs}
    for entry in node_types().values():
        for need in entry.inputs:
            optional = not need.required or need.type in WIDGETS
            carried = set(need.type.split(","))
            assert optional or carried & links or carried & {"*", "IPADAPTER_PIPE", "FLOATS"}, (entry.name, need)
