"""What a prompt asks for: understood where it can be meant, refused by its name where it would be drawn as text."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from header_files import Table, write, zimage_lora
from hypothesis import given
from hypothesis import strategies as st

from sosie.core import AskedLora, Character, CharacterLora, Draw, Finding, Sampling, plan
from sosie.core.plan import asset_names
from sosie.workspace.library import Library
from sosie.workspace.prompts import Asked, Asking, PromptLine, recognise
from sosie.workspace.prompts.asked import check_text
from sosie.workspace.prompts.choices import Chooser, Wildcards
from sosie.workspace.prompts.loras import Loras
from sosie.workspace.recipes import load_recipe
from sosie.workspace.workspace import open_workspace

MIRA = Character(
    "mira", "fictional", True, "a woman", "mira_(oc)", loras=(CharacterLora("loras/mira-v2.safetensors", "sdxl", ""),)
)
INFOTEXT = """masterpiece, smiling
in a cafe
Negative prompt: (worst quality:1.4), hat
Steps: 28, Sampler: DPM++ 2M Karras, CFG scale: 6.5, Seed: 12, Size: 832x1216, Model: "a, b", Clip skip: 2"""

Read = Callable[..., tuple[tuple[Asked, ...], tuple[Finding, ...]]]


def sdxl_lora(path: Path) -> Path:
    tensors: Table = {}
    for block, width in (("down_blocks.1", 640), ("down_blocks.2", 1280), ("mid_block", 1280), ("up_blocks.0", 1280)):
        place = "attentions.0" if block == "mid_block" else "attentions.1"
        for module in ("to_q", "to_k", "to_v"):
            name = f"unet.{block}.{place}.transformer_blocks.0.attn1.{module}"
            tensors |= {f"{name}.lora_A.weight": ("F16", [4, width]), f"{name}.lora_B.weight": ("F16", [width, 4])}
    return write(path, tensors)


@pytest.fixture
def read(tmp_path: Path) -> Read:
    workspace = open_workspace(tmp_path)
    (tmp_path / "wildcards" / "hair").mkdir(parents=True)
    (tmp_path / "wildcards" / "scene.txt").write_text("# places\nforest\n\ncity {by day|at night}\n", encoding="utf-16")
    (tmp_path / "wildcards" / "hair" / "short.txt").write_text("bob\npixie\n")
    (tmp_path / "wildcards" / "circle.txt").write_text("a __circle__\n")
    (tmp_path / "wildcards" / "nothing.txt").write_text("# none\n")
    (tmp_path / "models").mkdir()
    sdxl_lora(tmp_path / "models" / "Add Detail.safetensors")
    zimage_lora(tmp_path / "models" / "soft.safetensors")
    (tmp_path / "models" / "broken.safetensors").write_bytes(b"<html>")

    def asked(*lines: str | PromptLine, recipe: str = "mini", remote: bool = False, n: int = 1, **how: bool) -> object:
        loras = Loras(MIRA, load_recipe(workspace, recipe), Library(workspace), remote)
        asking = Asking(loras, Wildcards(workspace.wildcards), n=n, **how)
        return recognise([PromptLine(line) if isinstance(line, str) else line for line in lines], asking)

    return asked  # type: ignore[return-value]


def refused(read: Read, prompt: str, code: str, **how: object) -> Finding:
    _, findings = read(prompt, **how)
    found = [one for one in findings if one.severity == "error"]
    assert [one.code for one in found] == [code], (prompt, findings)
    return found[0]


@pytest.mark.parametrize(
    "prompt",
    [
        "smiling, (soft:1.2) daylight, [sic], ((24))",
        "open until 23:30, ratio 16:9, f/1.8, 100 % wool, $5, #1, ^_^, :-), i <3 you, {, C++, a_b, __",
        'a sign "ROCK AND ROLL" -- neon, \u201cnot --steps 5\u201d, SALT AND PEPPER',
        'her sign says "--OPEN"',
        "\u7f8e\u7389, \u5fae\u7b11, \u300c\u958b\u5e97\u300d, caf\u00e9, \U0001f642",
        '{"subject": "a woman | a man", "pose": {"head": "left"}, "note": "__x__ AND <lora:y:1>"}',
        "Steps: a stone stair, a negative mood, seed: sunflower",
        "score_9, score_8_up, 1girl",
        "",
    ],
)
def test_a_prompt_without_syntax_is_what_it_is(read: Read, prompt: str) -> None:
    (asked,), findings = read(prompt)
    assert asked.prompt == prompt
    assert asked == Asked(asked.line, prompt)
    assert findings == ()


@pytest.mark.parametrize(
    ("prompt", "named"),
    [
        ("smiling, embedding:easynegative", "embedding:easynegative"),
        ("(embedding:bad-hands-5:1.2), x", "embedding:bad-hands-5"),
        ("a cat AND a dog", "AND"),
        ("a cat AND_SALT a dog", "AND"),
        ("[blonde:red:0.5] hair", "[blonde:red:0.5]"),
        ("[red:10] hair", "[red:10]"),
        ("[red::0.3] hair", "[red::0.3]"),
        ("[[a|b] c:d:.5]", "[a|b]"),
        ("<hypernet:anime:0.7>, x", "<hypernet:anime:0.7>"),
        ("<segment:face,0.5> x", "<segment:face,0.5>"),
        ("<random:a,b> x", "<random:a,b>"),
        ("{{masterpiece}}, x", "{{masterpiece}}"),
        ("a {mood} woman", "{mood}"),
        ("${hair=red} x", "${hair=red}"),
        ("(red)1.3 coat", "(red)1.3"),
        ("smiling++, x", "smiling++"),
        ("('a', 'b').blend(0.3)", ").blend(0.3)"),
        ("x, withLora(add, 0.7)", "withLora(add, 0.7)"),
        ("cat::2 dog::1", "::2"),
        ("smiling:1.3, x", "smiling:1.3"),
        ("left ADDCOL right", "ADDCOL"),
        ("x COUPLE MASK(0 1) y", "MASK("),
    ],
)
def test_syntax_that_is_not_drawn_is_refused_by_name_line_and_way(read: Read, prompt: str, named: str) -> None:
    _, findings = read(PromptLine(prompt, where="p.txt:7"))
    errors = [one for one in findings if one.severity == "error"]
    assert {one.code for one in errors} == {"SOS-A001"}
    assert any(f"p.txt:7: '{named}' is " in one.message and one.hint for one in errors), errors


def test_what_is_escaped_is_text(read: Read) -> None:
    (asked,), findings = read(r"\{a|b\}, \{mood\}, \__x\__, \[a:b:0.5\], \(24\), a \| b")
    assert findings == ()
    assert asked.prompt == r"{a|b}, {mood}, __x__, \[a:b:0.5\], \(24\), a | b"


def test_a_trigger_is_no_syntax_whatever_is_in_it(read: Read) -> None:
    (asked,), findings = read("mira_(oc) smiling, {mira_(oc)|mira_(oc)}")
    assert asked.prompt == "mira_(oc) smiling, mira_(oc)"
    assert [one.code for one in findings] == ["SOS-A008"]


def test_the_negative_prompt_is_read_as_well(read: Read) -> None:
    _, findings = read(PromptLine("smiling", negative_prompt="embedding:easynegative, <lora:x:1>"))
    assert [one.code for one in findings] == ["SOS-A001", "SOS-A001"]
    assert all("the negative prompt" in one.message for one in findings)


def test_break_is_understood_where_all_families_know_it(read: Read) -> None:
    (asked,), findings = read("smiling BREAK forest")
    assert (asked.prompt, [one.severity for one in findings]) == ("smiling BREAK forest", ["warning"])
    assert "BREAK" in findings[0].message
    assert refused(read, "smiling BREAK forest", "SOS-A007", recipe="hybrid").hint
    assert read(r"SPRING \BREAK", recipe="hybrid")[1] == ()


# --- alternatives and wildcards ---


def test_a_seed_chooses_and_the_choice_is_on_record(read: Read) -> None:
    many, findings = read("{blonde|auburn} hair, __scene__, {__hair/short__|long}", n=40)
    assert len(many) == 40
    assert all(one.alone for one in many)
    assert len({one.seed for one in many}) == 40
    assert {one.choices[0].chosen for one in many} == {"blonde", "auburn"}
    scenes = {one.choices[-2 if one.choices[-1].written.startswith("{__") else -1].chosen for one in many}
    assert {one.prompt.split(", ")[1] for one in many} == {"forest", "city by day", "city at night"} <= scenes | {"bob"}
    assert many == read("{blonde|auburn} hair, __scene__, {__hair/short__|long}", n=40)[0]
    assert many[:3] == read("{blonde|auburn} hair, __scene__, {__hair/short__|long}", n=3)[0]
    assert "'{blonde|auburn}' is '" in findings[0].message


def test_counts_weights_and_patterns(read: Read) -> None:
    many, _ = read("{2$$a|b|c}; {1-2$$ and $$x|y}; {9::p|q}; {2$$__hair/short__}; __hair/*__; {|z}", n=200)
    parts = [one.prompt.split("; ") for one in many]
    assert {frozenset(part[0].split(", ")) for part in parts} == {frozenset(pair) for pair in ("ab", "bc", "ac")}
    assert {part[1] for part in parts} == {"x", "y", "x and y", "y and x"}
    assert 0.8 < sum(part[2] == "p" for part in parts) / 200 < 0.97
    assert {part[3] for part in parts} == {"bob, pixie", "pixie, bob"}
    assert {part[4] for part in parts} == {"bob", "pixie"}
    assert {part[5] for part in parts} == {"", "z"}


@pytest.mark.parametrize(
    ("prompt", "code", "said"),
    [
        ("__sceen__", "SOS-A003", "did you mean 'scene'"),
        ("__../secret__", "SOS-A003", ""),
        ("__nothing__", "SOS-A003", "empty"),
        ("__circle__", "SOS-A004", "circle"),
        ("{a|b", "SOS-A004", "not closed"),
        ("{3$$a|b}", "SOS-A004", "of 2"),
        ("{x$$a|b}", "SOS-A004", "count"),
        ("{@a|b}", "SOS-A004", "one after another"),
        ("{<hypernet:x:1>|<hypernet:x:1>}", "SOS-A001", "<hypernet:x:1>"),
    ],
)
def test_alternatives_that_cannot_be_meant_are_refused(read: Read, prompt: str, code: str, said: str) -> None:
    if prompt == "__../secret__":
        assert read(prompt)[0][0].prompt == prompt  # no name of a list: it is text
        return
    assert said in refused(read, prompt, code).message


@given(st.text(st.sampled_from("ab{}|$_2:\\, "), max_size=40), st.integers(0, 99))
def test_choosing_ends_and_leaves_no_alternative(text: str, seed: int) -> None:
    from sosie.core.finding import RuleError
    from sosie.workspace.prompts.choices import has_choices, shield

    try:
        chosen = Chooser(Wildcards(Path("none")), seed, text).choose(shield(text))
    except RuleError:
        return
    assert not has_choices(chosen) or "{" in chosen.replace("{", "", 1)


# --- infotexts and options ---


def test_an_infotext_is_taken_apart(read: Read) -> None:
    (asked,), findings = read(INFOTEXT)
    assert asked.prompt == "masterpiece, smiling in a cafe"
    assert asked.negative_prompt == "(worst quality:1.4), hat"
    assert asked.sampling == Sampling(28, 6.5, "dpmpp_2m", "karras")
    assert (asked.seed, asked.width, asked.height) == (12, 832, 1216)
    assert [one.code for one in findings] == ["SOS-A008", "SOS-A006"]
    assert "Model: a, b" in findings[1].message


def test_an_infotext_of_one_line_is_the_same(read: Read) -> None:
    flat = INFOTEXT.replace("\n", " ")
    assert read(flat)[0][0].prompt == read(INFOTEXT)[0][0].prompt
    assert read(flat)[0][0].sampling == read(INFOTEXT)[0][0].sampling
    (asked,), _ = read("smiling Negative prompt: hat")
    assert (asked.prompt, asked.negative_prompt) == ("smiling", "hat")


@pytest.mark.parametrize(
    "prompt",
    [
        '--prompt "smiling, \\"so\\"" --negative_prompt hat, glasses --steps 30 --cfg_scale 5 --sampler_name "Euler a"',
        'smiling, "so" --neg "hat, glasses" --steps=30 --cfg-scale 5 --sampler euler_a',
        'smiling, "so" \u2014negative hat, glasses \u2014steps 30 \u2014cfg 5 \u2014sampler Euler a',
    ],
)
def test_options_behind_a_prompt_are_taken_apart(read: Read, prompt: str) -> None:
    (asked,), findings = read(prompt)
    assert (asked.prompt, asked.negative_prompt) == ('smiling, "so"', "hat, glasses")
    assert asked.sampling == Sampling(30, 5.0, "euler_a", "")
    assert [one.code for one in findings] == ["SOS-A008"]


@pytest.mark.parametrize(
    ("prompt", "said"),
    [
        ("smiling --ar 2:3", "'--ar' is not known"),
        ("smiling --step 5", "did you mean 'steps'"),
        ("smiling --steps many", "'many' is not a whole number"),
        ("smiling --steps 5000", "not 1 to 1000"),
        ("smiling --cfg 0", "not 1 to 100"),
        ("smiling --seed -7", "out of range"),
        ("smiling --size 500x500", "multiple of 8"),
        ("smiling --width 512", "one side"),
        ("smiling --scheduler turbo", "schedule 'turbo' is not known"),
        ("smiling --steps 5 --steps 6", "twice"),
        ("--steps 5", "without a prompt"),
        ("caf\udce9", "no text"),
        ("a\0b", "no text"),
    ],
)
def test_a_setting_that_cannot_be_read_is_refused(read: Read, prompt: str, said: str) -> None:
    assert said in refused(read, prompt, "SOS-A005").message


def test_what_has_no_place_is_said(read: Read) -> None:
    (asked,), findings = read("smiling --steps 5 --tiling", works_on=True)
    assert asked.sampling == Sampling()
    assert "tiling" in findings[-1].message
    assert "stage 'generate'" in findings[-1].message
    assert refused(read, "smiling --steps 5", "SOS-A005", own_graph=True).hint.endswith("--set NODE.input=VALUE")


def test_many_lines_that_say_the_same_are_said_once(read: Read) -> None:
    lines = [PromptLine(f"smiling {number} BREAK x", where=f"p.txt:{number}") for number in range(1, 31)]
    _, findings = read(*lines)
    assert len(findings) == 1
    assert findings[0].message.startswith("p.txt:1: ")
    assert "29 more lines" in findings[0].message


# --- LoRAs ---


def test_a_known_lora_is_used_with_its_weight_and_leaves_the_text(read: Read) -> None:
    (asked,), findings = read("smiling, <lora:Add Detail:0.6>, soft light")
    assert asked.prompt == "smiling, soft light"
    assert asked.loras == (AskedLora("Add Detail", "sdxl", 0.6),)
    assert "'Add Detail' at 0.6" in findings[0].message
    assert read("<lora:styles/Add Detail.safetensors>x")[0][0].loras[0].weight == 1.0


def test_the_characters_own_lora_gets_the_weight_in_place_of_the_recipes(read: Read, tmp_path: Path) -> None:
    (asked,), _ = read("smiling <lora:mira-v2:0.4>")
    recipe = load_recipe(open_workspace(tmp_path), "mini")
    request = asked.request("mini", "mira")
    from sosie.core.plan import resolve_stages

    names = dict.fromkeys(asset_names(resolve_stages(recipe, MIRA, request)), "")
    planned = plan(recipe, MIRA, request, Draw(), names)
    (use,) = planned.stages[0].loras
    assert (use.file, use.weight) == ("characters/mira/loras/mira-v2.safetensors", 0.4)
    assert planned.requested == request


def test_a_lora_goes_to_the_stages_of_its_family(read: Read, tmp_path: Path) -> None:
    (asked,), _ = read("x <lora:soft:0.5> --steps 12", recipe="hybrid")
    from sosie.core.plan import resolve_stages

    recipe = load_recipe(open_workspace(tmp_path), "hybrid")
    stages = resolve_stages(recipe, MIRA, asked.request("hybrid", "mira"))
    holders = {stage.family for stage in stages for use in stage.loras if use.file == "soft"}
    assert holders == {"zimage"}
    assert [stage.sampler.steps == 12 for stage in stages] == [stage.kind == "generate" for stage in stages]


@pytest.mark.parametrize(
    ("prompt", "said"),
    [
        ("<lora:add_detial:1>", "was not found"),
        ("<lora:mira-v3:1>", "did you mean 'mira-v2'"),
        ("<lora:soft:1>", "is for zimage"),
        ("<lora:broken:1>", "cannot be used"),
        ("<lora:Add Detail:0.5:0.8>", "one weight"),
        ("<lora:Add Detail:1:lbw=FACE>", "one weight"),
        ("<lora:Add Detail:9>", "the weight 9"),
        ("<lora:Add Detail:1>, <lora:Add Detail:0.5>", "twice"),
        ("<lora::1>", "names no LoRA"),
        ("<lora:Add Detail:1 smiling", "has no end"),
    ],
)
def test_a_lora_that_cannot_be_meant_is_refused(read: Read, prompt: str, said: str) -> None:
    assert said in refused(read, f"smiling, {prompt}", "SOS-A002").message


def test_a_lora_that_the_servers_may_have_is_asked_of_them(read: Read) -> None:
    (asked,), _ = read("x <lora:elsewhere:0.5>", remote=True)
    assert asked.loras == (AskedLora("elsewhere.safetensors", "sdxl", 0.5),)


def test_a_recipes_own_texts_are_read_too() -> None:
    assert list(check_text("smiling, (soft:1.2) light BREAK x", "prompt")) == []
    for text in ("embedding:easynegative", "<lora:x:1>", "{a|b}", "__scene__"):
        assert [one.code for one in check_text(text, "negative_prompt")] == ["SOS-A001"], text
