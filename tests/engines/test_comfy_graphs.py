"""Recipes as ComfyUI graphs: node by node, in as few graphs as can be, and what Sosie does in between."""

from __future__ import annotations

import io
import json
import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageFilter
from places import ROOT
from recipe_graphs import (
    EVERYWHERE,
    MIRA,
    RUNS,
    SDXL,
    Faces,
    compiler,
    drafts,
    made,
    nodes,
    only,
    planned,
    shipped,
    workspace,
)

from sosie.api.comfy_graphs import MARGIN, PORTRAIT, GraphRequest, Portraits, show_graph
from sosie.core import Finding, Stage
from sosie.core.character import CharacterLora
from sosie.core.notation import parse
from sosie.core.recipe import Guide, Keypoints, LoraUse, Sampler, Upscale
from sosie.doctor.workflows import check_graph
from sosie.engines.comfy.compile import GraphCompiler, GraphSupplies, check_plan, parts_of
from sosie.engines.comfy.program import CompiledGraph, Upload
from sosie.faces.crop import face_crop
from sosie.faces.detect import Detector, Face
from sosie.faces.keypoints import draw_keypoints
from sosie.families.contract.draws import StageOutput
from sosie.families.contract.graphs import GraphChoices
from sosie.families.esrgan.on_comfy import passes, scale_of
from sosie.families.sdxl.on_comfy import comfy_text
from sosie.graph import Graph, node_types
from sosie.graph.build import Builder, GraphPicture, wanted
from sosie.graph.read import read_table
from sosie.graph.sampling import drawing
from sosie.graph.to_api import to_api
from sosie.graph.to_ui import to_ui
from sosie.workspace.recipes import list_recipes

pytestmark = pytest.mark.once

Sosie = Callable[..., Any]

EXAMPLES = ROOT / "examples" / "mira"


INSTANTID = Guide(
    "instantid", "iid:ip-adapter.safetensors", "glintr100", 0.85, keypoints=Keypoints("iid:net.safetensors")
)


# --- every shipped recipe ---


@pytest.mark.parametrize("choices", EVERYWHERE)
@pytest.mark.parametrize("name", RUNS)
def test_a_shipped_recipe_compiles_to_graphs_in_which_the_doctor_finds_no_error(
    name: str, choices: GraphChoices, tmp_path: Path
) -> None:
    if name == "zimage-klein" and choices.faces == "server":
        (said,) = compiler(choices)(planned(shipped(name))).findings
        assert said.message == "FLUX.2 draws no faces by ComfyUI's FaceDetailer; expected no --face-detailer"
        return
    for graph in drafts(planned(shipped(name)), choices):
        found = check_graph(workspace(tmp_path), read_table(json.loads(json.dumps(graph)), name), name)
        assert {finding.severity for finding in found} <= {"info"}, found
        assert {finding.code for finding in found} <= {"SOS-W007", "SOS-W011"}


def test_every_shipped_recipe_is_compiled_or_refused() -> None:
    refused = ("mini", "mini-full", "mini-hybrid", "mini-z")
    assert sorted(list_recipes(workspace(Path("nowhere")))) == sorted((*RUNS, *refused))


@pytest.mark.parametrize("name", ["mini", "mini-full"])
def test_the_embedded_model_is_refused_because_the_nodes_measure_faces_with_an_encoder_of_their_own(name: str) -> None:
    program = compiler()(planned(shipped(name)))
    assert program.steps == ()
    assert {(finding.code, finding.severity) for finding in program.findings} == {("SOS-E013", "error")}
    assert any("w600k_r50 of buffalo_l, and takes no other" in finding.message for finding in program.findings)


def test_zimage_is_what_the_official_template_is() -> None:
    (graph,) = drafts(planned(shipped("zimage")))
    assert only(graph, "UNETLoader") == {"unet_name": "z_image_bf16.safetensors", "weight_dtype": "default"}
    assert only(graph, "CLIPLoader") == {"clip_name": "qwen_3_4b.safetensors", "type": "lumina2"}
    assert only(graph, "VAELoader") == {"vae_name": "ae.safetensors"}
    assert only(graph, "ModelSamplingAuraFlow")["shift"] == 3.0
    assert only(graph, "EmptySD3LatentImage") == {"width": 1024, "height": 1024, "batch_size": 1}
    texts = [entry["text"] for entry in nodes(graph, "CLIPTextEncode")]
    assert texts == ["photo of a woman, braided hair, in the rain", ""]
    drawn = only(graph, "KSampler")
    assert {key: drawn[key] for key in ("sampler_name", "scheduler", "steps", "cfg", "denoise")} == {
        "sampler_name": "res_multistep",
        "scheduler": "simple",
        "steps": 25,
        "cfg": 4.0,
        "denoise": 1.0,
    }
    assert drawn["seed"] == planned(shipped("zimage")).seed
    wired = [graph[drawn[name][0]]["class_type"] for name in ("model", "positive", "negative", "latent_image")]
    assert wired == ["ModelSamplingAuraFlow", "CLIPTextEncode", "CLIPTextEncode", "EmptySD3LatentImage"]
    assert len(graph) == 10


