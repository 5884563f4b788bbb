"""Plans: pure, hashed by content, and exactly reproduced from JSON."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sosie.core import (
    Acceptance,
    Character,
    CharacterLora,
    Draw,
    Guide,
    LoraUse,
    Plan,
    Recipe,
    Reference,
    Request,
    Sampler,
    Stage,
    derive_seed,
    plan,
)
from sosie.core.errors import ConfigError, NotFoundError, UsageError
from sosie.core.plan import asset_names, needed_stages, resolve_stages, without_guides
from sosie.core.prompt import fill, with_trigger

GUIDE = Guide("faceid", "mini:adapter.safetensors", "mini:encoder.onnx")
RECIPE = Recipe(
    "r",
    (Stage("generate", "sdxl", "mini", sampler=Sampler(), guides=(GUIDE,)),),
    "portrait of {description}, {prompt}",
    256,
    256,
)
MIRA = Character("mira", "fictional", True, "a woman", references=(Reference("references/00.jpg", "a" * 64),))
ASSETS = {name: hashlib.sha256(name.encode()).hexdigest() for name in asset_names(RECIPE.stages)}

texts = st.text(max_size=20)
samplers = st.builds(
    Sampler,
    name=texts,
    schedule=st.sampled_from(["model", "karras"]),
    steps=st.integers(1, 100),
    cfg=st.floats(1, 20),
)
guides = st.builds(
    Guide, kind=st.just("faceid"), weights=texts, encoder=texts, scale=st.floats(0, 2), references=st.integers(1, 9)
)
stages = st.builds(
    Stage,
    kind=st.just("generate"),
    family=texts,
    model=texts,
    sampler=samplers,
    guides=st.lists(guides, max_size=2).map(tuple),
)
characters = st.builds(
    Character,
    name=texts,
    likeness=st.sampled_from(["fictional", "consented"]),
    adult=st.just(True),
    description=texts,
    trigger=texts,
    marks=st.lists(texts, max_size=2).map(tuple),
    recipe=texts,
    references=st.lists(st.builds(Reference, file=texts, sha256=texts), max_size=3).map(tuple),
)
requests = st.builds(Request, recipe=texts, character=texts, prompt=texts, seed=st.integers(0, 2**63 - 1))


@st.composite
def plans(draw: st.DrawFn) -> Plan:
    """Any resolved plan."""
    recipe = Recipe("r", tuple(draw(st.lists(stages, min_size=1, max_size=2))), "{prompt}", 256, 512)
    assets = {name: draw(st.sampled_from(["", "0" * 64, "f" * 64])) for name in asset_names(recipe.stages)}
    return plan(
        recipe, draw(characters), draw(requests), Draw(draw(st.integers(0, 5)), draw(st.integers(0, 5))), assets
    )


def leaves(value: Any, path: tuple[str | int, ...] = ()) -> list[tuple[str | int, ...]]:
    """The path of every scalar in plain JSON."""
    if isinstance(value, dict):
        return [leaf for key, item in value.items() for leaf in leaves(item, (*path, key))]
    if isinstance(value, list):
        return [leaf for index, item in enumerate(value) for leaf in leaves(item, (*path, index))]
    return [path]


def changed(value: Any) -> Any:
    """A different value of the same type."""
    if isinstance(value, bool):
        return not value
    if value in ("model", "karras"):
        return "karras" if value == "model" else "model"
    if value in ("fictional", "consented"):
        return "consented" if value == "fictional" else "fictional"
    if value == "auto":
        return "fp32"
    return value + "x" if isinstance(value, str) else value + 1


@given(plans())
def test_a_plan_comes_back_from_json_with_the_same_id(original: Plan) -> None:
    again = Plan.from_json(json.loads(json.dumps(original.to_json())))
    assert again == original
    assert again.id == original.id


@given(plans(), st.data())
def test_the_id_changes_if_and_only_if_the_content_changes(original: Plan, data: st.DataObject) -> None:
    table = original.to_json()
    paths = [path for path in leaves(table) if path[-1] not in ("kind", "keypoints")]
    path = data.draw(st.sampled_from(paths))
    place: Any = table
    for key in path[:-1]:
        place = place[key]
    if place[path[-1]] is None:
        place[path[-1]] = "x" if path[-1] == "negative_prompt" else 64
    else:
        place[path[-1]] = changed(place[path[-1]])
    mutated = Plan.from_json(table)
    if path[0] == "requested":
        assert mutated.id == original.id
    else:
        assert mutated.id != original.id


def test_the_number_of_images_and_the_output_folder_are_no_part_of_a_plan() -> None:
    names = {field.name for field in dataclasses.fields(Plan)} | {field.name for field in dataclasses.fields(Request)}
    assert not names & {"n", "out", "engine", "folder", "budget"}


def test_fields_that_came_later_leave_the_ids_of_stored_plans_as_they_were() -> None:
    made = planned(RECIPE, MIRA)
    # The id of this plan before `cfg_start`, `picture` and the like.
    assert made.id == "32c31d923cd332451065e20d7216ee78ebb6480c9cd1d3c8291ec823649f7c1a"
    late = dataclasses.replace(RECIPE.stages[0], sampler=Sampler(cfg_end=0.6))
    assert planned(dataclasses.replace(RECIPE, stages=(late,)), MIRA).id != made.id
    assert "cfg_end" not in made.to_json()["stages"][0]["sampler"]


def test_the_seed_is_63_bits_of_sha256_of_seed_index_and_attempt() -> None:
    expected = int.from_bytes(hashlib.sha256(b"7:2:1").digest()[:8], "big") >> 1
    assert derive_seed(7, 2, 1) == expected < 2**63
    assert len({derive_seed(7, index, attempt) for index in range(20) for attempt in range(20)}) == 400


def test_a_retry_is_a_new_plan_that_names_its_parent() -> None:
    first = plan(RECIPE, MIRA, Request("r", "mira", "x"), Draw(0, 0), ASSETS)
    second = plan(RECIPE, MIRA, Request("r", "mira", "x"), Draw(0, 1, first.id), ASSETS)
    assert second.draw.parent == first.id
    assert second.id != first.id
    assert second.seed != first.seed


def texts_of(description: str = "a woman", trigger: str = "", prompt: str = "") -> dict[str, str]:
    return {"description": description, "trigger": trigger, "prompt": prompt}


@pytest.mark.parametrize(
    ("template", "values", "expected"),
    [
        ("portrait of {description}, {prompt}", texts_of(prompt="smiling"), "portrait of a woman, smiling"),
        ("portrait of {description}, {prompt}", texts_of(), "portrait of a woman"),
        ("photo, {trigger}, {prompt}", texts_of(prompt="x"), "photo, x"),
        ("{prompt}", texts_of(prompt="braces {stay} as they are"), "braces {stay} as they are"),
    ],
)
def test_empty_parts_of_a_prompt_are_dropped(template: str, values: dict[str, str], expected: str) -> None:
    assert fill(template, values) == expected


def test_an_unknown_field_in_a_prompt_names_the_nearest_one() -> None:
    with pytest.raises(ConfigError, match="did you mean 'description'"):
        fill("a {descripton}", texts_of())


OWN = CharacterLora("loras/elena.safetensors", "sdxl", "c" * 64, 0.9, "elenax")
WITH_LORA = dataclasses.replace(
    RECIPE,
    stages=(
        dataclasses.replace(RECIPE.stages[0], loras=(LoraUse("character", 0.5), LoraUse("film.safetensors", 0.3))),
    ),
)


def planned(recipe: Recipe, character: Character, prompt: str = "smiling", draw: Draw | None = None) -> Plan:
    names = asset_names(needed_stages(recipe, character))
    return plan(recipe, character, Request("r", "mira", prompt), draw or Draw(), dict.fromkeys(names, "d" * 64))


def test_the_characters_lora_takes_its_place_with_weight_and_trigger() -> None:
    elena = dataclasses.replace(MIRA, name="elena", loras=(OWN, dataclasses.replace(OWN, family="zimage")))
    made = planned(WITH_LORA, elena)
    assert made.stages[0].loras == (
        LoraUse("characters/elena/loras/elena.safetensors", 0.45, "elenax"),
        LoraUse("film.safetensors", 0.3),
    )
    assert made.prompt == "elenax, portrait of a woman, smiling"
    assert made.character.loras == (OWN, dataclasses.replace(OWN, family="zimage"))
    assert "characters/elena/loras/elena.safetensors" in [asset.name for asset in made.assets]


def test_guides_are_weaker_beside_a_lora_that_knows_the_face_too() -> None:
    guide = Guide("faceid", "w.safetensors", "e.onnx", scale=0.8)
    beside = (LoraUse("character", 0.5, guide_scale=0.25),)
    recipe = dataclasses.replace(RECIPE, stages=(dataclasses.replace(RECIPE.stages[0], loras=beside, guides=(guide,)),))
    with_it = planned(recipe, dataclasses.replace(MIRA, loras=(OWN, dataclasses.replace(OWN, file="loras/b.st"))))
    assert [use.guide_scale for use in with_it.stages[0].loras] == [1.0, 1.0], "said once, in the guide's scale"
    assert with_it.stages[0].guides[0].scale == pytest.approx(0.2), "once, however many LoRAs there are"
    assert planned(recipe, MIRA).stages[0].guides[0].scale == 0.8


def test_without_an_own_lora_the_place_stays_empty_and_no_trigger_is_said() -> None:
    made = planned(WITH_LORA, dataclasses.replace(MIRA, trigger="elenax"))
    assert [use.file for use in made.stages[0].loras] == ["film.safetensors"]
    assert made.prompt == "portrait of a woman, smiling"


def test_a_lora_that_a_recipe_does_not_use_is_no_part_of_the_plan() -> None:
    assert planned(RECIPE, dataclasses.replace(MIRA, loras=(OWN,))).id == planned(RECIPE, MIRA).id


@pytest.mark.parametrize("prompt", ["Elenax smiling", "smiling, elenax"])
def test_a_trigger_that_the_prompt_says_already_is_not_said_twice(prompt: str) -> None:
    made = planned(WITH_LORA, dataclasses.replace(MIRA, loras=(OWN,)), prompt)
    assert made.prompt.lower().count("elenax") == 1


def test_a_trigger_inside_another_word_does_not_count() -> None:
    assert with_trigger("selenaxis", ["elenax"]) == "elenax, selenaxis"


DETAIL = Stage("detail", "sdxl", "mini", prompt="face of {description}", guides=(GUIDE,))
MENDING = dataclasses.replace(RECIPE, repair=(DETAIL,))


def test_a_repair_runs_the_repairs_stages_on_its_parents_image() -> None:
    first = planned(MENDING, MIRA)
    mended = planned(MENDING, MIRA, draw=Draw(0, 1, first.id, "e" * 64))
    assert [stage.kind for stage in mended.stages] == ["detail"]
    assert mended.source == "e" * 64
    assert mended.stages[0].prompt == "face of a woman"
    assert mended.draw.is_repair
    assert mended.id != planned(MENDING, MIRA, draw=Draw(0, 1, first.id, "f" * 64)).id


def test_stages_can_be_chosen_for_an_image_from_elsewhere() -> None:
    upscaling = Stage("upscale", "esrgan", "4x")
    recipe = dataclasses.replace(MENDING, stages=(RECIPE.stages[0], upscaling))
    asked = Request("r", "mira", source="e" * 64, width=333, height=101)
    assert [s.kind for s in resolve_stages(recipe, MIRA, asked)] == ["detail", "upscale"]
    chosen = dataclasses.replace(asked, stages=("detail",))
    assert [s.kind for s in resolve_stages(recipe, MIRA, chosen)] == ["detail"]


@pytest.mark.parametrize(
    ("request_", "complaint"),
    [
        (Request("r", "mira", source="e" * 64, stages=("detial",)), "did you mean 'detail'"),
        (Request("r", "mira", source="e" * 64, stages=("generate",)), "no stage 'generate'"),
        (Request("r", "mira", stages=("detail",)), "an image to work on"),
    ],
)
def test_stages_that_cannot_be_run_are_refused(request_: Request, complaint: str) -> None:
    with pytest.raises(UsageError, match=complaint):
        resolve_stages(MENDING, MIRA, request_)


def test_each_stage_of_a_plan_has_a_seed_of_its_own_and_the_first_has_the_plans() -> None:
    made = planned(RECIPE, MIRA)
    assert made.stage_seed(0) == made.seed
    assert len({made.stage_seed(index) for index in range(9)}) == 9


@pytest.mark.parametrize("size", [(100, 256), (256, 8), (256, 8200)])
def test_a_size_that_no_model_can_draw_is_refused(size: tuple[int, int]) -> None:
    with pytest.raises(UsageError, match="multiple of 8"):
        plan(RECIPE, MIRA, Request("r", "mira", width=size[0], height=size[1]), Draw(), ASSETS)


def test_a_missing_file_is_named() -> None:
    with pytest.raises(NotFoundError, match="mini:encoder"):
        plan(RECIPE, MIRA, Request("r", "mira"), Draw(), {k: v for k, v in ASSETS.items() if "encoder" not in k})


def test_impostors_are_rendered_without_any_guide() -> None:
    assert all(not stage.guides for stage in without_guides(RECIPE).stages)
    assert RECIPE.stages[0].guides
    assert [use.file for use in without_guides(WITH_LORA).stages[0].loras] == ["film.safetensors"]
    assert not without_guides(MENDING).repair
    assert Acceptance().fmr == 0.05
