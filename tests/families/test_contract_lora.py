"""A family that another distribution brings: its LoRAs work by its own table and rules, and by nobody else's."""

from __future__ import annotations

import dataclasses
import importlib
import json
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

import sosie as package
from sosie.doctor.loras import check_lora
from sosie.families import families
from sosie.lora import LoraSupport, outcomes, read_lora

Sosie = Callable[..., Any]

FAMILY = """
from sosie.families.contract.family import Family
FAMILY = Family(name="toy", title="Toy", parts=(), {adapters})
"""

ADAPTERS = """
from sosie.lora import Loader, LoraSupport, Outcome, Variants
from sosie.lora.keymap import KeyRule
from sosie.lora.modules import Module, Table
from sosie.lora.spellings import COMFY_NAMES, KOHYA_NAMES

def modules():
    for index in range(2):
        for part, letter in enumerate("qkv"):
            yield Module("denoiser", f"stem.{index}.to_{letter}", f"stem.{index}.qkv", (8, 8), part)
        yield Module("denoiser", f"stem.{index}.double_blocks.0", f"stem.{index}.out", (8, 16))

def _toy_ui(lora):
    return Outcome("ToyUI", "loads")

ADAPTERS = LoraSupport(
    table=Table(modules),
    spellings={"comfy": COMFY_NAMES, "split": COMFY_NAMES, "kohya": KOHYA_NAMES},
    keys=(KeyRule("diffusion_model."), KeyRule("toy.", since="2026-05-01")),
    loaders=(Loader("ToyUI", _toy_ui, "tried with a toy"),),
    variants=Variants({"red": "Red", "blue": "Blue"}, lambda name: next((c for c in ("red", "blue") if c in name), "")),
)
"""


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[bool], None]]:
    """Installs a distribution with the family `toy`, with or without adapters, by its entry point."""

    def make(adapters: bool) -> None:
        site = tmp_path / "site"
        package, info = site / "sosie_toy", site / "sosie_toy-1.0.dist-info"
        for folder in (package, info):
            folder.mkdir(parents=True)
        with_adapters = "from sosie_toy.adapters import ADAPTERS\n" if adapters else ""
        (package / "adapters.py").write_text(ADAPTERS)
        how = "adapters=ADAPTERS" if adapters else ""
        (package / "__init__.py").write_text(with_adapters + FAMILY.format(adapters=how))
        (info / "METADATA").write_text("Metadata-Version: 2.1\nName: sosie-toy\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text("[sosie.families]\ntoy = sosie_toy:FAMILY\n")
        monkeypatch.syspath_prepend(site)
        importlib.invalidate_caches()
        families.cache_clear()

    yield make
    monkeypatch.undo()
    families.cache_clear()
    for name in ("sosie_toy", "sosie_toy.adapters"):
        sys.modules.pop(name, None)


def lora(path: Path, prefix: str = "diffusion_model.", metadata: dict[str, str] | None = None) -> Path:
    """A LoRA of every module of the toy, rank 2, in whole numbers."""
    random = np.random.default_rng(0)
    tensors: dict[str, np.ndarray] = {}
    for index in range(2):
        for name, columns in (("to_q", 8), ("to_k", 8), ("to_v", 8), ("double_blocks.0", 16)):
            stem = f"{prefix}stem.{index}.{name}"
            tensors[f"{stem}.lora_A.weight"] = random.integers(-8, 9, (2, columns)).astype(np.float32)
            tensors[f"{stem}.lora_B.weight"] = random.integers(-8, 9, (8, 2)).astype(np.float32)
    save_file(tensors, path, metadata)
    return path


def model(path: Path) -> Path:
    """The toy's denoiser as a single file with fused q, k, v."""
    tensors: dict[str, np.ndarray] = {}
    for index in range(2):
        tensors[f"stem.{index}.qkv.weight"] = np.ones((24, 8), np.float32)
        tensors[f"stem.{index}.out.weight"] = np.ones((8, 16), np.float32)
    save_file(tensors, path)
    return path


def plain_model(path: Path) -> Path:
    """The toy's denoiser in diffusers' names."""
    names = ("to_q", "to_k", "to_v", "double_blocks.0")
    save_file(
        {
            f"stem.{index}.{name}.weight": np.ones((8, 16 if "double" in name else 8), np.float32)
            for index in range(2)
            for name in names
        },
        path,
    )
    return path


def test_a_family_with_a_table_has_its_loras_shown_added_and_converted(
    sosie: Sosie, workspace: Path, tmp_path: Path, install: Callable[[bool], None]
) -> None:
    install(True)
    file, out = lora(tmp_path / "toy.safetensors"), tmp_path / "kohya.safetensors"
    line = json.loads(sosie("lora", "show", file, "--base", "toy", "--json").out)
    assert (line["family"], line["variant"], line["layout"]) == ("toy", "base", "comfy-split")
    assert line["coverage"] == {"matched": 16, "total": 16, "untouched": 0}
    added = sosie("lora", "add", "mira", file, "--trigger", "x", "--json", "--workspace", workspace)
    assert json.loads(added.out)["family"] == "toy"
    base = model(tmp_path / "base.safetensors")
    done = sosie("lora", "convert", file, out, "--to", "kohya", "--merge-check", base, "--json")
    assert (done.code, json.loads(done.out)["merge"]["error"]) == (0, 0)
    assert "lora_unet_stem_0_qkv.lora_down.weight" in load_file(out)
    refused = sosie("lora", "convert", file, tmp_path / "no.safetensors", "--to", "diffusers")
    assert refused.code == 2
    assert "has no layout 'diffusers'" in refused.err


def test_comfyui_reads_what_the_family_says_beside_what_it_reads_of_every_model(
    tmp_path: Path, install: Callable[[bool], None]
) -> None:
    install(True)

    def seen(prefix: str) -> dict[str, str]:
        path = lora(tmp_path / f"{prefix or 'bare'}safetensors", prefix)
        return {o.loader: o.result for o in outcomes(read_lora(path, families()))}

    assert seen("diffusion_model.") == {
        "ComfyUI before 2026-05-01": "loads",
        "ComfyUI": "loads",
        "diffusers 0.42": "unknown",
        "ToyUI": "loads",
    }
    assert (seen("")["ComfyUI"], seen("")["diffusers 0.42"]) == ("nothing", "unknown")


def test_variants_of_a_family_are_compared_by_its_own_kinship(tmp_path: Path, install: Callable[[bool], None]) -> None:
    install(True)
    file = lora(tmp_path / "a.safetensors", metadata={"ss_sd_model_name": "toy-red"})
    found = {f.code: f for f in check_lora(file, asked_for="toy-blue")}
    assert "trained on Toy Red (toy-red), asked to run on Toy Blue" in found["SOS-L020"].message
    assert found["SOS-L020"].hint == "try it on Red first"
    assert "SOS-L020" not in {f.code for f in check_lora(file, asked_for="turbo")}
    silent = {f.code: f for f in check_lora(lora(tmp_path / "b.safetensors"))}
    assert "which Toy it was trained on (Red and Blue LoRAs look the same)" in silent["SOS-L021"].message


def test_a_table_that_has_every_module_counts_for_more_than_names_of_another_model(
    tmp_path: Path, install: Callable[[bool], None]
) -> None:
    file = lora(tmp_path / "a.safetensors")
    assert read_lora(file, families()).family == ""
    install(True)
    assert read_lora(file, families()).family == "toy"


def test_a_lora_that_two_tables_have_alike_is_neithers(tmp_path: Path, install: Callable[[bool], None]) -> None:
    install(True)
    toy = next(family for family in families() if family.name == "toy")
    twins = (*families(), dataclasses.replace(toy, name="twin", title="Twin"))
    seen = read_lora(lora(tmp_path / "a.safetensors"), twins)
    assert (seen.family, seen.nearest, seen.because) == ("", "Toy", "its modules are as much those of Twin")


def test_without_adapters_a_lora_is_unknown_and_gets_no_other_familys_rules(
    sosie: Sosie, workspace: Path, tmp_path: Path, install: Callable[[bool], None]
) -> None:
    install(False)
    file = lora(tmp_path / "toy.safetensors")
    line = json.loads(sosie("lora", "show", file, "--json").out)
    assert (line["family"], line["coverage"]) == (None, None)
    assert {each["result"] for each in line["loaders"]} == {"unknown"}
    assert [f["severity"] for f in line["findings"] if f["code"] == "SOS-L002"] == ["info"]
    for command in (
        ("lora", "add", "mira", file, "--workspace", workspace),
        ("lora", "convert", file, tmp_path / "no.safetensors", "--to", "comfy"),
    ):
        done = sosie(*command)
        assert done.code == 2
        assert "unknown model" in done.err
    by_name = sosie("lora", "show", file, "--base", "toy")
    assert by_name.code == 2
    assert "no table of modules for 'toy'" in by_name.err


def test_a_lora_of_an_unknown_family_that_fits_the_model_it_is_put_on_is_no_error(
    tmp_path: Path, install: Callable[[bool], None]
) -> None:
    install(False)
    file, base = lora(tmp_path / "toy.safetensors"), plain_model(tmp_path / "base.safetensors")
    found = {f.code: f for f in check_lora(file, base)}
    assert "SOS-L002" not in found
    assert "16 of 16 tensors match base.safetensors" in found["SOS-L005"].message
    assert "not known" in found["SOS-L005"].message
    save_file({"stem.0.to_q.weight": np.ones((8, 8), np.float32)}, base)
    found = {f.code: f for f in check_lora(file, base)}
    assert (found["SOS-L002"].severity, found["SOS-L004"].severity) == ("info", "warning")


def test_an_unknown_lora_names_no_family_that_it_has_nothing_of(tmp_path: Path) -> None:
    names = {"some.thing.lora_A.weight": np.ones((2, 8)), "some.thing.lora_B.weight": np.ones((8, 2))}
    save_file({name: array.astype(np.float32) for name, array in names.items()}, tmp_path / "a.safetensors")
    message = next(f.message for f in check_lora(tmp_path / "a.safetensors") if f.code == "SOS-L002")
    assert "none of its 1 modules is known (the first is 'some.thing')" in message
    assert not any(family.title in message for family in families())


def test_what_reads_checks_and_converts_loras_names_no_family() -> None:
    source = Path(str(package.__file__)).parent
    rooms = [*(source / "lora").glob("*.py"), *source.glob("doctor/*loras.py"), *source.glob("api/lora*.py")]
    assert len(rooms) > 15
    names = {name for family in families() if family.adapters != LoraSupport() for name in (family.name, family.title)}
    named = re.compile("|".join(rf"\b{re.escape(name)}\b" for name in names), re.IGNORECASE)
    found = [(path.name, hit[0]) for path in rooms if (hit := named.search(path.read_text(encoding="utf-8")))]
    assert not found