def test_zimage_turbo_takes_eight_steps_and_zeroes_the_negative() -> None:
    (graph,) = drafts(planned(shipped("zimage-turbo")))
    drawn = only(graph, "KSampler")
    assert (drawn["steps"], drawn["cfg"]) == (8, 1.0)
    assert graph[drawn["negative"][0]]["class_type"] == "ConditioningZeroOut"
    assert graph[drawn["negative"][0]]["inputs"]["conditioning"] == drawn["positive"]
    assert only(graph, "UNETLoader")["unet_name"] == "z_image_turbo_bf16.safetensors"


def test_zimage_is_shown_references_by_the_node_of_omni_as_many_as_it_takes() -> None:
    recipe = shipped("zimage")
    guide = Guide("reference", image_encoder="siglip2", references=5)
    stage = replace(recipe.stages[0], guides=(guide,))
    (graph,) = drafts(planned(replace(recipe, stages=(stage,))))
    shown = only(graph, "TextEncodeZImageOmni")
    assert shown["prompt"] == "photo of a woman, braided hair, in the rain"
    assert graph[shown["vae"][0]]["class_type"] == "VAELoader"
    assert only(graph, "CLIPVisionLoader") == {"clip_name": "siglip2.safetensors"}
    pictures = [graph[shown[slot][0]]["inputs"]["image"] for slot in ("image1", "image2", "image3")]
    assert pictures == [f"sosie-reference-{number}.png" for number in (1, 2, 3)]
    drawn = only(graph, "KSampler")
    assert graph[drawn["positive"][0]]["class_type"] == "TextEncodeZImageOmni"
    assert graph[drawn["negative"][0]]["class_type"] == "CLIPTextEncode"


def test_a_pose_is_a_patch_on_zimages_model_and_its_picture_is_uploaded(tmp_path: Path) -> None:
    recipe = shipped("zimage-turbo")
    guide = Guide("control", "Z-Image-Turbo-Fun-Controlnet-Union", scale=0.7, picture="my pose")
    of = planned(replace(recipe, stages=(replace(recipe.stages[0], guides=(guide,)),)))
    (graph,) = drafts(of)
    patch = only(graph, "QwenImageDiffsynthControlnet")
    assert (patch["strength"], graph[patch["model"][0]]["class_type"]) == (0.7, "ModelSamplingAuraFlow")
    assert graph[only(graph, "KSampler")["model"][0]]["class_type"] == "QwenImageDiffsynthControlnet"
    assert only(graph, "ModelPatchLoader") == {"name": "Z-Image-Turbo-Fun-Controlnet-Union.safetensors"}
    assert "my pose" not in json.dumps(graph)
    Image.new("RGB", (30, 40), (255, 0, 0)).save(tmp_path / "pose.png")
    (step,) = compiler(paths={"my pose": tmp_path / "pose.png"})(of).steps
    assert step.compile is not None
    compiled = step.compile(None)
    assert isinstance(compiled, CompiledGraph)
    (upload,) = compiled.uploads
    assert opened(upload).size == (1024, 1024)


def test_sdxl_instantid_is_three_graphs_faceid_then_the_face_then_the_upscale() -> None:
    body, face, large = drafts(planned(shipped("sdxl-instantid")))
    adapter = only(body, "IPAdapterFaceID")
    assert (adapter["weight"], adapter["combine_embeds"], adapter["embeds_scaling"]) == (0.85, "average", "V only")
    assert only(body, "IPAdapterInsightFaceLoader")["model_name"] == "buffalo_l"
    assert body[adapter["model"][0]]["inputs"]["strength_model"] == 0.65
    assert only(body, "EmptyLatentImage") == {"width": 1024, "height": 1536, "batch_size": 1}
    assert len(nodes(body, "LoadImage")) == 4
    assert len(nodes(body, "ImageBatch")) == 3

    guided = only(face, "ApplyInstantIDAdvanced")
    assert (guided["ip_weight"], guided["cn_strength"], guided["noise"]) == (0.85, 0.8, 0.0)
    assert face[guided["image_kps"][0]]["inputs"]["image"] == GraphPicture("key points").file
    drawn = only(face, "KSampler")
    assert face[drawn["model"][0]]["class_type"] == "DifferentialDiffusion"
    assert face[drawn["latent_image"][0]]["class_type"] == "SetLatentNoiseMask"
    assert (drawn["steps"], drawn["denoise"]) == (15, 0.5)
    assert drawn["positive"] == [guided_id(face), 1]
    assert drawn["negative"] == [guided_id(face), 2]

    scaled = only(large, "ImageScale")
    assert (scaled["width"], scaled["height"]) == (4096, 6144)
    assert len(nodes(large, "ImageUpscaleWithModel")) == 1


