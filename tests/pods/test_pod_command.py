"""`sosie pod`: rented, tried, used and ended, against the fake of Vast.ai and a machine behind a fake ssh."""

from __future__ import annotations

import json
import stat
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from far_machine import FarMachine, far_machine
from renders import CARD, KEEP, a_render

from sosie.api.knowledge.audit import gather
from sosie.api.knowledge.entries import put
from sosie.api.renting.leases import ledger
from sosie.core import Character, Verdict
from sosie.engines import scheme_of
from sosie.engines.comfy.fake import FakeServer
from sosie.engines.far.engine import FarEngine
from sosie.engines.scheme import Supplies
from sosie.knowledge.rental import Rental
from sosie.machines.ssh import command as command_module
from sosie.pods import renting
from sosie.pods.pod import drawn_file, drawn_on, find_pod, read_pods
from sosie.pods.providers import fake_runpod
from sosie.pods.providers import runpod as runpod_module
from sosie.pods.providers import vast as vast_module
from sosie.pods.providers.fake_runpod import FakeRunPod
from sosie.pods.providers.fake_vast import KEY, FakeVast
from sosie.reports.audit.choices import machines
from sosie.reports.audit.document import Table
from sosie.reports.audit.words import words_of
from sosie.servers import address
from sosie.servers.address import parse_remote
from sosie.store import Store
from sosie.workspace.session import Session
from sosie.workspace.workspace import open_workspace

pytestmark = pytest.mark.once

Sosie = Callable[..., Any]
RETRY = Verdict("retry", ("too dark",))
RENT = ("--disk", "60GB", "--place", "EU", "--hours", "4", "--max-cost", "2.00", "--yes", "--no-card")


@pytest.fixture
def far(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FarMachine]:
    command_module._is_strict.cache_clear()
    machine = far_machine(tmp_path, lambda path: monkeypatch.setenv("PATH", path))
    roomy(machine)
    yield machine
    command_module._is_strict.cache_clear()


def roomy(machine: FarMachine, gigabytes: int = 100) -> None:
    blocks = gigabytes * 10**6
    machine.program(
        "df", f"echo Filesystem 1024-blocks Used Available Capacity Mounted on; echo x {blocks} 0 {blocks} 0% /"
    )


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeVast]:
    monkeypatch.setattr(renting, "BETWEEN", 0.01)
    monkeypatch.setattr(vast_module.PROVIDER, "_given", None)
    with FakeVast(ssh=("127.0.0.1", 40022)) as server:
        monkeypatch.setenv("VAST_URL", server.url)
        monkeypatch.setenv("VAST_API_KEY", KEY)
        yield server
    vast_module.PROVIDER._given = None


def test_a_machine_is_rented_used_and_ended(sosie: Sosie, tmp_path: Path, far: FarMachine, fake: FakeVast) -> None:
    at = ("--workspace", tmp_path)
    done = sosie("pod", "up", "elena", *RENT, *at)
    assert (done.code, done.out.split("\t")[:3]) == (0, ["elena", "vast", "1001"]), done.err
    assert "struck out: vast 13, RTX 3090" in done.err
    pod = find_pod(open_workspace(tmp_path), "elena")
    assert pod.address == "root@127.0.0.1:40022"
    folder = tmp_path / ".sosie" / "pods" / "elena"
    assert stat.S_IMODE((folder / "key").stat().st_mode) == 0o600
    assert fake.instances[1001]["keys"][0].startswith("ssh-ed25519 ")
    assert f"-i {folder / 'key'}" in far.calls[-1]["options"]
    assert "StrictHostKeyChecking=accept-new" in far.calls[-1]["options"]
    assert f'UserKnownHostsFile="{folder / "known_hosts"}"' in far.calls[-1]["options"]

    done = sosie("pod", "list", "--json", *at)
    line = json.loads(done.out)
    assert (done.code, line["state"], line["label"]) == (0, "running", pod.label)
    assert line["deadline"] == pod.deadline

    assert sosie("pod", "ssh", "elena", "sh", "-c", "exit 7", *at).code == 7
    file = tmp_path / "a file.bin"
    file.write_bytes(content := b"x" * 100_000)
    assert sosie("pod", "push", "elena", file, f"{far.root}/b.bin", *at).code == 0
    assert sosie("pod", "pull", "elena", f"{far.root}/b.bin", tmp_path / "c.bin", *at).code == 0
    assert (tmp_path / "c.bin").read_bytes() == content
    assert sosie("pod", "pull", "elena", f"{far.root}/b.bin", tmp_path / "c.bin", *at).code == 0

    faces: Any = None
    engine = scheme_of("pod:elena").open("pod:elena", Supplies({}, faces, faces, root=tmp_path))
    assert isinstance(engine, FarEngine)
    assert engine._host.key == folder / "key"

    done = sosie("pod", "down", "elena", "--yes", *at)
    assert (done.code, fake.instances) == (0, {}), done.err
    assert "nothing bills" in sosie("pod", "list", *at).err
    past = sosie("pod", "list", "--all", *at).out
    assert pod.label in past
    assert "USD" in past
    assert sosie("pod", "down", "elena", "--yes", *at).code == 2


