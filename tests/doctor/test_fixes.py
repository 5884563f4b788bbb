"""`sosie doctor --fix`: what is mended, what is left alone, and what remains."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from json_lines import lines
from places import ROOT
from safetensors.numpy import load_file, save_file

from sosie.api.doctor import Checkup
from sosie.api.fixes import FIXES, Fix, apply_fix, propose_fixes
from sosie.core import Finding
from sosie.doctor.explain import sections
from sosie.doctor.leftovers import OLD_SECONDS, open_files, why_kept
from sosie.files.strip import read_stripped

pytestmark = pytest.mark.once

Sosie = Callable[..., Any]

WIDTH = 3840


def codes(line: dict[str, Any]) -> set[str]:
    return {finding["code"] for finding in line["findings"]}


def old(path: Path, content: bytes = b"x" * 1000) -> Path:
    """A file that was last written to two hours ago."""
    path.write_bytes(content)
    then = time.time() - 2 * OLD_SECONDS
    os.utime(path, (then, then))
    return path


def split_kohya_lora(path: Path) -> Path:
    """What musubi-tuner writes for Z-Image: names that ComfyUI does not find."""
    rng = np.random.default_rng(5)
    tensors: dict[str, np.ndarray] = {}
    for letter in "qkv":
        stem = f"lora_unet_layers_0_attention_to_{letter}"
        tensors[f"{stem}.lora_down.weight"] = rng.standard_normal((2, WIDTH)).astype(np.float32)
        tensors[f"{stem}.lora_up.weight"] = rng.standard_normal((WIDTH, 2)).astype(np.float32)
        tensors[f"{stem}.alpha"] = np.array(2, np.float32)
    save_file(tensors, path)
    return path


def test_a_lora_that_a_loader_would_drop_is_converted_beside_the_original(
    sosie: Sosie, workspace: Path, tmp_path: Path
) -> None:
    path = split_kohya_lora(tmp_path / "elena.safetensors")
    before = path.read_bytes()
    assert "SOS-L006" in codes(lines(sosie("doctor", path, "--json", "--workspace", workspace).out)[0])
    result = sosie("doctor", path, "--fix", "--yes", "--json", "--workspace", workspace)
    fix, after = lines(result.out)
    out = tmp_path / "elena.comfy.safetensors"
    assert list(fix) == ["kind", "code", "action", "path", "out", "done", "message"]
    assert (fix["kind"], fix["code"], fix["action"], fix["done"]) == ("fix", "SOS-L006", "convert-lora", True)
    assert (fix["path"], fix["out"]) == (str(path), str(out))
    assert result.code == 0
    assert (after["subject"], after["path"]) == (str(out), str(out))
    assert codes(after).isdisjoint(FIXES)
    assert path.read_bytes() == before
    old_tensors, new_tensors = load_file(path), load_file(out)
    for letter in "qkv":
        for was, now in (("down", "A"), ("up", "B")):
            one = old_tensors[f"lora_unet_layers_0_attention_to_{letter}.lora_{was}.weight"]
            other = new_tensors[f"diffusion_model.layers.0.attention.to_{letter}.lora_{now}.weight"]
            assert np.array_equal(one, other)


def test_what_is_there_already_is_never_overwritten_and_the_original_stays_a_finding(
    sosie: Sosie, workspace: Path, tmp_path: Path
) -> None:
    path = split_kohya_lora(tmp_path / "elena.safetensors")
    other = tmp_path / "elena.comfy.safetensors"
    other.write_bytes(b"somebody's")
    result = sosie("doctor", path, "--fix", "--yes", "--json", "--workspace", workspace)
    fix, after = lines(result.out)
    assert result.code == 1
    assert fix["done"] is False
    assert "there already" in fix["message"]
    assert other.read_bytes() == b"somebody's"
    assert "SOS-L006" in codes(after)


def test_a_conversion_that_mends_nothing_is_taken_back(tmp_path: Path) -> None:
    path, out = split_kohya_lora(tmp_path / "elena.safetensors"), tmp_path / "elena.comfy.safetensors"
    healthy = tmp_path / "healthy.safetensors"
    apply_fix(Fix("SOS-L006", "convert-lora", path, healthy))
    fixed = apply_fix(Fix("SOS-L006", "convert-lora", healthy, out))
    assert (fixed.done, "no layout mends" in fixed.message) == (False, True)
    assert not out.exists()


def test_a_lora_that_only_diffusers_reads_in_part_is_left_alone(sosie: Sosie, workspace: Path, tmp_path: Path) -> None:
    path = tmp_path / "dora.safetensors"
    stem = "diffusion_model.layers.0.attention.to_q"
    tensors = {
        f"{stem}.lora_A.weight": np.ones((2, WIDTH), np.float32),
        f"{stem}.lora_B.weight": np.ones((WIDTH, 2), np.float32),
        f"{stem}.dora_scale": np.ones((WIDTH, 1), np.float32),
    }
    save_file(tensors, path)
    result = sosie("doctor", path, "--fix", "--yes", "--json", "--workspace", workspace)
    assert result.code == 0
    assert [file.name for file in tmp_path.glob("*.safetensors")] == ["dora.safetensors"]


def test_partial_downloads_are_removed_if_old_and_not_open_and_of_a_model(
    sosie: Sosie, workspace: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "models"
    folder.mkdir()
    gone = [
        old(folder / "0a1b2c.incomplete"),
        old(folder / "z_image.safetensors.part"),
        old(folder / "b.gguf.crdownload"),
    ]
    young = folder / "young.safetensors.part"
    young.write_bytes(b"x")
    control = old(folder / "big.safetensors.aria2")
    foreign = old(folder / "holiday.zip.part")
    busy = old(folder / "busy.safetensors.part")
    aim = old(tmp_path / "aim.safetensors.part")
    link = folder / "link.safetensors.part"
    link.symlink_to(aim)
    with busy.open("rb"):
        result = sosie("doctor", folder, "--fix", "--yes", "--json", "--workspace", workspace)
    found = lines(result.out)
    fixes = {Path(line["path"]).name: line for line in found if line["kind"] == "fix"}
    assert {name for name, line in fixes.items() if line["done"]} == {path.name for path in gone}
    assert not any(path.exists() for path in gone)
    assert all(path.exists() for path in (young, control, foreign, busy, aim, link))
    why = {name: line["message"] for name, line in fixes.items() if not line["done"]}
    assert "written to just now" in why["young.safetensors.part"]
    assert "aria2c -c" in why["big.safetensors.aria2"]
    assert "not that of a model" in why["holiday.zip.part"]
    assert why["link.safetensors.part"] == "it is no plain file"
    if sys.platform == "linux":
        assert why["busy.safetensors.part"] == "a process has it open"
    left = {Path(line["path"]).name for line in found if line["kind"] == "model"}
    assert left == {path.name for path in (young, control, foreign, busy, link)}
    assert result.code == 1


def test_a_folder_of_nothing_but_old_partial_downloads_is_clean_afterwards(
    sosie: Sosie, workspace: Path, tmp_path: Path
) -> None:
    old(tmp_path / "a.safetensors.part")
    (tmp_path / "a.safetensors.part.json").write_text("{}")  # what is known of it, as `sosie model fetch` notes it
    assert sosie("doctor", tmp_path / "a.safetensors.part", "--workspace", workspace).code == 1
    result = sosie("doctor", tmp_path / "a.safetensors.part", "--fix", "--yes", "--workspace", workspace)
    assert result.code == 0, result.err
    assert "removed" in result.err
    assert list(tmp_path.glob("a.*")) == []


def test_partial_downloads_of_the_workspace_are_mended_with_its_recipe(sosie: Sosie, workspace: Path) -> None:
    (workspace / "models").mkdir()
    old(workspace / "models" / "x.safetensors.part")
    assert "SOS-D016" in codes(lines(sosie("doctor", "mini", "--json", "--workspace", workspace).out)[0])
    found = lines(sosie("doctor", "mini", "--fix", "--yes", "--json", "--workspace", workspace).out)
    assert [line["kind"] for line in found] == ["fix", "recipe"]
    assert (found[1]["subject"], "SOS-D016" in codes(found[1])) == ("mini", False)


def test_a_file_that_grew_after_the_question_stays(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors.part"
    path.write_bytes(b"x")
    done = apply_fix(Fix("SOS-D016", "remove-partial", path))
    assert (done.done, path.exists()) == (False, True)
    assert "may still be running" in done.message


def test_it_asks_and_no_means_no(
    sosie: Sosie, workspace: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = old(tmp_path / "a.safetensors.part")
    asked: list[str] = []

    def answer(question: str, **_: object) -> bool:
        asked.append(question)
        return False

    monkeypatch.setattr("sys.stdin.isatty", lambda: True)
    monkeypatch.setattr("click.confirm", answer)
    result = sosie("doctor", path, "--fix", "--workspace", workspace)
    assert (result.code, asked, path.exists()) == (1, ["Do this?"], True)
    assert f"remove {path}" in result.err
    monkeypatch.setattr("click.confirm", lambda *_, **__: True)
    assert sosie("doctor", path, "--fix", "--workspace", workspace).code == 0
    assert not path.exists()


def test_without_a_terminal_or_an_answer_nothing_is_looked_at(sosie: Sosie, workspace: Path, tmp_path: Path) -> None:
    path = old(tmp_path / "a.safetensors.part")
    result = sosie("doctor", path, "--fix", "--workspace", workspace)
    assert (result.code, result.out, path.exists()) == (2, "", True)
    assert "add --yes" in result.err
    alone = sosie("doctor", path, "--yes", "--workspace", workspace)
    assert alone.code == 2
    assert "--fix, which was not given" in alone.err


def test_what_is_healthy_needs_no_fix(sosie: Sosie, workspace: Path) -> None:
    found = lines(sosie("doctor", "mini", "--fix", "--yes", "--json", "--workspace", workspace).out)
    assert [line["kind"] for line in found] == ["recipe"]


def test_what_a_recipe_says_of_its_lora_is_not_mended_in_the_recipes_file(tmp_path: Path) -> None:
    finding = Finding("SOS-L006", "warning", "x", "x", "sosie lora convert x OUT.safetensors --to comfy")
    recipe = Checkup("z", "recipe", str(tmp_path / "z.toml"), findings=(finding,))
    assert propose_fixes([recipe]) == ()
    lora = replace(recipe, kind="lora", path=str(tmp_path / "x.safetensors"))
    assert [fix.out for fix in propose_fixes([lora])] == [tmp_path / "x.comfy.safetensors"]


def test_only_documented_codes_have_a_fix() -> None:
    assert set(FIXES) <= set(sections())


def test_a_file_of_another_process_is_seen_as_open(tmp_path: Path) -> None:
    path = old(tmp_path / "a.safetensors.part")
    if sys.platform != "linux":
        pytest.skip("open files are seen on Linux only")
    assert why_kept(path, open_files()) == ""
    with path.open("rb"):
        assert why_kept(path, open_files()) == "a process has it open"
    assert why_kept(tmp_path / "b.safetensors.part", open_files()) != ""


@pytest.mark.local
def test_a_published_pickle_becomes_safetensors_beside_it(sosie: Sosie, workspace: Path, tmp_path: Path) -> None:
    import torch

    path = tmp_path / "4x.pth"
    torch.save({"model.0.weight": torch.arange(6.0).reshape(2, 3)}, path)
    before = path.read_bytes()
    result = sosie("doctor", path, "--fix", "--yes", "--json", "--workspace", workspace)
    fix, after = lines(result.out)
    assert (fix["code"], fix["action"], fix["done"]) == ("SOS-K012", "convert-model", True), fix
    assert path.read_bytes() == before
    assert np.array_equal(load_file(tmp_path / "4x.safetensors")["model.0.weight"], np.arange(6.0).reshape(2, 3))
    assert "SOS-K012" not in codes(after)


def test_a_pickle_that_is_refused_is_not_offered(sosie: Sosie, workspace: Path, tmp_path: Path) -> None:
    path = tmp_path / "evil.bin"
    path.write_bytes(b"\x80\x02cposix\nsystem\n(S'true'\ntR.")
    found = lines(sosie("doctor", path, "--fix", "--yes", "--json", "--workspace", workspace).out)
    assert [line["kind"] for line in found] == ["model"]


@pytest.mark.local
def test_a_fix_that_fails_says_why_and_is_exit_1(
    sosie: Sosie, workspace: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    from sosie.api import fixes
    from sosie.core.errors import MissingExtraError

    def missing(*_: object) -> None:
        raise MissingExtraError("torch is not installed", "pip install 'sosie[local]'")

    header, _ = read_stripped(ROOT / "tests" / "fixtures" / "headers" / "esrgan-compact-4x.json.gz")
    torch.save({name: torch.ones(info.shape) for name, info in header.tensors.items()}, tmp_path / "m.pth")
    monkeypatch.setattr(fixes, "convert_model", missing)
    result = sosie("doctor", tmp_path / "m.pth", "--fix", "--yes", "--json", "--workspace", workspace)
    fix, after = lines(result.out)
    assert {finding["severity"] for finding in after["findings"]} == {"info"}  # only the failure is exit 1
    assert (result.code, fix["done"]) == (1, False)
    assert fix["message"] == "torch is not installed (pip install 'sosie[local]')"
