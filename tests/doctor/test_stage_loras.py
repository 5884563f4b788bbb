"""LoRAs in their place: what a node reaches of them, and models that descend from the one that they are for."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

from lora_layouts import HEALTHY, Layout, Shape, sparse

from sosie.core import Finding
from sosie.doctor.assembly import Assembly, LoraPart, PlacedFile
from sosie.doctor.fit.stage_loras import check_stage_loras
from sosie.families import families, find_family
from sosie.files.model_file import ModelFile
from sosie.files.safetensors import read_header
from sosie.lora import read_lora

LAYOUTS = {layout.id: layout for layout in HEALTHY}


def model(path: Path, family: str) -> PlacedFile:
    """A single file with every weight of a family's table."""
    known = find_family(family)
    assert known is not None
    assert known.adapters.table is not None
    tensors: dict[str, Shape] = {}
    for (component, single), modules in known.adapters.table.wholes.items():
        if component == "denoiser":
            rows = sum(module.shape[0] for module in modules)
            tensors[f"model.diffusion_model.{single}.weight"] = (rows, math.prod(modules[0].shape[1:]))
    file = sparse(path, tensors)
    what = ModelFile(file, "denoiser", family, "base", "single file", "bf16", 0, 0)
    return PlacedFile(file.name, file, what, None, read_header(file))


def found(
    tmp_path: Path, layout: Layout, base: PlacedFile | None, family: str, denoiser_only: bool = False
) -> Sequence[Finding]:
    """What is said of a LoRA on a model."""
    path = layout.save(tmp_path / "a.safetensors", rank=1)
    part = PlacedFile(path.name, path, None, read_lora(path, families()))
    stage = Assembly("w.json", "KSampler 3", family, base, loras=(LoraPart(part, 1.0, denoiser_only),))
    return check_stage_loras(stage)


def codes(findings: Sequence[Finding]) -> set[str]:
    return {finding.code for finding in findings}


def test_a_text_encoders_part_has_no_effect_where_the_model_alone_is_given(tmp_path: Path) -> None:
    layout, base = LAYOUTS["sdxl-kohya"], model(tmp_path / "sdxl.safetensors", "sdxl")
    texts = sum(name.startswith("lora_te1_") for name in layout.tensors())
    drawn = len(layout.tensors()) - texts
    told = {f.code: f for f in found(tmp_path, layout, base, "sdxl", denoiser_only=True)}
    assert f"{drawn} of {drawn} tensors match" in told["SOS-L005"].message
    assert f"{texts} of its tensors are for text encoders" in told["SOS-L017"].message
    assert "LoraLoader" in told["SOS-L017"].hint
    both = found(tmp_path, layout, base, "sdxl")
    assert codes(both) == {"SOS-L005"}
    assert f"{drawn + texts} of {drawn + texts} tensors match" in both[0].message
    without = found(tmp_path, LAYOUTS["zimage-ai-toolkit"], model(tmp_path / "z.safetensors", "zimage"), "zimage", True)
    assert codes(without) <= {"SOS-L005", "SOS-L021"}


def test_a_lora_fits_a_model_that_descends_from_its_own(tmp_path: Path) -> None:
    chroma = model(tmp_path / "chroma.safetensors", "chroma")
    assert codes(found(tmp_path, LAYOUTS["flux1-ai-toolkit"], chroma, "chroma")) == {"SOS-L005"}
    blocks = LAYOUTS["flux1-BFL-names"].blocks
    modulated = Layout(
        "flux1", "modulated", (*blocks, ("diffusion_model.double_blocks.{}.", 19, {"img_mod.lin": (18432, 3072)}))
    )
    assert "SOS-L004" in codes(found(tmp_path, modulated, chroma, "chroma"))
    assert "SOS-R014" not in codes(found(tmp_path, modulated, chroma, "chroma"))


def test_a_lora_of_another_family_is_an_error_and_one_on_a_model_that_is_not_known_is_none(tmp_path: Path) -> None:
    zimage = model(tmp_path / "z.safetensors", "zimage")
    assert codes(found(tmp_path, LAYOUTS["sdxl-kohya"], zimage, "zimage")) == {"SOS-R014"}
    assert codes(found(tmp_path, LAYOUTS["sdxl-kohya"], None, "zimage")) == {"SOS-R014"}
    assert {f.severity for f in found(tmp_path, LAYOUTS["sdxl-kohya"], None, "")} <= {"info"}
    unknown = Layout("", "of nobody", (("diffusion_model.towers.{}.", 9, {"mix": (64, 64)}),))
    assert {f.severity for f in found(tmp_path, unknown, None, "")} <= {"info"}
    assert {f.severity for f in found(tmp_path, unknown, zimage, "zimage")} <= {"info"}


def test_a_lora_of_another_size_of_the_same_family_matches_nothing(tmp_path: Path) -> None:
    klein = model(tmp_path / "klein9b.safetensors", "flux2")
    assert codes(found(tmp_path, LAYOUTS["flux2-ai-toolkit-klein-9B"], klein, "flux2")) == {"SOS-L005"}
    assert "SOS-L003" in codes(found(tmp_path, LAYOUTS["flux2-ai-toolkit-klein-4B"], klein, "flux2"))