def test_a_machine_with_comfyui_is_rented_at_vast_alone(
    sosie: Sosie, tmp_path: Path, far: FarMachine, fake: FakeVast, near: FakeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert address.TEMPLATE_PORT == 18188
    monkeypatch.setattr(address, "TEMPLATE_PORT", int(near.url.rpartition(":")[2]))
    at = ("--template", "comfyui", "--workspace", tmp_path)
    refused = sosie("pod", "up", "elena", *RENT, "--provider", "runpod", *at)
    assert (refused.code, "none of 'runpod' is known" in refused.err) == (2, True)
    done = sosie("pod", "up", "elena", *RENT, *at)
    assert (done.code, fake.instances[1001]["image"]) == (0, "vastai/comfy"), done.err
    assert "ComfyUI 0.33.0 answers: --engine comfy+ssh:elena" in done.err
    workspace = open_workspace(tmp_path)
    (server,) = parse_remote("comfy+ssh:elena", workspace)
    assert (server.port, server.host.key) == (address.TEMPLATE_PORT, workspace.state / "pods" / "elena" / "key")


def test_what_a_kept_image_cost_stands_in_the_ledger(
    sosie: Sosie, tmp_path: Path, far: FarMachine, fake: FakeVast
) -> None:
    at = ("--workspace", tmp_path)
    assert sosie("pod", "up", "elena", *RENT, *at).code == 0
    workspace = open_workspace(tmp_path)
    label = find_pod(workspace, "elena").label
    with Store.open(workspace.state) as store:
        stored = [store.add_render(a_render(n)) for n in range(3)]
        for one, verdict in zip(stored, (KEEP, KEEP, RETRY), strict=True):
            store.add_scorecard(one.id, "gate", CARD, verdict)
    drawn_file(workspace, label).write_text("".join(f"{one.plan.id}\n" for one in stored[1:]))
    assert sosie("pod", "down", "elena", "--yes", *at).code == 0
    with Session(workspace) as session:
        assert drawn_on(workspace, "rented by hand") == frozenset()
        (paid,) = ledger(session)
        assert (paid.drawn, paid.kept) == (2, 1)
        assert paid.each == paid.rental.cost
        audit = gather(session, Character("elena", "fictional", True, "a woman"))
    assert "1 of 2 images kept" in sosie("pod", "list", "--all", *at).out
    (row,) = audit.to_json()["rentals"]
    assert (row["images_drawn"], row["images_kept"], row["each_usd"]) == (2, 1, paid.each)
    (table,) = [block for block in machines(audit, words_of("fr")).blocks if isinstance(block, Table)]
    assert [cell.text for cell in table.rows[0][5:6]] == ["1 / 2"]
    assert "Images gardées" in table.columns


def test_no_key_is_in_anything_that_was_written(sosie: Sosie, tmp_path: Path, far: FarMachine, fake: FakeVast) -> None:
    at = ("--workspace", tmp_path)
    done = [sosie("pod", "up", "elena", *RENT, "-v", *at), sosie("pod", "down", "elena", "--yes", *at)]
    assert all(KEY not in one.out + one.err for one in done)
    for path in tmp_path.rglob("*"):
        if path.is_file():
            assert KEY.encode() not in path.read_bytes(), path
    assert not any(KEY in f"{path}{body}" for _, path, body in fake.requests)


def test_a_machine_that_is_of_no_use_is_ended_and_the_next_one_is_rented(
    sosie: Sosie, tmp_path: Path, far: FarMachine, fake: FakeVast
) -> None:
    small = "echo Filesystem 1024-blocks Used Available Capacity Mounted on; echo x 9 0 9000000 0% /"
    large = small.replace("9000000", "90000000")
    far.program("df", f"if [ -e {tmp_path}/seen ]; then {large}; else touch {tmp_path}/seen; {small}; fi")
    done = sosie("pod", "up", "elena", *RENT, "--workspace", tmp_path)
    assert done.code == 1
    assert "SOS-B004" in done.err
    assert "its disk has 9 GB free, 60 GB were rented" in done.err
    assert (fake.ended, list(fake.instances)) == ([1001], [1002])
    past = sosie("pod", "list", "--all", "--workspace", tmp_path).out
    assert "its disk has 9 GB free" in past


def test_a_gateway_that_gives_up_after_it_rented_costs_nothing(
    sosie: Sosie, tmp_path: Path, far: FarMachine, fake: FakeVast
) -> None:
    fake.faults.create.append("504")
    done = sosie("pod", "up", "elena", *RENT, "--workspace", tmp_path)
    assert (done.code, len(fake.instances)) == (0, 1), done.err


def test_without_a_card_the_machine_is_ended(sosie: Sosie, tmp_path: Path, far: FarMachine, fake: FakeVast) -> None:
    done = sosie("pod", "up", "elena", *RENT[:-1], "--workspace", tmp_path)
    assert done.code == 2
    assert "no NVIDIA card was found" in done.err
    assert fake.instances == {}
    assert len(fake.ended) >= 2
    assert all(pod.ended for pod in read_pods(open_workspace(tmp_path)))


def test_a_machine_that_cannot_be_ended_stops_everything_and_says_so(
    sosie: Sosie, tmp_path: Path, far: FarMachine, fake: FakeVast, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(vast_module.PROVIDER, "_sleep", lambda _: None)
    fake.faults.undying = 10**6
    done = sosie("pod", "up", "elena", *RENT[:-1], "--workspace", tmp_path)
    assert done.code == 2
    assert "may bill" in done.err
    assert len(fake.instances) == 1


def test_money_is_spent_on_consent_alone(sosie: Sosie, tmp_path: Path, far: FarMachine, fake: FakeVast) -> None:
    at = ("--workspace", tmp_path)
    done = sosie("pod", "up", "elena", *RENT[:-2], *at)
    assert (done.code, "add --yes" in done.err) == (2, True)
    assert sosie("pod", "up", "elena", "--yes", *at).code == 2
    done = sosie("pod", "up", "elena", "--hours", "4", "--max-cost", "0.10", "--yes", "--no-card", *at)
    assert (done.code, "would cost more than 0.10 USD" in done.err) == (2, True)
    assert sosie("pod", "up", "El ena", *RENT, *at).code == 2
    assert fake.instances == {}


def test_what_bills_without_an_end_or_at_another_price_is_a_warning(
    sosie: Sosie, tmp_path: Path, far: FarMachine, fake: FakeVast
) -> None:
    at = ("--workspace", tmp_path)
    assert sosie("pod", "up", "elena", *RENT, *at).code == 0
    fake.instances[1001]["label"] = "rented by hand"
    fake.faults.rises[1001] = 0.77
    done = sosie("pod", "list", *at)
    assert done.code == 1
    assert {"SOS-B006", "SOS-B007"} <= {word.rstrip(":") for word in done.err.split()}
    assert "0.770 USD/h" in done.err


def test_a_volume_that_bills_is_a_warning_and_so_is_one_that_nobody_can_tell_of(
    sosie: Sosie, tmp_path: Path, fake: FakeVast, monkeypatch: pytest.MonkeyPatch
) -> None:
    at = ("--workspace", tmp_path)
    assert sosie("pod", "list", *at).code == 0
    fake.volumes = [{"id": 41, "label": "models", "disk_space": 80.0}]
    done = sosie("pod", "list", *at)
    assert (done.code, "SOS-B008" in done.err, "volume 41 'models', 80 GB" in done.err) == (1, True, True)
    answer, denied = fake.answer, (403, {"success": False, "error": "forbidden"})
    monkeypatch.setattr(fake, "answer", lambda *ask: denied if "volumes" in ask[1] else answer(*ask))
    done = sosie("pod", "list", *at)
    assert (done.code, "not known whether volumes bill" in done.err) == (1, True)


def test_what_runpod_billed_stands_beside_what_was_counted(
    sosie: Sosie, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runpod_module.PROVIDER, "_given", None)
    workspace = open_workspace(tmp_path)
    rental = Rental("sosie-a-00000000-1796107225", "RTX 4090", 0.7, "2026-06-01T10:00:00+00:00", provider="runpod")
    ended = replace(rental, ended="2026-06-01T12:00:00+00:00", lease="pod0001")
    with FakeRunPod() as fake, Session(workspace) as session:
        monkeypatch.setenv("RUNPOD_URL", fake.url)
        monkeypatch.setenv("RUNPOD_API_KEY", fake_runpod.KEY)
        put(session, ended)
        fake.records = [{"podId": "pod0001", "totalAmount": 1.31}]
        done = sosie("pod", "list", "--all", "--workspace", tmp_path)
        assert (done.code, "1.40 USD (1.31 USD billed)" in done.out) == (0, True), done.out + done.err
        done = sosie("pod", "list", "--all", "--json", "--workspace", tmp_path)
        (line,) = map(json.loads, done.out.splitlines())
        assert (line["rental"]["cost"], line["rental"]["billed"]) == (pytest.approx(1.4), 1.31)
    runpod_module.PROVIDER._given = None


def test_offers_are_shown_by_what_the_job_costs_there(sosie: Sosie, tmp_path: Path, fake: FakeVast) -> None:
    done = sosie("pod", "search", "--disk", "60GB", "--tflop", "1000000", "--json", "--workspace", tmp_path)
    lines = [json.loads(line) for line in done.out.splitlines()]
    fit = [line for line in lines if not line["struck"]]
    costs = [line["job"]["cost"] for line in fit if line["job"]]
    assert costs == sorted(costs)
    assert fit[0]["gpu"] == "RTX 4090"  # the 5090 does 1.27 times as much for 1.45 times the price
    assert {line["id"] for line in lines if line["struck"]} == {"13"}


def test_without_a_key_it_is_said_where_one_belongs(
    sosie: Sosie, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("VAST_API_KEY", raising=False)
    done = sosie("pod", "list", "--workspace", tmp_path)
    assert (done.code, "SOS-B001" in done.err) == (1, True)
    done = sosie("pod", "list", "--provider", "vast", "--workspace", tmp_path)
    assert "export VAST_API_KEY=" in done.err


def test_all_machines_together_stay_within_a_budget(
    sosie: Sosie, tmp_path: Path, far: FarMachine, fake: FakeVast
) -> None:
    at = ("--workspace", tmp_path)
    assert sosie("pod", "up", "one", *RENT, "--budget", "1.60", *at).code == 0
    rented = len(fake.instances)
    done = sosie("pod", "up", "two", *RENT, "--budget", "1.60", *at)
    assert (done.code, len(fake.instances)) == (2, rented)
    assert "of the budget are left" in done.err
    fake.faults.rises[1001] = 0.30
    done = sosie("pod", "up", "two", *RENT, "--budget", "2.40", *at)
    assert (done.code, len(fake.instances)) == (2, rented)  # with the price that its host wants, 1.20 of 2.40 are left
    assert sosie("pod", "down", "one", "--yes", *at).code == 0
    assert sosie("pod", "up", "two", *RENT, "--budget", "1.60", *at).code == 0
