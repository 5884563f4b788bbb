"""FLUX.2 klein as graphs of ComfyUI, without a server: those of its templates, with references and without."""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
from PIL import Image
from recipe_graphs import compiler, drafts, nodes, only, planned, shipped

from sosie.core import Sampler


def behind(graph: Mapping[str, Any], at: Any, *kinds: str) -> Mapping[str, Any]:
    """The inputs of the node at a link, after as many of these kinds one behind the other."""
    entry = graph[at[0]]
    for kind in kinds:
        assert entry["class_type"] == kind
        entry = graph[entry["inputs"]["conditioning"][0]]
    return entry


def test_klein_is_what_the_official_template_is_and_each_reference_stands_on_both_sides() -> None:
    (graph,) = drafts(planned(shipped("klein")))
    assert only(graph, "UNETLoader")["unet_name"] == "flux-2-klein-4b.safetensors"
    assert only(graph, "CLIPLoader") == {"clip_name": "qwen_3_4b.safetensors", "type": "flux2"}
    assert only(graph, "VAELoader") == {"vae_name": "flux2-vae.safetensors"}
    assert only(graph, "EmptyFlux2LatentImage") == {"width": 1024, "height": 1024, "batch_size": 1}
    assert only(graph, "Flux2Scheduler") == {"steps": 4, "width": 1024, "height": 1024}
    assert only(graph, "KSamplerSelect") == {"sampler_name": "euler"}
    assert only(graph, "RandomNoise") == {"noise_seed": planned(shipped("klein")).seed}
    guider = only(graph, "CFGGuider")
    assert guider["cfg"] == 1.0
    shown = ["ReferenceLatent"] * 3
    words = behind(graph, guider["positive"], *shown)
    assert words["inputs"]["text"] == "photo of a woman, braided hair, as in the reference images, in the rain"
    assert behind(graph, guider["negative"], *shown)["class_type"] == "ConditioningZeroOut"
    assert len(nodes(graph, "LoadImage")) == len(nodes(graph, "VAEEncode")) == 3


def test_image_guidance_is_the_guiders_weight_against_the_prompt_without_references() -> None:
    recipe = shipped("klein")
    stage = recipe.stages[0]
    strong = replace(stage, guides=(replace(stage.guides[0], scale=1.5, references=1),))
    (graph,) = drafts(planned(replace(recipe, stages=(strong,))))
    guider = only(graph, "CFGGuider")
    assert guider["cfg"] == 1.5
    assert graph[guider["negative"][0]]["class_type"] == "CLIPTextEncode"
    assert behind(graph, guider["positive"], "ReferenceLatent") == graph[guider["negative"][0]]
    both = replace(strong, sampler=Sampler("euler", "model", 25, 4.0))
    (graph,) = drafts(planned(replace(recipe, stages=(both,))))
    guider = only(graph, "DualCFGGuider")
    assert (guider["cfg_conds"], guider["cfg_cond2_negative"], guider["style"]) == (4.0, 1.5, "regular")
    positive, negative = nodes(graph, "CLIPTextEncode")
    assert behind(graph, guider["cond1"], "ReferenceLatent")["inputs"] == positive
    assert behind(graph, guider["cond2"], "ReferenceLatent")["inputs"] == negative
    assert graph[guider["negative"][0]]["inputs"] == negative


def test_a_face_of_a_zimage_body_is_drawn_in_the_last_steps_over_its_square() -> None:
    body, face = drafts(planned(shipped("zimage-klein")))
    assert only(body, "UNETLoader")["unet_name"] == "z_image_turbo_bf16.safetensors"
    assert only(face, "SplitSigmas")["step"] == 4
    assert only(face, "SamplerCustomAdvanced")["sigmas"][1] == 1
    assert len(nodes(face, "SetLatentNoiseMask")) == len(nodes(face, "DifferentialDiffusion")) == 1


def test_an_edited_image_is_the_first_that_is_looked_at_and_drawn_anew() -> None:
    of = planned(shipped("klein-edit"), source="a" * 64, width=512, height=768)
    (graph,) = drafts(of)
    guider = only(graph, "CFGGuider")
    chain: list[str] = []
    at = guider["positive"]
    while graph[at[0]]["class_type"] == "ReferenceLatent":
        entry = graph[at[0]]["inputs"]
        encoded = graph[entry["latent"][0]]["inputs"]["pixels"]
        chain.insert(0, graph[encoded[0]]["inputs"]["image"])
        at = entry["conditioning"]
    assert chain == ["sosie-source.png", *(f"sosie-reference-shown-{number}.png" for number in (1, 2, 3))]
    assert nodes(graph, "SplitSigmas") == []
    assert only(graph, "Flux2Scheduler")["width"] == 512


def test_the_references_that_are_uploaded_are_letterboxed() -> None:
    program = compiler()(planned(shipped("klein")))
    (step,) = program.steps
    assert step.compile is not None
    made: Any = step.compile(None)
    sizes = [Image.open(io.BytesIO(upload.data)).size for upload in made.uploads]
    assert sizes == [(96, 96)] * 3


@pytest.mark.parametrize(
    ("sampler", "said"),
    [
        (Sampler("euler", "simple", 4, 1.0), "expected 'model' and 0, not schedule 'simple' and shift 0"),
        (Sampler("euler", "model", 4, 1.0, shift=3.0), "expected 'model' and 0, not schedule 'model' and shift 3"),
    ],
)
def test_what_comfyuis_scheduler_does_not_do_is_refused(sampler: Sampler, said: str) -> None:
    recipe = shipped("klein")
    program = compiler()(planned(replace(recipe, stages=(replace(recipe.stages[0], sampler=sampler),))))
    assert program.steps == ()
    assert [finding.code for finding in program.findings] == ["SOS-E003"]
    assert said in program.findings[0].message


def test_a_size_that_is_no_multiple_of_sixteen_is_refused_there_and_drawn_here() -> None:
    recipe = shipped("klein")
    program = compiler()(planned(recipe, width=1000, height=1024))
    assert "1000x1024 is not a multiple" in program.findings[0].message
    from sosie.families import drawer_of

    of = planned(recipe, width=1000, height=1024)
    assert drawer_of("flux2").check(of.stages[0], of) == []