def guided_id(graph: Mapping[str, Any]) -> str:
    return next(name for name, entry in graph.items() if entry["class_type"] == "ApplyInstantIDAdvanced")


def test_hybrid_draws_by_zimage_and_the_face_by_sdxl() -> None:
    body, face = drafts(planned(shipped("hybrid")))
    assert nodes(body, "UNETLoader")
    assert not nodes(body, "CheckpointLoaderSimple")
    assert nodes(face, "CheckpointLoaderSimple")
    assert not nodes(face, "UNETLoader")
    assert nodes(face, "CLIPTextEncode")[0]["text"] == "close-up photo of a woman, braided hair"


def test_the_oldest_comfyui_is_that_of_the_family_that_needs_the_newest() -> None:
    assert compiler()(planned(shipped("hybrid"))).version == "0.3.76"
    assert compiler()(planned(shipped("sdxl-instantid"))).version == ""


def test_face_detailer_makes_one_graph_that_is_guided_by_the_face_alone() -> None:
    (graph,) = drafts(planned(shipped("hybrid")), GraphChoices(faces="server"))
    detailed = only(graph, "FaceDetailer")
    assert (detailed["guide_size"], detailed["bbox_crop_factor"], detailed["denoise"]) == (1024.0, 2.0, 0.5)
    assert graph[detailed["model"][0]]["class_type"] == "InstantIDAttentionPatch"
    assert not nodes(graph, "ApplyInstantIDAdvanced")
    assert not nodes(graph, "LoadImageMask")


def test_a_graph_holds_no_name_of_the_character_and_no_path(tmp_path: Path) -> None:
    who = replace(MIRA, description="someone", loras=(CharacterLora("loras/m.safetensors", "zimage", "0" * 64),))
    (graph,) = drafts(planned(shipped("zimage"), who), called={"z_image_bf16": "mine.safetensors"})
    assert only(graph, "LoraLoaderModelOnly")["lora_name"] == "m.safetensors"
    assert only(graph, "UNETLoader")["unet_name"] == "mine.safetensors"
    assert only(graph, "SaveImage")["filename_prefix"] == "sosie"
    assert "mira" not in json.dumps(graph)


# --- stages, parts and files ---


def test_stages_that_need_nothing_of_sosie_are_one_graph() -> None:
    stages = (SDXL, replace(SDXL, kind="refine"), Stage("upscale", "esrgan", "4x-UltraSharp", upscale=Upscale(2.0)))
    (graph,) = drafts(made(*stages))
    assert len(nodes(graph, "CheckpointLoaderSimple")) == 1
    assert len(nodes(graph, "SaveImage")) == 1
    assert not nodes(graph, "LoadImage")
    assert [entry["denoise"] for entry in nodes(graph, "KSampler")] == [1.0, 1.0]


def test_a_refined_image_whose_sides_no_vae_takes_is_cut_here_and_put_back() -> None:
    up = Stage("upscale", "esrgan", "4x-UltraSharp", upscale=Upscale(1.01))
    of = made(SDXL, up, replace(SDXL, kind="refine"))
    assert [part.stages for part in parts_of(of, GraphChoices())] == [(0, 1), (2,)]
    image = Image.new("RGB", (1034, 1034), "red")
    compiled = compiler()(of).steps[1].compile(image)
    (upload,) = compiled.uploads
    assert opened(upload).size == (1032, 1032)
    whole = compiled.finish(Image.new("RGB", (1032, 1032), "blue")).image
    assert whole.size == (1034, 1034)
    assert (whole.getpixel((5, 5)), whole.getpixel((1033, 1033))) == ((0, 0, 255), (255, 0, 0))


def test_ids_of_a_plans_graphs_never_meet() -> None:
    graphs = drafts(planned(shipped("sdxl-instantid")))
    assert len({name for graph in graphs for name in graph}) == sum(map(len, graphs))


