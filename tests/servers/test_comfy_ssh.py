"""ComfyUI by its address: through a tunnel with the doctor on the far machine, and from the command line."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from comfy_bench import (
    LORA,
    UNET,
    Recipes,
    plan,
)
from far_machine import SMI, FarMachine, far_machine
from json_lines import codes as codes_of
from json_lines import lines
from PIL import Image
from processes import runs, until
from weight_files import lora, weights

from sosie.api.engines import Workers, open_engine, open_graphs
from sosie.core import Character, Engine, Finding, Plan, Render, Stage
from sosie.core.errors import EngineError, NotFoundError, UsageError
from sosie.core.recipe import LoraUse
from sosie.engines.comfy.fake import Behaviour, FakeServer, Scripted
from sosie.engines.comfy.program import FileUse, GraphProgram
from sosie.machines.ssh import Host, SshError
from sosie.machines.ssh import command as command_module
from sosie.machines.ssh.trouble import X001
from sosie.pods.pod import Pod, save_pod
from sosie.servers.address import RemoteServer, parse_remote
from sosie.servers.stamps import Stamps
from sosie.workspace.bill import Bill, resolve
from sosie.workspace.session import Session
from sosie.workspace.workspace import Workspace, open_workspace

pytestmark = pytest.mark.once

Sosie = Callable[..., Any]
DF = "echo Filesystem 1024-blocks Used Available Capacity Mounted; echo x 100000000 0 90000000 1% /"


@pytest.fixture
def far(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FarMachine]:
    command_module._is_strict.cache_clear()
    machine = far_machine(tmp_path, lambda path: monkeypatch.setenv("PATH", path))
    for folder in ("loras", "diffusion_models"):
        (machine.root / "models" / folder).mkdir(parents=True)
    (machine.root / "models" / "diffusion_models" / UNET).write_bytes(weights(4))
    machine.program("nvidia-smi", f"cat <<'END'\n{SMI}\nEND")
    machine.program("df", DF)
    yield machine
    command_module._is_strict.cache_clear()


@pytest.fixture
def here(tmp_path: Path) -> Workspace:
    (tmp_path / "w" / "models").mkdir(parents=True)
    (tmp_path / "w" / "models" / LORA).write_bytes(lora(8.0))
    return open_workspace(tmp_path / "w")


@pytest.fixture
def server(far: FarMachine) -> Iterator[FakeServer]:
    told = {"loras": [f"{far.root}/models/loras", f"{far.root}/nobody/made/this"], "custom_nodes": ["/"]}
    told["diffusion_models"] = [f"{far.root}/models/diffusion_models"]
    scripted = {"/internal/folder_paths": Scripted(body=json.dumps(told).encode())}
    with FakeServer(Behaviour(scripted=scripted)) as fake:
        yield fake


class WithLora(Recipes):
    """Recipes whose graph names the LoRA as a file of its own."""

    def __call__(self, plan: Plan, *, smaller: bool = False) -> GraphProgram:
        program = super().__call__(plan, smaller=smaller)
        (step,) = program.steps
        files = (*step.draft.files, FileUse("11", "lora_name", (LORA,), "LoRA"))
        return replace(program, steps=(replace(step, draft=replace(step.draft, files=files)),))


def address(server: FakeServer, folder: str = "") -> str:
    return f"comfy+ssh://root@far:40022{folder}?port={server.url.rpartition(':')[2]}"


def with_lora(seed: int = 1) -> Plan:
    made = plan(seed)
    return replace(made, stages=(replace(made.stages[0], loras=(LoraUse("character", 1.0),)),))


def opened(here: Workspace, name: str) -> Engine:
    return open_graphs(Session(here), name, WithLora(lora=True))


def codes(findings: list[Finding]) -> list[str]:
    return [finding.code for finding in findings]


@pytest.mark.parametrize(
    ("text", "server"),
    [
        ("comfy+ssh://root@203.0.113.7:40022", RemoteServer(Host("203.0.113.7", "root", 40022))),
        ("comfy+ssh://Pod", RemoteServer(Host("Pod"))),
        (
            "comfy+ssh://me@pod:22/workspace/ComfyUI/?port=18188",
            RemoteServer(Host("pod", "me", 22), "/workspace/ComfyUI", 18188),
        ),
    ],
)
def test_an_address_names_machine_folder_and_port(text: str, server: RemoteServer) -> None:
    assert parse_remote(text) == (server,)


@pytest.mark.parametrize(
    "text",
    [
        "comfy+ssh://root:s3cret@far",
        "comfy+ssh://far?port=0",
        "comfy+ssh://far?port=1&port=2",
        "comfy+ssh://far?token=s3cret",
        "comfy+ssh://-oProxyCommand=x",
        "comfy+ssh://a,http://b",
        "comfy+ssh://a,comfy+ssh://a",
    ],
)
def test_other_addresses_are_refused_without_repeating_secrets(text: str) -> None:
    with pytest.raises(UsageError) as error:
        parse_remote(text)
    assert "s3cret" not in error.value.message


def test_images_come_through_the_tunnel_and_closing_ends_it(
    far: FarMachine, here: Workspace, server: FakeServer
) -> None:
    engine = opened(here, address(server))
    assert engine.name.startswith("comfy:ssh:far:40022/")
    made = [event for event in engine.run([plan(1)]) if isinstance(event, Render)]
    assert len(made) == 1
    pid = far.calls[0]["pid"]
    assert runs(pid)
    engine.close()
    assert until(lambda: not runs(pid))


def test_the_doctor_looks_at_machine_and_files_and_brings_the_lora(
    far: FarMachine, here: Workspace, server: FakeServer
) -> None:
    far.behave(new_key=True)
    engine = opened(here, address(server))
    findings = engine.check(with_lora())
    assert (far.root / "models" / "loras" / LORA).read_bytes() == (here.models / LORA).read_bytes()
    found = codes(findings)
    assert "SOS-X005" in found
    assert found.count("SOS-X008") == 1
    assert [f.subject for f in findings if f.code == "SOS-F101"] == [
        f"far:40022:{far.root}/models/diffusion_models/{UNET}"
    ]
    assert any(f.code == "SOS-L005" or f.code.startswith("SOS-L") for f in findings)
    calls = len(far.calls)
    again = codes(engine.check(with_lora(2)))
    assert "SOS-X008" not in again
    assert "SOS-X005" not in again
    # The second time only the LoRA there is compared.
    assert len(far.calls) - calls <= 2
    engine.close()


def test_a_pods_comfyui_is_reached_by_the_pods_name_with_its_own_key(
    sosie: Sosie, far: FarMachine, here: Workspace, server: FakeServer
) -> None:
    known = Pod("elena", "vast", "l", "11", "card", 0.2, 1, "", "", "1", "root@far:40022", template="comfyui")
    save_pod(here, known)
    subject = f"comfy+ssh:elena?port={server.url.rpartition(':')[2]}"
    engine = opened(here, subject)
    assert [event for event in engine.run([plan(1)]) if isinstance(event, Render)]
    engine.close()
    assert f"-i {here.state / 'pods' / 'elena' / 'key'}" in far.calls[0]["options"]
    with pytest.raises(NotFoundError, match="no pod 'anna'"):
        opened(here, "comfy+ssh:anna")
    (machine, *_) = lines(sosie("doctor", subject, "--json", "--workspace", here.root).out)
    assert (machine["subject"], machine["server"]["version"]) == (subject, "0.33.0")


def test_a_lora_there_with_another_content_is_a_warning_and_stays(
    far: FarMachine, here: Workspace, server: FakeServer
) -> None:
    place = far.root / "models" / "loras" / LORA
    place.write_bytes(lora(4.0))
    engine = opened(here, address(server))
    assert "SOS-X011" in codes(engine.check(with_lora()))
    assert place.read_bytes() == lora(4.0)
    engine.close()


def test_a_broken_file_there_stops_before_anything_is_rendered(
    far: FarMachine, here: Workspace, server: FakeServer
) -> None:
    (far.root / "models" / "diffusion_models" / UNET).write_bytes(weights(4)[:-99])
    engine = opened(here, address(server))
    findings = engine.check(plan(1))
    (broken,) = [f for f in findings if f.code == "SOS-F100"]
    assert broken.severity == "error"
    assert f"far:40022:{far.root}" in broken.message
    assert "truncated" in broken.message
    engine.close()


def test_a_file_that_was_replaced_there_is_read_anew_by_the_server(
    far: FarMachine, here: Workspace, server: FakeServer
) -> None:
    def draw() -> None:
        engine = opened(here, address(server))
        engine.check(plan(1))
        list(engine.run([plan(1)]))
        engine.close()

    draw()
    draw()
    assert server.count("POST", "/free") == 0
    (far.root / "models" / "diffusion_models" / UNET).write_bytes(weights(5))
    draw()
    assert server.count("POST", "/free") == 1


def test_many_folders_are_listed_by_one_command(far: FarMachine, here: Workspace, server: FakeServer) -> None:
    told = {kind: [f"{far.root}/models/{kind}", f"{far.root}/none/{kind}"] for kind in map(str, range(40))}
    told |= {"diffusion_models": [f"{far.root}/models/diffusion_models"], "bad": ["/a\nb", 7, "C:/models", "/x" * 900]}
    scripted = {"/internal/folder_paths": Scripted(body=json.dumps(told).encode())}
    server.behaviour = replace(server.behaviour, scripted=scripted)
    engine = opened(here, address(server))
    assert "SOS-F101" in codes(engine.check(plan(1)))
    listings = [call for call in far.calls if "find -L" in " ".join(call["command"])]
    assert len(listings) == 1
    engine.close()


def test_a_server_whose_folders_are_nowhere_on_its_machine_is_used_all_the_same(
    far: FarMachine, here: Workspace, server: FakeServer
) -> None:
    told = {"loras": [f"{far.root}/container/loras"]}
    scripted = {"/internal/folder_paths": Scripted(body=json.dumps(told).encode())}
    server.behaviour = replace(server.behaviour, scripted=scripted)
    engine = opened(here, address(server))
    assert [f for f in engine.check(plan(1)) if f.severity == "error"] == []
    engine.close()


def test_the_folder_of_the_address_wins_over_what_the_server_tells(
    far: FarMachine, here: Workspace, server: FakeServer
) -> None:
    engine = opened(here, address(server, str(far.root)))
    assert "SOS-F101" in codes(engine.check(plan(1)))
    engine.close()
    engine = opened(here, address(server, f"{far.root}/other"))
    (finding,) = [f for f in engine.check(plan(1)) if f.code == "SOS-X004"]
    assert "has no folder" in finding.message
    engine.close()


def test_a_server_that_tells_no_folders_is_used_and_its_files_are_not_examined(
    far: FarMachine, here: Workspace
) -> None:
    with FakeServer() as server:
        engine = opened(here, address(server))
        findings = engine.check(plan(1))
        assert [(f.code, f.severity) for f in findings if f.code.startswith("SOS-X")] == [("SOS-X010", "info")]
        engine.close()


def test_a_machine_where_comfyui_does_not_run_is_told_from_one_that_is_away(far: FarMachine, here: Workspace) -> None:
    with FakeServer() as server:
        gone = address(server)
    engine = opened(here, gone)
    found = codes(engine.check(plan(1)))
    assert "SOS-X009" in found
    assert "SOS-Y001" in found
    engine.close()
    far.behave(says="ssh: connect to host far port 40022: Connection refused")
    with pytest.raises(SshError):
        opened(here, gone)


def test_a_line_that_is_gone_for_good_is_named_in_the_error(
    far: FarMachine, here: Workspace, server: FakeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = opened(here, address(server))
    far.behave(says="root@far: Permission denied (publickey).")
    os.kill(far.calls[0]["pid"], signal.SIGKILL)
    assert until(lambda: engine._doctors[0].trouble is not None)
    with pytest.raises(EngineError, match="refused the login"):
        list(engine.run([plan(1)]))
    engine.close()


def test_no_tunnel_stays_open_when_a_later_machine_cannot_be_reached(
    far: FarMachine, here: Workspace, server: FakeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    from sosie.servers import address as addresses

    tunnel, made = addresses.Tunnel, []

    def second_fails(*arguments: Any) -> Any:
        if made:
            raise SshError(X001, "away")
        made.append(tunnel(*arguments))
        return made[0]

    monkeypatch.setattr(addresses, "Tunnel", second_fails)
    with pytest.raises(SshError):
        opened(here, f"{address(server)},comfy+ssh://root@other")
    assert not made[0].is_up


def test_stamps_are_kept_and_a_damaged_file_is_an_empty_one(tmp_path: Path) -> None:
    path = tmp_path / "state" / "comfy-files.json"
    stamps = Stamps(path)
    stamps["a"] = "1"
    assert dict(Stamps(path)) == {"a": "1"}
    for damaged in ("[1]", "{", "5"):
        path.write_text(damaged)
        assert dict(Stamps(path)) == {}


def test_stamps_of_two_processes_do_not_take_each_other_away(tmp_path: Path) -> None:
    path = tmp_path / "state" / "comfy-files.json"
    one, two = Stamps(path), Stamps(path)
    one.update({"a": "1", "b": "1"})
    two["b"] = "2"
    one["c"] = "3"
    assert dict(Stamps(path)) == {"a": "1", "b": "2", "c": "3"}
    del one["a"]
    assert dict(Stamps(path)) == {"b": "2", "c": "3"}
    assert sorted(entry.name for entry in path.parent.iterdir()) == [path.name, "comfy-files.lock"]


def test_a_token_comes_from_the_environment_alone(
    far: FarMachine, here: Workspace, server: FakeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SOSIE_COMFY_TOKEN", "s3cret")
    server.behaviour = replace(server.behaviour, token="s3cret")
    engine = opened(here, address(server))
    assert [event for event in engine.run([plan(1)]) if isinstance(event, Render)]
    engine.close()
    assert "s3cret" not in str(far.calls)
    assert "s3cret" not in engine.name


def test_files_that_only_the_server_has_are_planned_without_a_digest(here: Workspace) -> None:
    stages = (Stage("generate", "zimage", "only-there", loras=(LoraUse("character", 1.0),)),)
    found = resolve(here, stages, remote=True).digests
    assert found["only-there"] == ""
    assert len(found["character"]) == 64


def test_models_are_not_kept_loaded_here_for_a_server(here: Workspace) -> None:
    kept = Workers(keep_loaded=5.0)
    with pytest.raises(UsageError, match="--keep-loaded is for engines on this machine"):
        open_engine(Session(here), "comfy:http://127.0.0.1:1", Bill(), Character("mira", "fictional", True), None, kept)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--set", "1.x=2"), "add --workflow"),
        (("--workflow", "x.json"), "runs no ComfyUI workflows"),
        (("--workflow", "x.json", "--recipe", "mini", "--engine", "comfy:http://h"), "--recipe is for recipes"),
        (("--engine", "comfy"), "needs an address"),
        (("--recipe", "zimage", "--engine", "comfy:ftp://h"), "not an address of a ComfyUI server"),
        (("--engine", "comfi:http://h"), "engine 'comfi:http://h' is not known"),
        (("--recipe", "zimage", "--engine", "comfy+ssh://root:s3cret@h"), "holds a password"),
    ],
)
def test_options_that_do_not_fit_are_refused(
    sosie: Sosie, workspace: Path, arguments: tuple[str, ...], message: str
) -> None:
    result = sosie("generate", "mira", "x", *arguments, "--workspace", workspace)
    assert result.code == 2
    assert message in result.err
    assert "s3cret" not in result.err


@pytest.fixture
def cohort(monkeypatch: pytest.MonkeyPatch) -> None:
    """The embedded model's cohort in place of those that recipes without one are calibrated with."""
    from sosie.loop import judging
    from sosie.scorers.cohort import load_cohort
    from sosie.workspace.library import find_model

    def shipped(session: Session, *_: Any) -> Any:
        found = find_model(session.workspace, "mini").cohort
        assert found is not None
        return load_cohort(found)

    monkeypatch.setattr(judging, "_shipped_cohort", shipped)


