"""LoRA files as they are published: each is known, none that ComfyUI reads gets an alarm, and hints work."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from lora_layouts import DROPPED, HEALTHY, Layout, sparse

from sosie.doctor.loras import check_lora
from sosie.families import families
from sosie.lora import outcomes, read_lora

Sosie = Callable[..., Any]


@pytest.mark.parametrize("layout", HEALTHY, ids=lambda layout: layout.id)
def test_a_healthy_lora_is_known_whole_and_gets_no_alarm(tmp_path: Path, layout: Layout) -> None:
    path = layout.save(tmp_path / "a.safetensors")
    found = check_lora(path)
    assert [(f.code, f.message) for f in found if f.severity != "info"] == []
    lora = read_lora(path, families())
    assert (lora.family, lora.strangers) == (layout.family, ())
    assert next(each.result for each in outcomes(lora) if each.loader == "ComfyUI") == "loads"
    total = len(layout.tensors())
    assert f"{total} of {total} tensors match" in next(f.message for f in found if f.code == "SOS-L005")


def test_the_healthy_layouts_are_thirty_of_fifteen_families() -> None:
    assert len(HEALTHY) >= 30
    assert len({layout.family for layout in HEALTHY}) >= 15


@pytest.mark.parametrize("layout", DROPPED, ids=lambda layout: layout.id)
def test_a_part_that_comfyui_passes_over_is_said_and_the_command_of_the_hint_mends_it(
    tmp_path: Path, sosie: Sosie, layout: Layout
) -> None:
    path = layout.save(tmp_path / "a.safetensors", rank=1)
    found = check_lora(path)
    assert {f.code for f in found if f.severity == "error"} == set()
    assert read_lora(path, families()).family == layout.family
    dropped = next(f for f in found if f.code == "SOS-L006")
    assert "ComfyUI drops" in dropped.message
    mended = run_hint(sosie, dropped.hint, path, tmp_path / "out.safetensors")
    lora = read_lora(mended, families())
    assert next(each.result for each in outcomes(lora) if each.loader == "ComfyUI") == "loads"
    assert [(f.code, f.message) for f in check_lora(mended) if f.severity != "info"] == []
    assert {module.name for a in lora.adapters for module in a.targets} == {
        module.name for a in read_lora(path, families()).adapters for module in a.targets
    }


def run_hint(sosie: Sosie, hint: str, path: Path, out: Path) -> Path:
    """Runs the command that a hint names, with a place for its new file."""
    command = hint.partition(", or sosie ")[2] if hint.startswith("update") else hint.removeprefix("sosie ")
    words = command.partition(", or ")[0].split()
    assert words[:2] == ["lora", "convert"]
    done = sosie(*(str(out) if word == "OUT.safetensors" else word for word in words))
    assert (done.code, str(path) in words) == (0, True), done.err
    return out


def test_what_only_an_old_comfyui_drops_is_no_alarm_and_is_said_where_an_update_helps(
    tmp_path: Path, sosie: Sosie
) -> None:
    layouts = {layout.id: layout for layout in HEALTHY}
    for name, day in (
        ("flux2-SimpleTuner-klein-9B", "2026-01-21"),
        ("flux2-LyCORIS-klein-4B", "2026-01-21"),
        ("zimage-DiffSynth", "2026-01-11"),
        ("ltx-DiffSynth", "2026-06-08"),
    ):
        path = layouts[name].save(tmp_path / f"{name}.safetensors", rank=1)
        (old,) = (f for f in check_lora(path) if f.code == "SOS-L007")
        assert f"ComfyUI before {day} drops" in old.message
        assert old.hint.startswith("update ComfyUI")
        mended = run_hint(sosie, old.hint, path, tmp_path / f"{name}.out.safetensors")
        assert "SOS-L007" not in {f.code for f in check_lora(mended)}
    musubi = next(layout for layout in DROPPED if layout.id == "zimage-musubi")
    never = {f.code for f in check_lora(musubi.save(tmp_path / "never.safetensors", rank=1))}
    assert "SOS-L007" not in never, "no update helps"


def test_alpha_in_the_metadata_only_is_written_into_the_file_of_any_family(tmp_path: Path, sosie: Sosie) -> None:
    metadata = {"lora_adapter_metadata": '{"transformer.r": 4, "transformer.lora_alpha": 1}'}
    layouts = {layout.id: layout for layout in HEALTHY}
    for name in ("flux1-ai-toolkit", "flux2-SimpleTuner-klein-9B", "qwen_image-diffusers", "sd3-diffusers"):
        layout = dataclasses.replace(layouts[name], metadata=metadata)
        path = layout.save(tmp_path / f"{name}.safetensors")
        told = next(f for f in check_lora(path) if f.code == "SOS-L011")
        assert "set its strength to 0.25" in told.hint
        lora = read_lora(run_hint(sosie, told.hint, path, tmp_path / f"{name}.out.safetensors"), families())
        assert (lora.alpha_source, lora.scales) == ("key", (0.25,))


def test_tensors_of_nobody_are_in_the_mended_file_as_they_were(tmp_path: Path, sosie: Sosie) -> None:
    layout = next(layout for layout in DROPPED if layout.id == "zimage-musubi")
    path = sparse(tmp_path / "a.safetensors", layout.tensors() | {"notes": (3, 5)}, None, 4.0)
    found = {f.code: f for f in check_lora(path)}
    assert "first notes" in found["SOS-L031"].message
    mended = run_hint(sosie, found["SOS-L006"].hint, path, tmp_path / "out.safetensors")
    assert read_lora(mended, families()).strangers == ("notes",)