def test_files_are_known_by_role_and_by_their_other_names() -> None:
    files = {use.role: use for use in compiler()(planned(shipped("zimage"))).steps[0].draft.files}
    assert files["text encoder"].names == ("qwen_3_4b.safetensors", "qwen_3_4b_bf16.safetensors")
    assert files["denoiser"].names == ("z_image_bf16.safetensors",)
    assert files["VAE"].stamp == "sha-ae"
    other = replace(shipped("zimage").stages[0], text_encoder="qwen_3_4b_bf16.safetensors")
    files = {use.role: use for use in compiler()(made(other)).steps[0].draft.files}
    assert files["text encoder"].names == ("qwen_3_4b_bf16.safetensors", "qwen_3_4b.safetensors")


def test_a_name_from_the_workspace_comes_before_the_recipes() -> None:
    file = wanted("instantid:ip-adapter.safetensors", "InstantID", "instantid", same=("ip-adapter.bin",))
    assert file.names == ("ip-adapter.safetensors", "ip-adapter.bin")
    build = Builder(called={file.asset: "iid.bin"})
    build.add("InstantIDModelLoader", instantid_file=file)
    ((_, used),) = build.built().files.items()
    assert used.names == ("iid.bin", "ip-adapter.safetensors", "ip-adapter.bin")


def test_what_no_server_can_load_is_refused_with_the_reason() -> None:
    unfit = {"sdxl": "it is a folder"}
    (finding,) = check_plan(made(SDXL), unfit, GraphChoices())
    assert (finding.code, finding.severity) == ("SOS-E017", "error")
    assert finding.message == "'sdxl' cannot be loaded by ComfyUI: it is a folder"


@pytest.mark.parametrize(
    ("stage", "code", "said"),
    [
        (replace(SDXL, sampler=Sampler("dpmpp_9m")), "SOS-E002", "did you mean 'dpmpp_"),
        (replace(SDXL, sampler=Sampler(shift=3.0)), "SOS-E002", "no timestep shift"),
        (replace(SDXL, guides=(INSTANTID,)), "SOS-E006", "no face yet"),
        (replace(SDXL, kind="detail", guides=(replace(INSTANTID, encoder="w600k_r50"),)), "SOS-E013", "antelopev2"),
        (replace(SDXL, kind="detail", guides=(replace(INSTANTID, keypoints=None),)), "SOS-E008", "ControlNet"),
        (replace(SDXL, kind="upscale"), "SOS-E001", "SDXL has no stage"),
        (replace(SDXL, family="zimage"), "SOS-E010", "names no text_encoder"),
        (replace(SDXL, text_encoder="qwen"), "SOS-E011", "expected no text_encoder"),
        (replace(SDXL, family="zimage", guides=(INSTANTID,)), "SOS-E012", "has no node for Z-Image"),
        (replace(SDXL, sampler=Sampler(cfg_end=0.6)), "SOS-E033", "ComfyUI's samplers cannot switch guidance off"),
        (replace(SDXL, guides=(replace(INSTANTID, end=0.6),)), "SOS-E032", "expected start = 0 and end = 1"),
        (replace(SDXL, guides=(replace(INSTANTID, picture="pose"),)), "SOS-E032", "is given no picture"),
        (replace(SDXL, family="zimage", precision="fp16"), "SOS-E014", "fp16 overflows in Z-Image"),
        (replace(SDXL, family="zimage", precision="fp8"), "SOS-E014", "ComfyUI, but for files that are in fp8"),
        (replace(SDXL, precision="fp8"), "SOS-E014", "SDXL does not compute in fp8"),
        (replace(SDXL, family="flux1"), "SOS-E019", "draws no graphs for FLUX.1"),
        (replace(SDXL, kind="upscale", family="esrgan", upscale=Upscale(64.0)), "SOS-E063", "ComfyUI makes at most"),
        (replace(SDXL, family="esrgan"), "SOS-E001", "an upscaler has no stage"),
    ],
)
def test_what_comfyui_cannot_do_is_an_error_before_a_run(stage: Stage, code: str, said: str) -> None:
    findings = check_plan(made(stage), {}, GraphChoices())
    assert any(finding.code == code and said in finding.message for finding in findings), findings
    assert compiler()(made(stage)).steps == ()


def test_a_large_image_is_redrawn_in_tiles_where_that_is_asked_for() -> None:
    of = made(SDXL, Stage("upscale", "esrgan", "4x-UltraSharp"), replace(SDXL, kind="refine"))
    (graph,) = drafts(of, GraphChoices(tiles=True))
    assert only(graph, "UltimateSDUpscaleNoUpscale")["tile_width"] == 1024
    (graph,) = drafts(of, GraphChoices())
    assert not nodes(graph, "UltimateSDUpscaleNoUpscale")


def test_the_smaller_mode_decodes_in_tiles_and_keeps_the_rest() -> None:
    steps = compiler()(planned(shipped("hybrid"))).steps
    smaller = compiler()(planned(shipped("hybrid")), smaller=True).steps
    assert len(steps) == len(smaller)
    assert nodes(smaller[0].draft.graph, "VAEDecodeTiled")
    assert len(smaller[0].draft.graph) == len(steps[0].draft.graph)