FLOW: dict[str, Any] = {
    "1": {"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": "sdxl.safetensors"}},
    "2": {"class_type": "CLIPTextEncode", "inputs": {"clip": ["1", 1], "text": "x"}},
    "3": {"class_type": "EmptyLatentImage", "inputs": {"width": 512, "height": 512, "batch_size": 1}},
    "4": {
        "class_type": "KSampler",
        "inputs": {
            "model": ["1", 0],
            "positive": ["2", 0],
            "negative": ["6", 0],
            "latent_image": ["3", 0],
            "seed": 1,
            "steps": 4,
            "cfg": 5.0,
            "sampler_name": "euler",
            "scheduler": "normal",
            "denoise": 1.0,
        },
    },
    "5": {"class_type": "VAEDecode", "inputs": {"samples": ["4", 0], "vae": ["1", 2]}},
    "6": {"class_type": "CLIPTextEncode", "inputs": {"clip": ["1", 1], "text": ""}},
    "9": {"class_type": "SaveImage", "inputs": {"images": ["5", 0], "filename_prefix": "t"}},
}


@pytest.mark.local
@pytest.mark.usefixtures("cohort")
def test_a_recipe_and_a_users_own_workflow_are_delivered_from_a_server(
    sosie: Sosie, workspace: Path, references: list[Path]
) -> None:
    sent: list[Any] = []

    def picture(graph: Any, _: str) -> Image.Image:
        sent.append(graph)
        with Image.open(references[0]) as image:
            return image.convert("RGB").resize((512, 512))

    (workspace / "flow.json").write_text(json.dumps(FLOW))
    with FakeServer(Behaviour(picture=picture)) as server:
        common = ("--engine", f"comfy:{server.url}", "--workspace", workspace, "--json")
        recipe = sosie("generate", "mira", "smiling", "--recipe", "zimage", "--attempts", 1, *common)
        arguments = ("mira", "smiling", "--workflow", workspace / "flow.json", "--set", "4.steps=7", "--attempts", 1)
        flow, again = (sosie("generate", *arguments, *common) for _ in range(2))
    for result in (recipe, flow):
        (line,) = map(json.loads, result.out.splitlines())
        assert Path(line["image"]).is_file()
        assert line["verdict"]
        assert all(score["value"] is not None for score in line["scores"]["identity"])
    assert len(sent) == 2
    # The second time the store answers.
    assert json.loads(again.out)["plan"] == json.loads(flow.out)["plan"]
    steps = {node["inputs"]["steps"] for graph in sent for node in graph.values() if node["class_type"] == "KSampler"}
    assert steps == {25, 7}
    texts = [node["inputs"]["text"] for node in sent[1].values() if node["class_type"] == "CLIPTextEncode"]
    assert any("smiling" in text for text in texts)
    with Session(open_workspace(workspace)) as session:
        runs = [json.loads(text) for (text,) in session.store._catalogue.rows("SELECT arguments FROM runs ORDER BY id")]
    told = [(Path(run["workflow"]).name, run["set"]) for run in runs]
    assert told == [("", []), *2 * [("flow.json", ["4.steps=7"])]]


