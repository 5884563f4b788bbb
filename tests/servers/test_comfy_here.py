"""A server on this machine: its model files are known by their headers, and its folders are not believed."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from comfy_bench import ENCODER, UNET, Recipes, codes, plan, set_behaviour
from weight_files import lora, weights

from sosie.api.comfy_graphs import open_compiler
from sosie.api.engines import open_graphs
from sosie.core import Engine, Finding, Sampler, Stage
from sosie.engines.comfy.answers import System, read_folders
from sosie.engines.comfy.fake import Behaviour, FakeServer, Scripted
from sosie.engines.comfy.names import places
from sosie.engines.comfy.program import FileUse
from sosie.servers import doctor
from sosie.servers.doctor import is_here
from sosie.workspace.bill import resolve
from sosie.workspace.session import Session
from sosie.workspace.workspace import Workspace, open_workspace

Sosie = Callable[..., Any]
HERE = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


@pytest.fixture
def models(tmp_path: Path) -> Path:
    folder = tmp_path / "comfy" / "models"
    for kind in ("loras", "diffusion_models", "text_encoders"):
        (folder / kind).mkdir(parents=True)
    (folder / "diffusion_models" / UNET).write_bytes(weights(4))
    return folder


@pytest.fixture
def here(tmp_path: Path) -> Workspace:
    (tmp_path / "w").mkdir()
    return open_workspace(tmp_path / "w")


@pytest.fixture
def server(models: Path) -> Iterator[FakeServer]:
    with FakeServer(Behaviour(ram=HERE)) as fake:
        tell(fake, {folder.name: [str(folder)] for folder in models.iterdir()})
        yield fake


def tell(server: FakeServer, folders: object) -> None:
    set_behaviour(server, scripted={"/internal/folder_paths": Scripted(body=json.dumps(folders).encode())})


def opened(here: Workspace, *servers: FakeServer) -> Engine:
    return open_graphs(Session(here), "comfy:" + ",".join(server.url for server in servers), Recipes())


def checked(here: Workspace, *servers: FakeServer) -> list[Finding]:
    engine = opened(here, *servers)
    try:
        return engine.check(plan(1))
    finally:
        engine.close()


def draw(here: Workspace, server: FakeServer) -> None:
    engine = opened(here, server)
    engine.check(plan(1))
    list(engine.run([plan(1)]))
    engine.close()


def test_a_file_that_a_plan_uses_is_known_by_its_header(here: Workspace, server: FakeServer, models: Path) -> None:
    (models / "diffusion_models" / "other.safetensors").write_bytes(weights(4)[:-99])
    assert [f.subject for f in checked(here, server) if f.code == "SOS-F101"] == [
        str(models / "diffusion_models" / UNET)
    ]
    (models / "diffusion_models" / UNET).write_bytes(weights(4)[:-99])
    (broken,) = [f for f in checked(here, server) if f.code == "SOS-F100"]
    assert broken.severity == "error"


def test_a_file_that_was_replaced_is_read_anew_by_the_server(here: Workspace, server: FakeServer, models: Path) -> None:
    for _ in range(2):
        draw(here, server)
    assert server.count("POST", "/free") == 0
    (models / "diffusion_models" / UNET).write_bytes(weights(5))
    draw(here, server)
    assert server.count("POST", "/free") == 1


def test_a_file_that_changes_between_two_checks_of_one_engine_is_looked_at_anew(
    here: Workspace, server: FakeServer, models: Path
) -> None:
    engine = opened(here, server)
    assert "SOS-F100" not in codes(engine.check(plan(1)))
    (models / "diffusion_models" / UNET).write_bytes(weights(4)[:-99])
    assert "SOS-F100" in codes(engine.check(plan(2)))
    engine.close()


@pytest.mark.parametrize("ram", [0, HERE - 4096])
def test_the_files_here_are_not_taken_for_those_of_another_machine(
    here: Workspace, server: FakeServer, models: Path, ram: int
) -> None:
    """A port of this machine may be the near end of a tunnel."""
    (models / "diffusion_models" / UNET).write_bytes(weights(4)[:-99])
    set_behaviour(server, ram=ram)
    assert "SOS-F100" not in codes(checked(here, server))
    assert server.count("GET", "/internal/folder_paths") == 0


def test_a_machine_is_this_one_by_its_memory_to_the_byte(monkeypatch: pytest.MonkeyPatch) -> None:
    assert is_here(System(ram=HERE))
    assert not is_here(System(ram=HERE + 1))
    monkeypatch.setattr(doctor, "machine_memory", lambda: None)
    assert not is_here(System())


def test_a_server_that_is_not_there_or_tells_nothing_is_no_error_of_the_doctor(here: Workspace) -> None:
    with FakeServer(Behaviour(ram=HERE)) as silent:
        assert [f for f in checked(here, silent) if f.severity == "error"] == []
    assert [f.code for f in checked(here, silent) if f.severity == "error"] == ["SOS-Y001"]


@pytest.mark.parametrize(
    "told",
    [
        [],
        {"loras": "/etc"},
        {"loras": [7, None, ["/"], "", "relative/models", "~/models", "/a\0b", "/x" * 4000]},
        {"loras": ["/"]},
        {"custom_nodes": ["MODELS"], "output": ["MODELS"]},
    ],
)
def test_nonsense_in_place_of_folders_lists_nothing(
    here: Workspace, server: FakeServer, models: Path, told: Any
) -> None:
    (models / "diffusion_models" / UNET).write_bytes(weights(4)[:-99])
    tell(server, json.loads(json.dumps(told).replace("MODELS", str(models))))
    assert "SOS-F100" not in codes(checked(here, server))


def test_no_more_folders_are_believed_than_a_server_has() -> None:
    many = {str(kind): [f"/m/{kind}/{number}" for number in range(100)] for kind in range(100)}
    found: Mapping[str, tuple[str, ...]] = read_folders(many)
    assert sum(map(len, found.values())) == 256


def test_a_name_with_a_folder_of_its_own_is_not_any_file_of_that_name() -> None:
    paths = ["/m/controlnet/pose/model.safetensors", "/m/controlnet/InstantID/model.safetensors"]
    use = FileUse("1", "x", ("instantid/model.safetensors", "instantid_model.safetensors"))
    assert places(use, paths) == [paths[1]]
    assert places(use, paths[:1]) == paths[:1]
    assert places(FileUse("1", "x", ("other.safetensors",)), paths) == []
    assert places(FileUse("1", "x", ("sub\\MODEL.safetensors",)), ["C:\\m\\sub\\model.safetensors"])


def test_a_detector_of_ultralytics_is_a_warning_where_another_such_pickle_is_an_error() -> None:
    from sosie.servers.doctor import on_detector

    def finding(what: str) -> Finding:
        return Finding("SOS-K001", "error", "f", f"/m/f.pt holds {what}, which is not a tensor", "do not load it")

    assert on_detector(finding("ultralytics.nn.tasks.DetectionModel")).severity == "warning"
    assert on_detector(finding("posix.system")).severity == "error"
    assert on_detector(replace(finding("ultralytics.x"), code="SOS-K002")).severity == "error"


def test_the_doctor_names_each_file_of_a_server_here_and_mends_none(
    sosie: Sosie, here: Workspace, server: FakeServer, models: Path
) -> None:
    (models / "loras" / "c.safetensors").write_bytes(lora(8.0))
    (models / "text_encoders" / ENCODER).write_bytes(b"<html>")
    result = sosie("doctor", f"comfy:{server.url}", "--json", "--workspace", here.root)
    lines = [json.loads(line) for line in result.out.splitlines()]
    files = {Path(line["subject"]).name: line for line in lines if line["kind"] in ("model", "lora")}
    assert set(files) == {UNET, "c.safetensors", ENCODER}
    assert files["c.safetensors"]["kind"] == "lora"
    assert {line["path"] for line in files.values()} == {None}
    assert any(found["code"] == "SOS-F100" for found in files[ENCODER]["findings"])
    asked = sosie("doctor", f"comfy:{server.url}", "--recipe", "zimage", "--json", "--workspace", here.root)
    used = [json.loads(line) for line in asked.out.splitlines()]
    assert {Path(line["subject"]).name for line in used if line["kind"] in ("model", "lora")} == {UNET, ENCODER}


def test_generate_warns_of_a_gpu_with_less_memory_than_the_recipe_wants(here: Workspace, server: FakeServer) -> None:
    stage = Stage("generate", "zimage", UNET, ENCODER, "ae", sampler=Sampler("res_multistep", "simple", 4, 4.0))
    set_behaviour(server, memory=8 * 2**30)
    with Session(here) as session:
        compiler = open_compiler(session, resolve(session.workspace, (stage,), remote=True))
        assert compiler.supplies.memory > 12 * 10**9
        engine = open_graphs(session, f"comfy:{server.url}", compiler)
        planned = replace(plan(1), stages=(stage,), width=1024, height=1024)
        (warning,) = [f for f in engine.check(planned) if f.code == "SOS-Y007"]
        assert (warning.severity, "8.0 GiB" in warning.message) == ("warning", True)
        set_behaviour(server, memory=24 * 2**30)
        again = open_graphs(session, f"comfy:{server.url}", compiler)
        assert "SOS-Y007" not in codes(again.check(planned))
        engine.close()
        again.close()