# --- prompts, samplers, sizes ---


@pytest.mark.parametrize(
    ("prompt", "text"),
    [
        ("a (red:1.2) door", "a (red:1.2) door"),
        ("[soft] light", "(soft:0.9091) light"),
        ("((very)) tall", "(very:1.21) tall"),
        (r"a smile \(half\)", r"a smile \(half\)"),
        ("an open ( bracket", r"an open \( bracket"),
    ],
)
def test_a_prompts_weights_are_written_as_comfyui_reads_them(prompt: str, text: str) -> None:
    (section,) = parse(prompt)
    assert comfy_text(section) == text


def test_zimage_is_given_the_words_alone_and_what_it_does_not_weigh_is_said() -> None:
    weighed = replace(planned(shipped("zimage")), prompt=r"a (red:1.2) coat, (24), mira_\(oc\)")
    program = compiler()(weighed)
    graph = program.steps[0].draft.graph
    assert nodes(graph, "CLIPTextEncode")[0]["text"] == "a red coat, (24), mira_(oc)"
    assert [finding.code for finding in program.findings] == ["SOS-E016"]


def test_a_weight_out_of_range_is_refused_before_a_graph_is_sent() -> None:
    found = compiler()(replace(planned(shipped("sdxl-instantid")), prompt="(at 10:30)")).findings
    assert [finding.code for finding in found] == ["SOS-E009"]
    assert "prompt" in found[0].hint


def test_break_becomes_texts_that_are_joined() -> None:
    (graph,) = drafts(made(replace(SDXL, prompt="a tree BREAK a lake")))
    joined = only(graph, "ConditioningConcat")
    texts = [graph[joined[name][0]]["inputs"]["text"] for name in ("conditioning_to", "conditioning_from")]
    assert texts == ["a tree", "a lake"]


def test_without_a_negative_prompt_sdxl_gets_zeros_as_it_was_trained() -> None:
    (graph,) = drafts(made(SDXL))
    assert graph[only(graph, "KSampler")["negative"][0]]["class_type"] == "ConditioningZeroOut"


def test_clip_skip_counts_from_sdxls_own_layer() -> None:
    (graph,) = drafts(made(replace(SDXL, clip_skip=1)))
    assert only(graph, "CLIPSetLastLayer")["stop_at_clip_layer"] == -3


def test_loras_stand_in_a_chain_on_model_and_encoder() -> None:
    (graph,) = drafts(made(replace(SDXL, loras=(LoraUse("one"), LoraUse("two.safetensors", 0.5)))))
    one, two = nodes(graph, "LoraLoader")
    assert (one["lora_name"], two["lora_name"]) == ("one.safetensors", "two.safetensors")
    assert (two["strength_model"], two["strength_clip"]) == (0.5, 0.5)
    assert graph[two["model"][0]]["inputs"] == one
    assert two["clip"][1] == 1


def test_samplers_that_comfyui_calls_otherwise_are_translated() -> None:
    assert drawing(Sampler("euler_a", "model"), 1, "normal")["sampler_name"] == "euler_ancestral"
    assert drawing(Sampler("uni_pc", "model"), 1, "normal")["sampler_name"] == "uni_pc_bh2"
    assert drawing(Sampler("dpmpp_2m", "model"), 1, "normal")["scheduler"] == "normal"
    assert drawing(Sampler("dpmpp_2m", "karras"), 1, "normal")["scheduler"] == "karras"


@given(st.integers(1, 500), st.floats(0.01, 1))
def test_comfyui_runs_the_last_steps_of_the_same_schedule_as_diffusers(steps: int, denoise: float) -> None:
    told = drawing(Sampler(steps=steps, denoise=denoise), 1, "normal", over=True)
    assert told["steps"] == max(1, int(steps * denoise))
    assert 0 < told["denoise"] <= 1
    # What ComfyUI computes of them (comfy/samplers.py: set_steps).
    assert math.floor(told["steps"] / told["denoise"]) == steps


@pytest.mark.parametrize(
    ("name", "scale"), [("4x-UltraSharp.pth", 4), ("RealESRGAN_x2plus.pth", 2), ("8x_NMKD.pth", 8), ("my_model.pth", 4)]
)
def test_an_upscalers_name_tells_its_scale(name: str, scale: int) -> None:
    assert scale_of(name) == scale