def test_by_ssh_the_machine_and_every_model_file_are_examined_and_nothing_is_brought(
    sosie: Sosie, far: FarMachine, here: Workspace, server: FakeServer
) -> None:
    (far.root / "models" / "loras" / "broken.safetensors").write_bytes(weights(4)[:-9])
    far.behave(new_key=True)
    subject = address(server)
    result = sosie("doctor", subject, "--json", "--workspace", here.root)
    machine, *files = lines(result.out)
    assert (machine["subject"], machine["kind"]) == (subject, "server")
    assert {"SOS-Y005", "SOS-X005"} <= set(codes_of(machine))
    assert machine["server"]["version"] == "0.33.0"
    assert {Path(line["subject"]).name: codes_of(line) for line in files} == {
        "broken.safetensors": ["SOS-F100"],
        UNET: ["SOS-F101"],
    }
    assert all(line["path"] is None for line in files)
    assert not any("dd of=" in " ".join(call["command"]) for call in far.calls)
    assert sorted(path.name for path in (far.root / "models" / "loras").iterdir()) == ["broken.safetensors"]


def test_by_ssh_with_a_recipe_only_its_files_are_examined(
    sosie: Sosie, far: FarMachine, here: Workspace, server: FakeServer
) -> None:
    (far.root / "models" / "loras" / "broken.safetensors").write_bytes(weights(4)[:-9])
    result = sosie("doctor", address(server), "--recipe", "zimage", "--json", "--workspace", here.root)
    machine, file = lines(result.out)
    assert any("recipe 'zimage' can run" in finding["message"] for finding in machine["findings"])
    assert Path(file["subject"]).name == UNET


def test_by_ssh_a_machine_without_comfyui_and_one_that_is_away_are_two_findings(
    sosie: Sosie, far: FarMachine, here: Workspace
) -> None:
    with FakeServer() as gone:
        subject = address(gone, str(far.root))
    machine, file = lines(sosie("doctor", subject, "--json", "--workspace", here.root).out)
    assert {"SOS-Y001", "SOS-X009"} <= set(codes_of(machine))
    assert Path(file["subject"]).name == UNET
    far.behave(says="ssh: connect to host far port 40022: Connection refused")
    (away,) = lines(sosie("doctor", subject, "--json", "--workspace", here.root).out)
    assert codes_of(away) == ["SOS-X001"]
