"""Memory that runs out while an image is drawn: the next cheaper mode, said, or an error that helps."""

from __future__ import annotations

import importlib
from dataclasses import replace
from typing import Any

import pytest
from PIL import Image

from sosie.core import Character, Draw, Guide, Keypoints, Plan, Recipe, Request, Sampler, Stage, Upscale, plan
from sosie.core.errors import EngineError, UsageError
from sosie.core.plan import asset_names
from sosie.diffusion.memory import Estimate, MemoryMode
from sosie.families.contract.draws import Settings, StageInput, StageOutput
from sosie.families.sdxl.memory import estimates, needs_of

pytestmark = pytest.mark.local

GUIDE = Guide("instantid", "adapter", "encoder", keypoints=Keypoints("net"))
STAGES = (
    Stage("generate", "sdxl", "model", sampler=Sampler(cfg=4.0)),
    Stage("detail", "sdxl", "model", sampler=Sampler(cfg=1.0), guides=(GUIDE,)),
    Stage("upscale", "esrgan", "4x", upscale=Upscale(4.0, tile=384)),
)
RECIPE = Recipe("r", STAGES, "{prompt}", 1024, 1536)
GB = 10**9


def planned() -> Plan:
    assets = dict.fromkeys(asset_names(STAGES), "0" * 64)
    return plan(RECIPE, Character("mira", "fictional", True), Request("r", "mira", "x"), Draw(), assets)


def needs(made: Plan) -> tuple[Estimate, ...]:
    return estimates(needs_of(made, accelerated=True))


def memory_mode(monkeypatch: pytest.MonkeyPatch, free: int, memory: str = "auto") -> MemoryMode:
    monkeypatch.setattr("torch.cuda.mem_get_info", lambda: (free, 80 * GB))
    return MemoryMode("cuda", memory, needs)


def test_a_plans_stages_are_counted_as_they_are_drawn() -> None:
    works = needs_of(planned()).works
    assert [(work.kind, work.width, work.height, work.controls, work.rows) for work in works] == [
        ("generate", 1024, 1536, 0, 2),
        ("detail", 1024, 1024, 1, 1),
        ("upscale", 384, 384, 0, 2),
    ]
    assert works[1].guides == ("instantid",)


def test_the_fastest_mode_that_fits_is_taken_and_said_once(monkeypatch: pytest.MonkeyPatch) -> None:
    large, small = memory_mode(monkeypatch, 80 * GB), memory_mode(monkeypatch, 80 * GB)
    assert large.mode(planned()) == "full"
    (finding,) = large.findings()
    assert (finding.code, finding.severity) == ("SOS-E028", "info")
    assert "'full'" in finding.message
    assert large.findings() == ()
    small = memory_mode(monkeypatch, 9 * GB)
    assert small.mode(planned()) not in ("full", "tiled")


def test_a_forced_mode_is_taken_and_never_left(monkeypatch: pytest.MonkeyPatch) -> None:
    forced = memory_mode(monkeypatch, 80 * GB, "sequential")
    assert forced.mode(planned()) == "sequential"
    with pytest.raises(EngineError, match="mode 'sequential'"):
        forced.fall_back(STAGES[0], planned(), "CUDA out of memory.\nMore lines")


def test_memory_that_runs_out_leads_to_the_next_cheaper_mode_until_none_is_left(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made = memory_mode(monkeypatch, 80 * GB)
    assert made.mode(planned()) == "full"
    made.findings()
    for mode in ("tiled", "offload", "fp8", "sequential"):
        made.fall_back(STAGES[1], planned(), "CUDA out of memory")
        assert made.mode(planned()) == mode
        (finding,) = made.findings()
        assert (finding.code, finding.severity) == ("SOS-E027", "warning")
        assert f"'{mode}'" in finding.message
    with pytest.raises(EngineError, match="does not fit"):
        made.fall_back(STAGES[1], planned(), "CUDA out of memory")


def test_an_unknown_mode_names_the_nearest() -> None:
    with pytest.raises(UsageError, match="did you mean 'tiled'"):
        MemoryMode("cuda", "tield", needs)


def given() -> StageInput:
    made = planned()
    return StageInput(made.stages[0], made, 0, None, {}, None, lambda _done, _steps: None)  # type: ignore[arg-type]


def test_the_runner_draws_again_where_memory_ran_out_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    torch: Any = importlib.import_module("torch")
    runner_module: Any = importlib.import_module("sosie.families.sdxl.on_diffusers")
    runner = runner_module.Runner("cpu", Settings())
    runner._pipelines._memory = memory_mode(monkeypatch, 80 * GB)
    runner._pipelines._memory.mode(planned())
    tries: list[str | None] = []

    def stage(_given: StageInput) -> StageOutput:
        tries.append(runner._pipelines._memory.mode(planned()))
        if len(tries) < 3:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")
        return StageOutput(Image.new("RGB", (64, 64)))

    monkeypatch.setattr(runner, "_stage", stage)
    output = runner.run(given())
    assert tries == ["full", "tiled", "offload"]
    assert [finding.code for finding in output.findings] == ["SOS-E028", "SOS-E027", "SOS-E027"]


def test_memory_of_the_cpu_that_runs_out_is_an_error_that_helps(monkeypatch: pytest.MonkeyPatch) -> None:
    torch: Any = importlib.import_module("torch")
    runner_module: Any = importlib.import_module("sosie.families.sdxl.on_diffusers")
    runner = runner_module.Runner("cpu", Settings())

    def stage(_given: StageInput) -> StageOutput:
        raise torch.OutOfMemoryError("not enough memory: you tried to allocate 9 bytes")

    monkeypatch.setattr(runner, "_stage", stage)
    with pytest.raises(EngineError, match="does not fit the memory") as caught:
        runner.run(given())
    assert "smaller image" in caught.value.hint


def test_a_plan_that_only_works_on_a_given_picture_counts_its_own_stages() -> None:
    made = replace(planned(), stages=STAGES[1:])
    assert [work.kind for work in needs_of(made).works] == ["detail", "upscale"]