def test_factors_above_the_networks_own_take_several_passes() -> None:
    assert passes((512, 768), (2048, 3072), 4) == ((512, 768),)
    assert passes((512, 768), (3072, 4608), 4) == ((512, 768), (768, 1152))
    (graph,) = drafts(made(SDXL, Stage("upscale", "esrgan", "4x", upscale=Upscale(6.0))))
    assert [(e["width"], e["height"]) for e in nodes(graph, "ImageScale")] == [(1536, 1536), (6144, 6144)]


# --- what Sosie does around a graph ---


def opened(upload: Upload) -> Image.Image:
    return Image.open(io.BytesIO(upload.data))


@pytest.fixture(scope="module")
def portrait() -> tuple[Image.Image, Face]:
    image = Image.open(sorted(EXAMPLES.glob("*.jpg"))[0]).convert("RGB")
    return image, Detector().detect(np.asarray(image))[0]


def test_a_face_pass_uploads_square_mask_points_and_references_and_composites_here(
    portrait: tuple[Image.Image, Face],
) -> None:
    image, face = portrait
    pictures = [Image.new("RGB", (PORTRAIT, PORTRAIT), colour) for colour in ("red", "green", "blue")]
    supplies = GraphSupplies(Faces(face), lambda _: pictures)
    step = GraphCompiler(supplies)(planned(shipped("hybrid"))).steps[1]
    assert {upload.data for upload in step.draft.uploads} == {b""}
    compiled = step.compile(image)
    assert isinstance(compiled, CompiledGraph)
    by_file = {compiled.graph[upload.node]["inputs"][upload.input]: upload for upload in compiled.uploads}
    square, mask, points = (opened(by_file[GraphPicture(what).file]) for what in ("source", "mask", "key points"))
    assert square.size == mask.size == points.size == (1024, 1024)
    assert mask.getextrema() == (0, 255)
    assert (255, 0, 0) in {colour for _, colour in points.getcolors(10**6)}
    assert sorted(name for name in by_file if "reference" in name) == [
        GraphPicture(f"reference {n}").file for n in (1, 2, 3)
    ]
    output = compiled.finish(square.convert("RGB").filter(ImageFilter.GaussianBlur(4)))
    assert output.findings == ()
    crop = face_crop(np.asarray(image), face, 1024, 2.0)
    near = mask.filter(ImageFilter.MaxFilter(9)).resize((crop.side, crop.side), Image.Resampling.NEAREST)
    may_change = np.zeros((image.height, image.width), bool)
    may_change[crop.y : crop.y + crop.side, crop.x : crop.x + crop.side] = np.asarray(near) > 0
    changed = np.any(np.asarray(output.image) != np.asarray(image), axis=2)
    assert changed.sum() > 1000
    assert not (changed & ~may_change).any()


def test_zimage_draws_a_face_anew_in_its_square_and_nothing_beside_it_changes(
    portrait: tuple[Image.Image, Face],
) -> None:
    image, face = portrait
    recipe = shipped("zimage")
    sampler = replace(recipe.stages[0].sampler, denoise=0.5)
    detail = replace(recipe.stages[0], kind="detail", sampler=sampler, loras=())
    of = planned(replace(recipe, stages=(recipe.stages[0], detail)))
    _, step = GraphCompiler(GraphSupplies(Faces(face), lambda _: ()))(of).steps
    compiled = step.compile(image)
    assert isinstance(compiled, CompiledGraph)
    drawn = only(compiled.graph, "KSampler")
    assert compiled.graph[drawn["model"][0]]["class_type"] == "DifferentialDiffusion"
    assert compiled.graph[drawn["latent_image"][0]]["class_type"] == "SetLatentNoiseMask"
    assert drawn["denoise"] == 0.48  # 12 of 25 steps, as diffusers counts them
    by_file = {compiled.graph[upload.node]["inputs"][upload.input]: upload for upload in compiled.uploads}
    square, mask = (opened(by_file[GraphPicture(what).file]) for what in ("source", "mask"))
    assert square.size == mask.size == (1024, 1024)
    output = compiled.finish(square.convert("RGB").filter(ImageFilter.GaussianBlur(4)))
    changed = np.any(np.asarray(output.image) != np.asarray(image), axis=2)
    assert 1000 < changed.sum() < changed.size / 2
    (found,) = check_plan(of, {}, GraphChoices(faces="server"))
    assert (found.code, "no --face-detailer" in found.message) == ("SOS-E001", True)


def test_the_key_points_are_no_face_to_a_detector(portrait: tuple[Image.Image, Face]) -> None:
    """ApplyInstantIDAdvanced takes the picture as it is only where it finds no face in it."""
    image, face = portrait
    crop = face_crop(np.asarray(image), face, 1024, 2.0)
    assert Detector().detect(draw_keypoints(crop.face(face).points, (1024, 1024))) == ()


