"""The command line: what users type, and what they get on stdout, stderr and as exit code."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from catalogues import ask
from json_lines import lines
from PIL import Image
from places import ROOT

from sosie.core import derive_seed

pytestmark = pytest.mark.once

IDENTITY_KEYS = [
    "judge",
    "value",
    "higher_is_better",
    "threshold",
    "fmr",
    "fmr_upper95",
    "n",
    "cohort",
    "pass",
    "reason",
]
Sosie = Callable[..., Any]


def test_generate_prints_one_line_an_attempt_and_delivers_what_passes(
    sosie: Sosie, workspace: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    result = sosie(
        "generate",
        "mira",
        "smiling",
        "-n",
        3,
        "--seed",
        7,
        "--engine",
        "fake",
        "--out",
        out,
        "--workspace",
        workspace,
        "--json",
    )
    assert result.code == 0, result.err
    attempts = lines(result.out)
    kept = [attempt for attempt in attempts if attempt["verdict"] == "keep"]
    assert len(kept) == 3
    assert {Path(attempt["image"]) for attempt in kept} == set(out.glob("mira-*.png"))
    for attempt in attempts:
        assert list(attempt) == [
            "image",
            "verdict",
            "reasons",
            "scores",
            "plan",
            "parent",
            "seed",
            "attempt",
            "seconds",
            "path",
            "prompt",
            "measures",
        ]
        assert list(attempt["scores"]["identity"][0])[:10] == IDENTITY_KEYS
        assert list(attempt["scores"]["defects"][0]) == ["name", "value", "threshold", "pass", "reason"]
        assert Path(attempt["image"]).is_file()
        assert bool(attempt["reasons"]) == (attempt["verdict"] != "keep")
        assert (attempt["parent"] is None) == (attempt["attempt"] == 0)
    judge = kept[0]["scores"]["identity"][0]
    assert judge["n"] >= 300
    assert 0 <= judge["fmr"] < judge["fmr_upper95"] <= 1
    assert judge["joint"]["fmr"] <= 0.05
    assert judge["guided_by"] == ["mini:id_encoder.onnx"]
    assert (out / "contact-sheet.png").is_file()
    assert "<script" not in (out / "index.html").read_text()


def test_the_same_command_again_gives_the_same_lines_and_renders_nothing(
    sosie: Sosie, workspace: Path, tmp_path: Path
) -> None:
    command = (
        "generate",
        "mira",
        "-n",
        2,
        "--engine",
        "fake",
        "--out",
        tmp_path / "o",
        "--workspace",
        workspace,
        "--json",
    )
    first, again = sosie(*command), sosie(*command)
    assert lines(first.out) == lines(again.out)
    other = sosie(*command[:-1], "--json", "--seed", 9)
    assert {line["plan"] for line in lines(other.out)}.isdisjoint(line["plan"] for line in lines(first.out))


def test_without_json_stdout_holds_kept_paths_only(sosie: Sosie, workspace: Path, tmp_path: Path) -> None:
    result = sosie("generate", "mira", "-n", 2, "--engine", "fake", "--out", tmp_path / "o", "--workspace", workspace)
    assert [Path(line).parent for line in result.out.splitlines()] == [tmp_path / "o"] * 2
    assert "contact sheet" in result.err
    quiet = sosie(
        "generate", "mira", "-n", 2, "--engine", "fake", "--out", tmp_path / "o", "--workspace", workspace, "-q"
    )
    assert quiet.out == result.out
    assert quiet.err == ""


def test_a_budget_that_is_too_small_exits_1_and_says_why(sosie: Sosie, workspace: Path, tmp_path: Path) -> None:
    grey = next(seed for seed in range(100) if derive_seed(seed, 0, 0) % 4 == 3 != derive_seed(seed, 1, 0) % 4)
    good = next(seed for seed in range(100) if 3 not in (derive_seed(seed, 0, 0) % 4, derive_seed(seed, 1, 0) % 4))
    (tmp_path / "p.csv").write_text(f"prompt,name,seed\nsmiling,first,{good}\nsad,second,{grey}\n")
    result = sosie(
        "generate",
        "mira",
        "--prompts",
        tmp_path / "p.csv",
        "--attempts",
        1,
        "-n",
        2,
        "--engine",
        "fake",
        "--out",
        tmp_path / "o",
        "--workspace",
        workspace,
        "--json",
    )
    assert result.code == 1
    assert len(lines(result.out)) == 4
    short = [line for line in result.err.splitlines() if "stayed short" in line]
    assert len(short) == 1
    assert "prompt 'second' stayed short: 1 of 2 images" in short[0]
    assert "no_face 1 times" in short[0]


def test_a_batch_names_its_images_and_is_resumable(sosie: Sosie, workspace: Path, tmp_path: Path) -> None:
    (tmp_path / "p.jsonl").write_text('{"prompt": "a", "name": "one"}\n{"prompt": "b", "name": "two", "seed": 3}\n')
    command = (
        "generate",
        "mira",
        "--prompts",
        tmp_path / "p.jsonl",
        "--engine",
        "fake",
        "--out",
        tmp_path / "o",
        "--workspace",
        workspace,
        "--json",
    )
    first = sosie(*command)
    assert first.code == 0
    names = sorted(path.name for path in (tmp_path / "o").glob("mira-*.png"))
    assert [name.split("-")[1] for name in names] == ["one", "two"]
    assert lines(sosie(*command).out) == lines(first.out)


def test_score_judges_images_of_any_origin(
    sosie: Sosie, workspace: Path, references: list[Path], tmp_path: Path
) -> None:
    Image.new("RGB", (256, 256), "grey").save(tmp_path / "grey.webp")
    result = sosie(
        "score", references[0], tmp_path / "grey.webp", "--character", "mira", "--workspace", workspace, "--json"
    )
    assert result.code == 1
    good, grey = lines(result.out)
    assert good["verdict"] == "keep"
    assert good["plan"] is good["seed"] is good["attempt"] is None
    assert grey["verdict"] == "reject"
    assert grey["scores"]["identity"][0]["value"] is None
    assert "no face" in grey["scores"]["identity"][0]["reason"]


def test_score_without_judges_is_none_and_never_a_pass(
    sosie: Sosie, workspace: Path, references: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    from sosie.core.errors import MissingExtraError
    from sosie.faces import encoders

    def missing(*_: object) -> None:
        raise MissingExtraError("dlib is not installed", 'pip install "sosie[judges]"')

    monkeypatch.setitem(encoders._BUILT_IN, "dlib", missing)  # pyright: ignore
    result = sosie("score", references[0], "--character", "mira", "--workspace", workspace, "--json")
    dlib = next(judge for judge in lines(result.out)[0]["scores"]["identity"] if judge["judge"] == "dlib")
    assert (dlib["value"], dlib["pass"]) == (None, None)
    assert "not installed" in dlib["reason"]
    (workspace / "recipes").mkdir(exist_ok=True)
    text = (ROOT / "recipes" / "mini.toml").read_text()
    text = text.replace('"mini"\nsumm', '"both"\nsumm').replace("fmr = 0.05", 'fmr = 0.05\njudges = ["sface", "dlib"]')
    (workspace / "recipes" / "both.toml").write_text(text)
    required = sosie(
        "score", references[0], "--character", "mira", "--recipe", "both", "--workspace", workspace, "--json"
    )
    assert required.code == 1
    assert lines(required.out)[0]["verdict"] == "reject"


def test_new_asks_for_consent_and_adulthood_or_takes_them_by_flag(
    sosie: Sosie, tmp_path: Path, references: list[Path]
) -> None:
    result = sosie("new", "x", *references, "--workspace", tmp_path)
    assert (result.code, result.out) == (2, "")
    assert "--likeness is missing" in result.err
    assert "hint:" in result.err
    assert (
        "--adult is missing" in sosie("new", "x", *references, "--likeness", "fictional", "--workspace", tmp_path).err
    )
    made = sosie("new", "x", *references, "--likeness", "fictional", "--adult", "--workspace", tmp_path, "--json")
    assert made.code == 0, made.err
    assert lines(made.out)[0]["references"] == 12
    taken = sosie("new", "x", *references, "--likeness", "fictional", "--adult", "--workspace", tmp_path)
    assert "exists already" in taken.err


def test_new_asks_at_a_terminal(tmp_path: Path, references: list[Path]) -> None:
    ours, theirs = pty.openpty()
    command = [
        sys.executable,
        "-c",
        "from sosie.cli import main; main()",
        "new",
        "x",
        *map(str, references),
        "--workspace",
        str(tmp_path),
    ]
    process = subprocess.Popen(command, stdin=theirs, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    os.write(ours, b"fictional\nyes\na woman\n")
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    assert Path(out.strip()).joinpath("character.toml").read_text().count("a woman") == 1


def test_calibrate_makes_a_cohort_that_generate_then_uses(sosie: Sosie, workspace: Path, tmp_path: Path) -> None:
    made = sosie("calibrate", "mira", "-n", 20, "--engine", "fake", "--workspace", workspace, "--json")
    assert made.code == 0, made.err
    line = lines(made.out)[0]
    assert line["n"] + line["without_face"] == 20
    assert Path(line["path"]).is_file()
    scored = sosie(
        "generate",
        "mira",
        "-n",
        1,
        "--attempts",
        1,
        "--engine",
        "fake",
        "--out",
        tmp_path / "o",
        "--workspace",
        workspace,
        "--json",
    )
    judge = lines(scored.out)[0]["scores"]["identity"][0]
    assert judge["cohort"] == "mira/mini"
    assert judge["others"]["n"] >= 300
    toml = workspace / "characters" / "mira" / "character.toml"
    toml.write_text(toml.read_text().replace("auburn", "blonde"))
    stale = sosie(
        "generate",
        "mira",
        "-n",
        1,
        "--attempts",
        1,
        "--engine",
        "fake",
        "--out",
        tmp_path / "o",
        "--workspace",
        workspace,
        "--json",
    )
    assert "SOS-J003" in stale.err
    assert lines(stale.out)[0]["scores"]["identity"][0]["cohort"] != "mira/mini"


def test_recipes_can_be_listed_shown_copied_and_checked(sosie: Sosie, workspace: Path) -> None:
    at = ("--workspace", workspace)
    assert "mini\tshipped" in sosie("recipe", "list", *at).out
    assert lines(sosie("recipe", "show", "mini", "--json", *at).out)[0]["width"] == 256
    assert sosie("recipe", "copy", "mini", "mine", *at).code == 0
    assert sosie("recipe", "check", "mine", *at).code == 0
    path = workspace / "recipes" / "mine.toml"
    path.write_text(path.read_text().replace('model = "mini"', 'model = "minni"'))
    broken = sosie("recipe", "check", "mine", "--json", *at)
    assert broken.code == 1
    finding = lines(broken.out)[0]["findings"][0]
    assert finding["code"] == "SOS-R002"
    assert "did you mean 'mini'" in finding["message"]


def test_models_can_be_listed_and_shown(sosie: Sosie, workspace: Path) -> None:
    listed = lines(sosie("model", "list", "--json", "--workspace", workspace).out)
    assert {"name": "mini", "licence": "CC0-1.0"}.items() <= listed[0].items()
    shown = sosie("model", "show", "mini", "--json", "--workspace", workspace)
    assert shown.code == 0, shown.err
    assert lines(shown.out)[0]["family"] == "sdxl"


def test_verify_knows_a_delivered_image_and_no_other(
    sosie: Sosie, workspace: Path, tmp_path: Path, references: list[Path]
) -> None:
    out = tmp_path / "o"
    made = sosie("generate", "mira", "-n", 1, "--engine", "fake", "--out", out, "--workspace", workspace, "--json")
    image = next(out.glob("mira-*.png"))
    report = lines(sosie("verify", image, "--json", "--workspace", workspace).out)[0]
    assert report["state"] == "valid"
    assert report["generated"] is True
    assert report["trusted"] is False
    assert report["plan_id"] == next(line["plan"] for line in lines(made.out) if line["verdict"] == "keep")
    assert sosie("verify", references[0], "--workspace", workspace).code == 1
    bare = tmp_path / "bare"
    sosie("generate", "mira", "-n", 1, "--engine", "fake", "--out", bare, "--no-provenance", "--workspace", workspace)
    assert (
        lines(sosie("verify", next(bare.glob("mira-*.png")), "--json", "--workspace", workspace).out)[0]["state"]
        == "absent"
    )
    rows = ask(workspace / ".sosie" / "catalogue.sqlite", "SELECT path, provenance FROM deliveries")
    assert {Path(path).parent.name: bool(signed) for path, signed in rows} == {"o": True, "bare": False}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["generat"], "did you mean 'generate'"),
        (["generate", "mira", ""], "the prompt is empty"),
        (["generate", "mria", "x"], "did you mean 'mira'"),
        (["generate", "mira", "x", "--recipe", "minni"], "did you mean 'mini'"),
        (["generate", "mira", "x", "--engine", "difusers"], "did you mean 'diffusers'"),
        (["generate", "mira", "x", "-n", "0"], "out of range"),
        (["generate", "mira", "x", "--seed", "-1", "--engine", "fake"], "out of range"),
        (["generate", "mira", "x", "--size", "big"], "not WIDTHxHEIGHT"),
        (["generate", "mira", "x", "--prompts", "p.txt"], "both PROMPT and --prompts"),
        (["generate", "mira", "x", "--sead", "3"], "--sead"),
        (["score", "nowhere.png"], "--character"),
        (["new", "../x", "a.png", "--likeness", "fictional", "--adult"], "is not a name"),
        (["model", "show", "minni"], "did you mean 'mini'"),
    ],
)
def test_what_cannot_run_exits_2_and_says_what_to_do(
    sosie: Sosie, workspace: Path, arguments: list[str], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(workspace)
    result = sosie(*arguments)
    assert (result.code, result.out) == (2, "")
    assert message in result.err
    assert result.err.startswith("error: ")


def test_a_size_that_cannot_be_drawn_is_a_finding_before_anything_is_rendered(sosie: Sosie, workspace: Path) -> None:
    options = ("--size", "100x100", "--engine", "fake", "--workspace", workspace)
    result = sosie("generate", "mira", "x", *options)
    assert (result.code, result.out) == (2, "")
    finding, error = result.err.splitlines()
    assert finding.startswith("✗ error SOS-A005: ")
    assert finding.endswith("and a multiple of 8")
    assert error.startswith("error: nothing was rendered")


def test_the_workspace_comes_from_the_environment_too(
    sosie: Sosie, workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SOSIE_WORKSPACE", str(workspace))
    assert "did you mean 'mira'" in sosie("score", "x.png", "--character", "mirra").err
    assert sosie("recipe", "list", "--workspace", workspace / "nowhere").code == 2


def test_a_plugged_in_judge_without_a_cohort_goes_by_the_references_and_never_judges_what_it_guided(
    sosie: Sosie, workspace: Path, tmp_path: Path, references: list[Path]
) -> None:
    import sosie_mini

    (workspace / "sosie.toml").write_text(f'[judges.own]\nonnx = "{sosie_mini.folder() / "id_encoder.onnx"}"\n')
    scored = sosie("score", references[0], "--character", "mira", "--workspace", workspace, "--json")
    judge = next(item for item in lines(scored.out)[0]["scores"]["identity"] if item["judge"] == "own")
    assert judge["value"] > 0.5
    assert (judge["fmr"], judge["joint"]) == (None, None)
    assert judge["threshold_from"] == "12 references, each against the others"
    assert "SOS-J005" in scored.err
    made = sosie("generate", "mira", "--engine", "fake", "--out", tmp_path / "o", "--workspace", workspace, "--json")
    assert made.code == 0, made.err
    judge = next(item for item in lines(made.out)[0]["scores"]["identity"] if item["judge"] == "own")
    assert (judge["value"], judge["pass"]) == (None, None)
    assert "it guided the image (as mini:id_encoder.onnx)" in judge["reason"]
    (workspace / "sosie.toml").write_text('[judges.sface]\nonnx = "x.onnx"\n')
    assert sosie("score", references[0], "--character", "mira", "--workspace", workspace).code == 2
