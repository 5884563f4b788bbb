"""A family that another distribution brings does all that a shipped one does; a part that it lacks is its own error.

The family is `tests/support/toy`: nothing in the house knows it.
"""

from __future__ import annotations

import importlib
import json
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from places import ROOT
from safetensors.numpy import load_file, save_file
from seen_once import look_once

from sosie.engines.comfy.fake import Behaviour, FakeServer
from sosie.families import families
from sosie.graph.nodes import forget

Sosie = Callable[..., Any]
Install = Callable[[str], None]

TOY = ROOT / "tests" / "support" / "toy"

RECIPE = """
name = "toys"
prompt = "{trigger}, portrait of {description}, {prompt}"
width = 320
height = 320

[[stages]]
kind = "generate"
family = "toy"
model = "toy"

[[stages.loras]]
file = "character"

[stages.sampler]
steps = 2
cfg = 1.0

[[stages.guides]]
kind = "toyface"
weights = "toyface"
encoder = "w600k_r50"

[training]
steps = 2
rank = 2
alpha = 2.0
resolution = 64
min_snr = 0.0
save_every = 2
sample_every = 2
prompts = ["smiling"]
"""

SMALL_CARD = """name, compute_cap, memory.total [MiB], memory.free [MiB], driver_version
NVIDIA GeForce RTX 3050, 8.6, 4096 MiB, 4000 MiB, 575.57.08
"""

HALF = """
from dataclasses import replace
from sosie_toy.family import FAMILY as WHOLE
from sosie.families.contract.family import Family
FAMILY = replace(WHOLE, {part}=getattr(Family("toy", "Toy", ()), "{part}"))
"""


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Install]:
    """Installs the toy as a distribution with an entry point, whole or without one of its parts."""
    look_once(monkeypatch)

    def make(without: str = "") -> None:
        site = tmp_path / f"site{without}"
        shutil.copytree(TOY, site)
        if without:
            (site / "sosie_toy" / "__init__.py").write_text(HALF.format(part=without))
        info = site / "sosie_toy-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text("Metadata-Version: 2.1\nName: sosie-toy\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text("[sosie.families]\ntoy = sosie_toy:FAMILY\n")
        monkeypatch.syspath_prepend(site)
        monkeypatch.setenv("PYTHONPATH", str(site), prepend=":")
        _forget()

    yield make
    monkeypatch.undo()
    _forget()


def _forget() -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] == "sosie_toy"]:
        del sys.modules[name]
    importlib.invalidate_caches()
    families.cache_clear()
    forget()


@pytest.fixture
def toys(workspace: Path) -> Path:
    """A workspace with the toy's files and its recipe."""
    for folder in ("models", "recipes"):
        (workspace / folder).mkdir(exist_ok=True)
    numbers = np.random.default_rng(0)
    tensors = {"toy.embed.weight": numbers.random((8, 3), np.float32)}
    for index in range(2):
        tensors[f"stem.{index}.qkv.weight"] = numbers.random((24, 8), np.float32)
        tensors[f"stem.{index}.out.weight"] = numbers.random((8, 16), np.float32)
    save_file(tensors, workspace / "models" / "toy.safetensors")
    save_file({"toy_face.weight": numbers.random((2, 2), np.float32)}, workspace / "models" / "toyface.safetensors")
    (workspace / "models" / "w600k_r50.onnx").write_bytes(b"not opened: the toy looks at pictures")
    (workspace / "recipes" / "toys.toml").write_text(RECIPE)
    return workspace


def codes(findings: list[dict[str, str]], severity: str = "error") -> set[str]:
    return {finding["code"] for finding in findings if finding["severity"] == severity}


