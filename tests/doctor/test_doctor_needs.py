"""`sosie doctor RECIPE`: disk plan, quota, card and precision, from the command line."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from header_files import model
from json_lines import lines

from sosie.api import needs
from sosie.api.needs import parse_bytes
from sosie.core import Guide, Recipe, Stage
from sosie.core.errors import UsageError
from sosie.core.recipe import Training
from sosie.doctor import recipe_needs
from sosie.doctor.recipe_needs import Purpose, most
from sosie.machines.facts import Gpu, MachineFacts
from sosie.workspace.bill import resolve
from sosie.workspace.workspace import Config, Workspace

pytestmark = pytest.mark.once

Sosie = Callable[..., Any]

GB = 10**9
CSV = "name, compute_cap, memory.total [MiB], memory.free [MiB], driver_version\n"
CARDS = {
    "1080 Ti": "NVIDIA GeForce GTX 1080 Ti, 6.1, 11264 MiB, 11000 MiB, 575.57.08\n",
    "3090": "NVIDIA GeForce RTX 3090, 8.6, 24576 MiB, 24000 MiB, 575.57.08\n",
    "3090, busy": "NVIDIA GeForce RTX 3090, 8.6, 24576 MiB, 6000 MiB, 575.57.08\n",
    "4060": "NVIDIA GeForce RTX 4060, 8.9, 8188 MiB, 8000 MiB, 575.57.08\n",
    "Orin": "NVIDIA Thor, 11.0, [N/A], [N/A], 575.57.08\n",
}


@pytest.fixture
def zimage(workspace: Path) -> str:
    """A recipe of Z-Image whose files are not there."""
    text = 'name = "z"\nprompt = "{prompt}"\nwidth = 1024\nheight = 1024\n'
    text += '[[stages]]\nkind = "generate"\nfamily = "zimage"\nmodel = "z_image_bf16"\n'
    (workspace / "recipes").mkdir()
    (workspace / "recipes" / "z.toml").write_text(text)
    return "z"


def found(line: dict[str, Any]) -> dict[str, dict[str, str]]:
    return {finding["code"]: finding for finding in line["findings"]}


def test_a_pod_too_small_for_a_training_run_is_an_error_with_the_plan(
    sosie: Sosie, workspace: Path, zimage: str
) -> None:
    asked = ("doctor", zimage, "--quota", "50GB", "--training", "3000", "--workspace", workspace)
    line = lines(sosie(*asked, "--json").out)[0]
    short = found(line)["SOS-D010"]
    assert short["severity"] == "error"
    assert "of 50.0 GB" in short["message"]
    parts = {row["part"]: row["bytes"] for row in line["disk"]["rows"]}
    assert list(parts) == ["models", "environment", "image", "downloads", "checkpoints", "cache", "reserve"]
    assert parts["checkpoints"] == (12 + 1 + 4) * 170_000_000  # one each 250 steps, one being written, two states
    assert sum(parts.values()) == line["disk"]["bytes"] == line["disk"]["to_come"]
    shown = sosie(*asked)
    assert shown.code == 1
    assert "checkpoints" in shown.err
    assert "available        50.0     46.6" in shown.err
    assert "available" not in shown.out


def test_a_pod_that_lacks_only_the_reserve_is_a_warning(sosie: Sosie, workspace: Path, zimage: str) -> None:
    line = lines(sosie("doctor", zimage, "--quota", "500GB", "--json", "--workspace", workspace).out)[0]
    assert set(found(line)) == {"SOS-R002", "SOS-R040", "SOS-D015"}
    reserve = next(row["bytes"] for row in line["disk"]["rows"] if row["part"] == "reserve")
    quota = f"{(line['disk']['bytes'] - reserve // 2) / GB:.1f}GB"
    line = lines(sosie("doctor", zimage, "--quota", quota, "--json", "--workspace", workspace).out)[0]
    assert found(line)["SOS-D011"]["severity"] == "warning"


def test_the_images_of_a_named_dataset_count(
    sosie: Sosie, workspace: Path, zimage: str, tmp_path: Path, references: list[Path]
) -> None:
    folder = tmp_path / "data"
    folder.mkdir()
    for number in range(3):
        (folder / f"{number}.jpg").write_bytes(references[0].read_bytes())
        (folder / f"{number}.txt").write_text("elena, outdoors")
    asked = ("doctor", zimage, folder, "--training", "1000", "--trigger", "elena", "--workspace", workspace, "--json")
    line = lines(sosie(*asked).out)[0]
    cache = next(row for row in line["disk"]["rows"] if row["part"] == "cache")
    assert "of 3 images" in cache["how"]


@pytest.mark.parametrize(
    ("card", "more", "code", "severity"),
    [
        ("1080 Ti", "", "SOS-H030", "warning"),
        ("1080 Ti", "", "SOS-H040", "error"),
        ("3090", "--precision fp8", "SOS-H031", "warning"),
        ("3090, busy", "", "SOS-H041", "warning"),
        ("Orin", "", "SOS-H044", "info"),
        ("4060", "", "SOS-H040", "error"),
        ("4060", "--training 1000", "SOS-H040", "error"),
    ],
)
def test_a_recorded_card_is_judged_by_what_the_recipe_needs(  # noqa: PLR0917
    sosie: Sosie, workspace: Path, zimage: str, tmp_path: Path, card: str, more: str, code: str, severity: str
) -> None:
    (tmp_path / "smi.txt").write_text(CSV + CARDS[card])
    asked = ("doctor", zimage, "--from", tmp_path / "smi.txt", *more.split(), "--json", "--workspace", workspace)
    machine, recipe = lines(sosie(*asked).out)
    assert (machine["kind"], recipe["kind"]) == ("machine", "recipe")
    assert found(machine)[code]["severity"] == severity
    assert not any(name.startswith("SOS-H") for name in found(recipe))


@pytest.mark.parametrize(("card", "more"), [("3090", ""), ("4060", "--precision fp8"), ("3090", "--training 1000")])
def test_a_card_that_is_large_enough_gives_no_finding(
    sosie: Sosie, workspace: Path, zimage: str, tmp_path: Path, card: str, more: str
) -> None:
    (tmp_path / "smi.txt").write_text(CSV + CARDS[card])
    asked = ("doctor", zimage, "--from", tmp_path / "smi.txt", *more.split(), "--json", "--workspace", workspace)
    assert found(lines(sosie(*asked).out)[0]) == {}


def test_memory_and_disk_of_a_recording_are_compared_too(
    sosie: Sosie, workspace: Path, zimage: str, tmp_path: Path
) -> None:
    text = (
        "MemTotal:        8123456 kB\nFilesystem     1024-blocks     Used Available Capacity Mounted on\n"
        "overlay           52428800 12428800  40000000      24% /\n"
        "/dev/sda1          9999999  9999999         0     100% /boot\n"
    )
    (tmp_path / "smi.txt").write_text(CSV + CARDS["3090"] + text)
    asked = ("doctor", zimage, "--from", tmp_path / "smi.txt", "--quota", "90GB", "--json", "--workspace", workspace)
    machine = found(lines(sosie(*asked).out)[0])
    assert set(machine) == {"SOS-H042", "SOS-H043"}
    assert "7,933 MiB of memory" in machine["SOS-H042"]["message"]
    assert "41.0 GB of the disk are free" in machine["SOS-H043"]["message"]


def test_the_card_of_this_machine_is_judged_with_a_recipe(
    sosie: Sosie, workspace: Path, zimage: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    small = Gpu("NVIDIA GeForce RTX 4060", (8, 9), 8188, 8000, "575.57.08")
    monkeypatch.setattr(needs, "read_machine", lambda _: MachineFacts((small,), live=True))
    both = lines(sosie("doctor", zimage, "mini", "--json", "--workspace", workspace).out)
    assert "SOS-H040" in found(both[0])
    assert "SOS-H040" not in found(both[1])
    monkeypatch.setattr(needs, "read_machine", lambda _: MachineFacts((), live=True))
    none = lines(sosie("doctor", zimage, "--json", "--workspace", workspace).out)[0]
    assert not any(code.startswith("SOS-H") for code in found(none))


def test_fp16_is_refused_for_a_dataset_and_for_a_recipe(
    sosie: Sosie, workspace: Path, zimage: str, tmp_path: Path, references: list[Path]
) -> None:
    folder = tmp_path / "data"
    folder.mkdir()
    (folder / "a.jpg").write_bytes(references[0].read_bytes())
    (folder / "a.txt").write_text("elena, outdoors")
    end = ("--json", "--workspace", workspace)
    for family in ("zimage", "sdxl"):
        line = lines(sosie("doctor", folder, "--precision", "fp16", "--family", family, *end).out)[0]
        assert found(line)["SOS-T040"]["severity"] == "error"
    right = lines(sosie("doctor", folder, "--precision", "bf16", "--family", "zimage", *end).out)[0]
    assert "SOS-T040" not in found(right)
    assert "SOS-T040" in found(lines(sosie("doctor", zimage, "--precision", "fp16", *end).out)[0])
    assert "SOS-T040" not in found(lines(sosie("doctor", "mini", "--precision", "fp16", *end).out)[0])
    trained = lines(sosie("doctor", "mini", "--precision", "fp16", "--training", "100", *end).out)[0]
    assert "SOS-T040" in found(trained)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--quota", "50GB"), "no valid recipe was named"),
        (("mira", "--training", "100"), "no valid recipe was named"),
        (("mini", "--training", "-5"), "no number of steps"),
        (("mini", "--quota", "many"), "is no size"),
        (("mini", "--quota", "0GB"), "is no size"),
        (("--precision", "bf16"), "none was named"),
        (("mini", "--family", "sdxl"), "none was named"),
    ],
)
def test_what_would_be_without_effect_is_refused(
    sosie: Sosie, workspace: Path, arguments: tuple[str, ...], message: str
) -> None:
    result = sosie("doctor", *arguments, "--workspace", workspace)
    assert (result.code, result.out) == (2, "")
    assert message in result.err


def test_a_dataset_needs_its_family_for_a_precision(
    sosie: Sosie, workspace: Path, tmp_path: Path, references: list[Path]
) -> None:
    (tmp_path / "a.jpg").write_bytes(references[0].read_bytes())
    (tmp_path / "a.txt").write_text("elena")
    result = sosie("doctor", tmp_path, "--precision", "fp16", "--workspace", workspace)
    assert (result.code, "--family zimage" in result.err) == (2, True)
    wrong = sosie("doctor", tmp_path, "--precision", "fp16", "--family", "zimmage", "--workspace", workspace)
    assert "did you mean 'zimage'" in wrong.err


@pytest.mark.parametrize(
    ("text", "size"), [("50GB", 50 * GB), ("46.5 GiB", 49_928_994_816), ("50", 50 * GB), ("1.2tb", 1_200 * GB)]
)
def test_sizes_are_read_with_their_units(text: str, size: int) -> None:
    assert parse_bytes(text) == size


@pytest.mark.parametrize("text", ["", "GB", "-5GB", "5 apples", "0", "1e9GB", "99999999999999GB"])
def test_what_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="is no size"):
        parse_bytes(text)


def needs_of(workspace: Workspace, recipe: Recipe, purpose: Purpose) -> recipe_needs.Needs:
    """What a recipe needs with the files of a workspace."""
    return recipe_needs.needs_of(recipe, resolve(workspace, recipe.stages), purpose)


def test_a_small_model_is_not_said_to_need_what_its_family_does(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path, Config())
    folder = tmp_path / "models"
    folder.mkdir()
    with (folder / "tiny.safetensors").open("wb") as file:
        file.truncate(100_000_000)
    tiny = Recipe("t", (Stage("generate", "sdxl", "tiny"),), "{prompt}", 256, 256)
    assert needs_of(workspace, tiny, Purpose()).vram_mib == (2 * 100_000_000 + GB) // 2**20
    with (folder / "tiny.safetensors").open("wb") as file:
        file.truncate(6_900_000_000)
    assert needs_of(workspace, tiny, Purpose()).vram_mib == 8 * GB // 2**20
    guided = Recipe("t", (Stage("generate", "sdxl", "tiny", guides=(Guide("faceid", "tiny", "tiny"),)),), "", 9, 9)
    assert needs_of(workspace, guided, Purpose()).vram_mib == (14 * GB) // 2**20


@pytest.mark.parametrize(
    ("fixture", "least", "highest"),
    [("zimage-single", 13.0, 13.0), ("zimage-fp8-scaled", 8.0, 10.0), ("zimage-dfloat11", 13.0, 13.0)],
)
def test_a_packed_file_needs_the_card_that_its_bytes_need(
    tmp_path: Path, fixture: str, least: float, highest: float
) -> None:
    workspace = Workspace(tmp_path, Config())
    model(tmp_path / "models" / "z.safetensors", fixture)
    model(tmp_path / "models" / "qwen_3_4b.safetensors", "qwen3-4b")
    recipe = Recipe("t", (Stage("generate", "zimage", "z", text_encoder="qwen_3_4b"),), "{prompt}", 1024, 1024)
    found = needs_of(workspace, recipe, Purpose()).vram_mib * 2**20
    assert least * GB - 2**20 <= found <= highest * GB


def test_the_stages_of_a_hybrid_run_one_after_another(tmp_path: Path) -> None:
    stages = (Stage("generate", "zimage", "x"), Stage("detail", "sdxl", "y", guides=(Guide("faceid", "a", "b"),)))
    hybrid = needs_of(Workspace(tmp_path, Config()), Recipe("h", stages, "", 1024, 1024), Purpose())
    assert hybrid.vram_mib == 14 * GB // 2**20
    assert hybrid.dtype == "bf16"
    wide = needs_of(Workspace(tmp_path, Config()), Recipe("h", stages, "", 1024, 1024), Purpose(precision="fp32"))
    assert (wide.vram_mib, wide.dtype) == (28 * GB // 2**20, "fp32")
    assert most((hybrid, wide)).vram_mib == wide.vram_mib
    assert (
        needs_of(Workspace(tmp_path, Config()), Recipe("h", stages, "", 8, 8), Purpose(1000)).vram_mib
        == 12 * GB // 2**20
    )


def test_a_family_without_figures_is_given_no_other_familys(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path, Config())
    recipe = Recipe("f", (Stage("generate", "flux1", "x"),), "", 1024, 1024)
    plan = recipe_needs.plan_recipe(recipe, resolve(workspace, recipe.stages), Purpose(1000, quota=GB))
    rows = {row.name: row.bytes for row in plan.rows}
    assert (rows["models"], rows["downloads"]) == (0, 0)
    assert "checkpoints" not in rows
    assert plan.unknown == ("x", "a checkpoint")
    for purpose in (Purpose(), Purpose(1000), Purpose(precision="fp8")):
        assert needs_of(workspace, recipe, purpose).vram_mib == 0
    assert needs_of(workspace, recipe, Purpose()).dtype == ""


def test_checkpoints_are_counted_by_the_rank_that_the_recipe_trains(tmp_path: Path) -> None:
    recipe = Recipe("r", (Stage("generate", "sdxl", "x"),), "", 1024, 1024)
    bill = resolve(Workspace(tmp_path, Config()), recipe.stages)
    for training, size in ((None, 400_000_000), (Training(rank=16), 200_000_000), (Training(rank=64), 800_000_000)):
        plan = recipe_needs.plan_recipe(replace(recipe, training=training), bill, Purpose(1000))
        rows = {row.name: row.bytes for row in plan.rows}
        assert rows["checkpoints"] == (4 + 1 + 2 * 2) * size