def test_a_face_that_is_left_alone_needs_no_graph(portrait: tuple[Image.Image, Face]) -> None:
    finding = Finding("SOS-E020", "warning", "mira", "no face")
    step = GraphCompiler(GraphSupplies(Faces(finding), lambda _: ()))(planned(shipped("hybrid"))).steps[1]
    output = step.compile(portrait[0])
    assert isinstance(output, StageOutput)
    assert output.findings == (finding,)
    assert output.image is portrait[0]


def test_references_are_squares_of_one_size_the_most_frontal_first(references: list[Path]) -> None:
    session: Any = SimpleNamespace(reference_paths=lambda _: dict(enumerate(references[:4])), detector=Detector())
    portraits = Portraits(session)
    pictures = portraits(planned(shipped("hybrid")))
    assert {picture.size for picture in pictures} == {(PORTRAIT, PORTRAIT)}
    yaws = [abs(Detector().detect(np.asarray(picture))[0].yaw) for picture in pictures]
    assert yaws[0] == min(yaws)
    assert MARGIN >= 2
    assert portraits(planned(shipped("hybrid"))) is pictures


# --- the builder ---


def test_the_builder_refuses_what_the_schema_does_not_know() -> None:
    build = Builder()
    (vae,) = build.add("VAELoader", vae_name="ae.safetensors")
    for kind, inputs, said in [
        ("VAELoda", {}, "not in the schema"),
        ("VAELoader", {"name": "x"}, "no input 'name'"),
        ("VAEDecode", {"samples": vae, "vae": vae}, "it takes LATENT"),
        ("VAEDecode", {"samples": 3, "vae": vae}, "takes a link"),
        ("EmptyLatentImage", {"width": 8}, "out of 16"),
        ("VAELoader", {}, "'vae_name' is missing"),
        ("LoadImageMask", {"image": "x.png", "channel": "cyan"}, "none of alpha"),
    ]:
        with pytest.raises(ValueError, match=said):
            build.add(kind, **inputs)


def test_the_same_node_is_added_once() -> None:
    build = Builder(first=7)
    assert build.add("VAELoader", vae_name="a") == build.add("VAELoader", vae_name="a")
    assert build.add("VAELoader", vae_name="b")[0].node == "8"
    assert list(build.built().graph.nodes) == ["7", "8"]


# --- as the editor shows it ---


@pytest.mark.parametrize("name", RUNS)
def test_the_editors_format_is_laid_out_left_to_right_without_overlaps(name: str, tmp_path: Path) -> None:
    shown = show_graph(workspace(tmp_path), shipped(name), GraphRequest("comfy-ui"))
    boxes = {node["id"]: (*node["pos"], *node["size"]) for node in shown.table["nodes"]}
    names = list(boxes)
    for i, one in enumerate(names):
        for other in names[i + 1 :]:
            (x, y, w, h), (a, b, c, d) = boxes[one], boxes[other]
            assert x + w <= a or a + c <= x or y + h <= b or b + d <= y, (one, other)
    groups = {group["title"]: group["bounding"] for group in shown.table["groups"]}
    assert len(groups) == len(shipped(name).stages)
    for left, top, width, height in groups.values():
        inside = [n for n, (x, y, w, h) in boxes.items() if left <= x and x + w <= left + width and top <= y - 30]
        assert inside
        assert all(boxes[n][1] + boxes[n][3] <= top + height for n in inside)
    for _, origin, _, target, _, _ in shown.table["links"]:
        assert boxes[origin][0] + boxes[origin][2] < boxes[target][0]


@pytest.mark.parametrize("name", RUNS)
def test_a_recipe_in_the_editors_format_is_read_back_as_the_same_graph(name: str, tmp_path: Path) -> None:
    api = show_graph(workspace(tmp_path), shipped(name), GraphRequest("comfy")).table
    ui = show_graph(workspace(tmp_path), shipped(name), GraphRequest("comfy-ui")).table
    assert read_table(json.loads(json.dumps(ui)), name) == read_table(json.loads(json.dumps(api)), name)
    titles = {node.title for node in read_table(dict(ui), name)}
    assert {"Positive prompt", "Result"} <= titles
    assert next(group["title"] for group in ui["groups"]).startswith("1. generate")