def objects(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


def test_the_doctor_knows_a_file_and_a_recipe_of_the_toy(sosie: Sosie, toys: Path, install: Install) -> None:
    install("")
    file = toys / "models" / "toy.safetensors"
    known, recipe = objects(sosie("doctor", file, "toys", "--json", "--workspace", toys).out)
    assert (known["family"], known["role"]) == ("toy", "checkpoint")
    assert codes(known["findings"]) | codes(recipe["findings"]) == set()


@pytest.mark.local
def test_the_toy_draws_and_its_image_is_judged_and_recorded(
    sosie: Sosie, toys: Path, tmp_path: Path, install: Install
) -> None:
    install("")
    done = draw(sosie, toys, tmp_path)
    assert done.code == 0, done.err
    (line,) = objects(done.out)
    assert (line["verdict"], Path(line["image"]).parent) == ("keep", tmp_path / "out")


def test_the_toy_is_drawn_as_nodes_of_its_own(sosie: Sosie, toys: Path, install: Install) -> None:
    install("")
    done = sosie("recipe", "show", "toys", "--as", "comfy", "--character", "mira", "--workspace", toys)
    assert done.code == 0, done.err
    kinds = [node["class_type"] for node in json.loads(done.out).values()]
    assert kinds == ["ToyLoader", "LoadImage", "ToyFace", "ToySampler", "SaveImage"]


def test_the_toy_is_drawn_by_a_comfyui_that_has_its_nodes(
    sosie: Sosie, toys: Path, tmp_path: Path, references: list[Path], install: Install
) -> None:
    install("")
    files = {"checkpoints": ("toy.safetensors",)}
    for lacks, code in ((frozenset[str](), 0), (frozenset({"ToySampler"}), 2)):
        with FakeServer(Behaviour(files=files, lacks=lacks, pictures=(references[0],))) as fake:
            done = draw(sosie, toys, tmp_path, "--engine", f"comfy:{fake.url}")
        assert done.code == code, done.err
    assert "the server has no ToySampler; the pack 'Toys' brings it" in done.err
    assert "install https://example.org/toys" in done.err


@pytest.mark.local
def test_a_lora_of_the_toy_is_shown_converted_and_added(
    sosie: Sosie, toys: Path, tmp_path: Path, install: Install
) -> None:
    install("")
    file, kohya = lora(tmp_path / "a.safetensors"), tmp_path / "kohya.safetensors"
    (shown,) = objects(sosie("lora", "show", file, "--json", "--workspace", toys).out)
    assert (shown["family"], codes(shown["findings"])) == ("toy", set())
    assert sosie("lora", "convert", file, kohya, "--to", "kohya").code == 0
    assert "lora_unet_stem_0_qkv.lora_down.weight" in load_file(kohya)
    done = sosie("lora", "add", "mira", file, "--trigger", "m1ra", "--workspace", toys)
    assert done.code == 0, done.err
    assert "m1ra" in objects(draw(sosie, toys, tmp_path).out)[0]["prompt"]


@pytest.mark.local
def test_a_lora_of_the_toy_is_trained_and_given_to_the_character(
    sosie: Sosie, toys: Path, tmp_path: Path, install: Install
) -> None:
    install("")
    done = sosie("train", "mira", "--recipe", "toys", "--device", "cpu", "--json", "--workspace", toys)
    assert done.code == 0, done.err
    (line,) = objects(done.out)
    assert line["given_to"] == ["mira"]
    assert 'family = "toy"' in (toys / "characters" / "mira" / "character.toml").read_text()
    (shown,) = objects(sosie("lora", "show", line["path"], "--json", "--workspace", toys).out)
    assert (shown["family"], shown["coverage"]) == ("toy", {"matched": 18, "total": 18, "untouched": 0})
    assert draw(sosie, toys, tmp_path).code == 0


def test_memory_disk_and_precision_are_judged_by_the_toys_own_figures(
    sosie: Sosie, toys: Path, install: Install
) -> None:
    install("")
    (toys / "models" / "toy.safetensors").rename(toys / "away.safetensors")
    asked = ("doctor", "toys", "--quota", "50GB", "--training", "1000", "--json", "--workspace", toys)
    (line,) = objects(sosie(*asked).out)
    rows = {row["part"]: row["bytes"] for row in line["disk"]["rows"]}
    assert (rows["models"], rows["downloads"]) == (5_000, 2 * 4_000)
    assert rows["checkpoints"] == (4 + 1 + 2 * 2) * 2 * 1_000
    (line,) = objects(sosie("doctor", "toys", "--precision", "fp16", "--json", "--workspace", toys).out)
    assert "toys overflow fp16" in {f["code"]: f["message"] for f in line["findings"]}["SOS-T040"]
    (toys / "smi.txt").write_text(SMALL_CARD)
    machine, _ = objects(sosie("doctor", "toys", "--from", toys / "smi.txt", "--json", "--workspace", toys).out)
    needed = 7 * 10**9 // 2**20
    assert f"needs about {needed:,} MiB" in {f["code"]: f["message"] for f in machine["findings"]}["SOS-H040"]


# Half a family


def test_without_a_runner_generate_names_the_engine_that_can(
    sosie: Sosie, toys: Path, tmp_path: Path, install: Install
) -> None:
    install("on_diffusers")
    done = draw(sosie, toys, tmp_path)
    assert (done.code, done.out) == (2, "")
    assert "error SOS-E018: " in done.err
    assert "Toy cannot be drawn in this process; families that can: esrgan, flux2, sdxl, zimage" in done.err
    assert "comfy:URL" in done.err


def test_without_nodes_and_without_graphs_comfyui_is_not_asked(sosie: Sosie, toys: Path, install: Install) -> None:
    install("on_comfy")
    done = sosie("recipe", "show", "toys", "--as", "comfy", "--workspace", toys)
    assert done.code != 0
    assert "Sosie draws no graphs for Toy; families that can: esrgan, flux2, sdxl, zimage" in done.err


def test_without_a_trainer_a_training_says_which_families_have_one(sosie: Sosie, toys: Path, install: Install) -> None:
    install("trains")
    done = sosie("train", "mira", "--recipe", "toys", "--workspace", toys)
    assert done.code == 2
    assert "Toy cannot be trained; families that can: flux2, sdxl, zimage" in done.err


def test_without_adapters_a_lora_is_not_known_and_not_delivered(
    sosie: Sosie, toys: Path, tmp_path: Path, install: Install
) -> None:
    install("adapters")
    file = lora(tmp_path / "a.safetensors")
    (shown,) = objects(sosie("lora", "show", file, "--json", "--workspace", toys).out)
    assert shown["family"] is None
    assert "SOS-L002" in {finding["code"] for finding in shown["findings"]}
    assert not any(family.title in json.dumps(shown) for family in families())


def test_without_figures_nothing_is_estimated(sosie: Sosie, toys: Path, install: Install) -> None:
    install("figures")
    (toys / "models" / "toy.safetensors").rename(toys / "away.safetensors")
    asked = ("doctor", "toys", "--quota", "50GB", "--training", "1000", "--precision", "fp16")
    (line,) = objects(sosie(*asked, "--json", "--workspace", toys).out)
    rows = {row["part"]: row["bytes"] for row in line["disk"]["rows"]}
    assert "checkpoints" not in rows
    assert rows["models"] < 5_000
    assert "SOS-T040" not in codes(line["findings"])


def test_without_guides_a_recipes_guide_is_not_allowed(
    sosie: Sosie, toys: Path, tmp_path: Path, install: Install
) -> None:
    install("guides")
    done = draw(sosie, toys, tmp_path)
    assert done.code == 2
    assert "stages[0].guides[0].kind = 'toyface' is not allowed" in done.err


def test_without_partners_no_settings_are_expected(sosie: Sosie, toys: Path, install: Install) -> None:
    recipe = toys / "recipes" / "toys.toml"
    recipe.write_text(recipe.read_text().replace("steps = 2\ncfg", "steps = 40\ncfg", 1))
    install("")
    assert "SOS-R020" in told(sosie, toys)
    install("partners")
    assert not {code for code in told(sosie, toys) if code.startswith("SOS-R02")}


def test_without_parts_a_file_is_not_known(sosie: Sosie, toys: Path, install: Install) -> None:
    install("parts")
    (known,) = objects(sosie("doctor", toys / "models" / "toy.safetensors", "--json", "--workspace", toys).out)
    assert known["family"] is None


def draw(sosie: Sosie, toys: Path, tmp_path: Path, *more: str) -> Any:
    out = tmp_path / "out"
    return sosie("generate", "mira", "x", "--recipe", "toys", "--workspace", toys, "--out", out, "--json", *more)


def told(sosie: Sosie, toys: Path) -> set[str]:
    (line,) = objects(sosie("doctor", "toys", "--json", "--workspace", toys).out)
    return {finding["code"] for finding in line["findings"]}


def lora(path: Path) -> Path:
    numbers = np.random.default_rng(1)
    tensors: dict[str, np.ndarray] = {}
    for index in range(2):
        for letter in "qkv":
            stem = f"diffusion_model.stem.{index}.to_{letter}"
            tensors[f"{stem}.lora_A.weight"] = numbers.random((2, 8), np.float32)
            tensors[f"{stem}.lora_B.weight"] = numbers.random((8, 2), np.float32)
    save_file(tensors, path)
    return path
