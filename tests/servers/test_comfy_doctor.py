"""The doctor on ComfyUI servers: what a server is, which packs it has, what a recipe lacks there."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from comfy_bench import (
    UNET,
    set_behaviour,
)
from json_lines import codes, lines
from recipe_graphs import RUNS

from sosie.cli.doctor import command as doctor_command
from sosie.engines.comfy.errors import HINTS, Y022
from sosie.engines.comfy.fake import FakeServer
from sosie.graph.nodes import used_packs

pytestmark = pytest.mark.once

Sosie = Callable[..., Any]


def test_the_doctor_says_what_a_server_is_and_which_packs_it_has(
    sosie: Sosie, tmp_path: Path, near: FakeServer
) -> None:
    set_behaviour(near, lacks=frozenset({*used_packs()["Ultimate SD Upscale"], "SAMLoader"}))
    (line,) = lines(sosie("doctor", f"comfy:{near.url}", "--json", "--workspace", tmp_path).out)
    assert (line["subject"], line["kind"], codes(line)) == (f"comfy:{near.url}", "server", ["SOS-Y005", "SOS-Y005"])
    told = line["server"]
    assert (told["version"], told["torch"], told["device"], told["memory"]) == (
        "0.33.0",
        "2.14.1+cu130",
        "cuda:0 fake",
        24 * 2**30,
    )
    assert told["packs"]["InstantID"] == {"complete": True, "lacks": []}
    assert told["packs"]["Impact Pack"]["lacks"] == ["SAMLoader"]
    packs = line["findings"][1]
    assert "Impact Pack (without SAMLoader); not there: Ultimate SD Upscale" in packs["message"]
    assert "ssitu/ComfyUI_UltimateSDUpscale" in packs["hint"]
    assert near.count("POST", "/") == 0
    shown = sosie("doctor", f"comfy:{near.url}", "--workspace", tmp_path)
    assert shown.code == 0
    assert shown.out == f"comfy:{near.url}\tok\tserver\n"
    assert "ComfyUI 0.33.0" in shown.err


@pytest.mark.parametrize("recipe", RUNS)
def test_the_fake_has_all_that_a_shipped_recipe_needs(
    sosie: Sosie, tmp_path: Path, near: FakeServer, recipe: str
) -> None:
    result = sosie("doctor", f"comfy:{near.url}", "--recipe", recipe, "--json", "--workspace", tmp_path)
    (line,) = lines(result.out)
    assert result.code == 0, line
    assert any(f"recipe '{recipe}' can run" in finding["message"] for finding in line["findings"])
    assert line["server"]["files"]
    assert None not in line["server"]["files"].values()


def test_the_doctor_names_what_a_recipe_lacks_on_a_server(sosie: Sosie, tmp_path: Path, near: FakeServer) -> None:
    files = {**near.behaviour.files, "diffusion_models": (), "text_encoders": ("q/qwen_3_4b_bf16.safetensors",)}
    set_behaviour(near, files=files, lacks=frozenset({"ApplyInstantIDAdvanced"}), memory=8 * 2**30, shows_log=False)
    result = sosie("doctor", f"comfy:{near.url}", "--recipe", "hybrid", "--json", "--workspace", tmp_path)
    (line,) = lines(result.out)
    assert result.code == 1
    assert {"SOS-Y007", "SOS-Y010", "SOS-Y011", "SOS-Y034"} <= set(codes(line))
    assert not any("can run" in finding["message"] for finding in line["findings"])
    assert line["server"]["files"][UNET] is None
    assert line["server"]["files"]["qwen_3_4b.safetensors"] == "q/qwen_3_4b_bf16.safetensors"


def test_of_several_servers_each_is_told_and_a_dead_one_is_an_error(
    sosie: Sosie, tmp_path: Path, near: FakeServer
) -> None:
    subject = f"comfy:{near.url},http://127.0.0.1:1"
    result = sosie("doctor", subject, "--json", "--workspace", tmp_path)
    one, other = lines(result.out)
    assert result.code == 1
    assert (one["subject"], other["subject"]) == (f"comfy:{near.url}", "comfy:http://127.0.0.1:1")
    assert codes(other) == ["SOS-Y001"]
    assert "server" not in other


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("zimage", "--recipe", "zimage"), "--recipe says what a ComfyUI server shall run"),
        (("--recipe", "zimage"), "--recipe says what a ComfyUI server shall run"),
        (("comfy:http://127.0.0.1:1", "--fix", "--yes"), "--fix mends what is on this machine"),
        (("comfy:ftp://h",), "not an address of a ComfyUI server"),
        (("comfy:http://me:s3cret@h",), "holds a name or password"),
        (("comfy:http://127.0.0.1:1", "--recipe", "zimagee"), "did you mean 'zimage'"),
    ],
)
def test_what_the_doctor_cannot_examine_is_refused(
    sosie: Sosie, tmp_path: Path, arguments: tuple[str, ...], said: str
) -> None:
    result = sosie("doctor", *arguments, "--workspace", tmp_path)
    assert result.code == 2
    assert said in result.err
    assert "s3cret" not in result.err


def test_the_hint_about_encoders_names_a_command_that_exists(near: FakeServer, tmp_path: Path) -> None:
    told = HINTS[Y022].rpartition("sosie doctor ")[2]
    arguments = told.replace("URL", near.url).replace(" R", " zimage").split()
    done = CliRunner().invoke(doctor_command, [*arguments, "--workspace", str(tmp_path)], standalone_mode=False)
    assert (done.exception, done.return_value) == (None, 0)