@st.composite
def graphs(draw: st.DrawFn) -> Graph:
    """Any graph of known classes, every input linked to an output of its type where there is one."""
    build = Builder()
    gives: dict[str, list[Any]] = {}
    kinds = [kind for kind in node_types().values() if "*" not in (*kind.outputs, *(e.type for e in kind.inputs))]
    for kind in draw(st.lists(st.sampled_from(kinds), min_size=1, max_size=12)):
        inputs: dict[str, Any] = {}
        for entry in kind.takes(inputs):
            if entry.is_widget:
                inputs[entry.name] = draw(values(entry))
            elif entry.type in gives and (entry.required or draw(st.booleans())):
                inputs[entry.name] = draw(st.sampled_from(gives[entry.type]))
        if all(entry.name in inputs for entry in kind.takes(inputs) if entry.required and not entry.is_widget):
            added = build.add(kind.name, draw(st.sampled_from(["", "a title"])), **inputs)
            for link, carried in zip(added, kind.outputs, strict=True):
                gives.setdefault(carried, []).append(link)
    return build.built().graph


def values(entry: Any) -> st.SearchStrategy[Any]:
    if entry.type == "BOOLEAN":
        return st.booleans()
    if entry.type in ("INT", "SEED", "FLOAT"):
        low, high = entry.low if entry.low is not None else -9, entry.high if entry.high is not None else 9
        return st.floats(low, high) if entry.type == "FLOAT" else st.integers(int(low), int(high))
    return st.sampled_from(entry.choices) if entry.choices else st.sampled_from(["x.png", "image", "a b"])


def test_what_the_editor_writes_after_a_seed_and_a_picture_is_there() -> None:
    """Without these its widgets would take each other's values."""
    build = Builder()
    build.add("RandomNoise", noise_seed=5)
    picture, _ = build.add("LoadImage", image=GraphPicture("source"))
    build.add("SaveImage", images=picture, filename_prefix="x")
    noise, load, save = to_ui(build.built().graph)["nodes"]
    assert noise["widgets_values"] == [5, "fixed"]
    assert load["widgets_values"] == ["sosie-source.png", "image"]
    assert save["widgets_values"] == ["x"]
    assert save["inputs"] == [{"name": "images", "type": "IMAGE", "link": 1}]


def test_a_list_that_could_be_taken_for_a_link_is_wrapped() -> None:
    table = {"1": {"class_type": "Odd", "inputs": {"pair": {"__value__": ["2", 0]}, "link": ["2", 0]}}}
    assert to_api(read_table(table, "odd")) == table


@settings(max_examples=60, deadline=None)
@given(graphs())
def test_any_graph_survives_both_formats(graph: Graph) -> None:
    if graph.nodes:
        assert read_table(json.loads(json.dumps(to_api(graph))), "api") == graph
        assert read_table(json.loads(json.dumps(to_ui(graph))), "ui") == graph


# --- the command ---


def test_recipe_show_prints_the_bare_graph_and_says_the_rest_on_stderr(sosie: Sosie, tmp_path: Path) -> None:
    result = sosie("recipe", "show", "sdxl-instantid", "--as", "comfy", "--workspace", tmp_path)
    assert result.code == 0, result.err
    graph = json.loads(result.out)
    assert all(set(entry) <= {"class_type", "inputs", "_meta"} for entry in graph.values())
    assert "3 graphs stand beside each other" in result.err
    assert "'sdxl' stands for a file of yours" in result.err


def test_recipe_show_takes_a_prompt_and_the_workspaces_files(sosie: Sosie, tmp_path: Path) -> None:
    (tmp_path / "sosie.toml").write_text('[models]\nsdxl = "ckpt/biglove.safetensors"\n')
    arguments = ("--as", "comfy", "--prompt", "on a boat", "--face-detailer", "--json", "--workspace", tmp_path)
    result = sosie("recipe", "show", "sdxl-instantid", *arguments)
    assert result.out.count("\n") == 1
    graph = json.loads(result.out)
    assert only(graph, "CheckpointLoaderSimple")["ckpt_name"] == "biglove.safetensors"
    assert any("on a boat" in entry["text"] for entry in nodes(graph, "CLIPTextEncode"))
    assert "graphs stand beside" not in result.err
    assert "stands for a file of yours" not in result.err


def test_recipe_show_says_why_a_recipe_is_no_graph(sosie: Sosie, tmp_path: Path) -> None:
    result = sosie("recipe", "show", "mini", "--as", "comfy-ui", "--workspace", tmp_path)
    assert (result.code, result.out) == (1, "")
    assert "SOS-E013" in result.err
    assert sosie("recipe", "show", "mini", "--prompt", "x", "--workspace", tmp_path).code == 2
    assert sosie("recipe", "show", "mini", "--as", "comfyui", "--workspace", tmp_path).code == 2


def test_recipe_show_of_an_unknown_character_names_the_nearest(sosie: Sosie, tmp_path: Path) -> None:
    result = sosie("recipe", "show", "zimage", "--as", "comfy", "--character", "mira", "--workspace", tmp_path)
    assert result.code == 2
    assert "character 'mira' does not exist" in result.err
