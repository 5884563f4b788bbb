"""Cards of several hosts by Ray: each plan once, and what is refused before a plan is sent."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from places import ROOT

from sosie import __version__
from sosie.core import Character, Draw, Plan, Recipe, Reference, Request, Stage, plan
from sosie.core.errors import EngineError, LostError, MissingExtraError, UsageError
from sosie.engines import scheme_of
from sosie.engines.ray import cluster as clusters
from sosie.engines.ray.actor import CardActor, seen
from sosie.engines.ray.cluster import Cluster, has_token, read_address
from sosie.engines.ray.engine import E042, Order, image_in, refusal

RECIPE = Recipe("r", (Stage("generate", "sdxl", "m"),), "{prompt}", 64, 64)


def plans(n: int, references: list[Path]) -> tuple[list[Plan], dict[str, Path]]:
    files = {f"{index:064d}": path for index, path in enumerate(references[:3])}
    who = Character("mira", "fictional", True, references=tuple(Reference(p.name, sha) for sha, p in files.items()))
    return [plan(RECIPE, who, Request("r", "mira", "smiling"), Draw(i), {"m": "a" * 64}) for i in range(n)], files


def test_addresses_are_a_host_and_a_port_or_this_machine() -> None:
    assert read_address("ray") is None
    assert read_address("ray:10.0.0.1:6379") == ("10.0.0.1", 6379)
    assert read_address("ray:[fe80::1]:6379") == ("fe80::1", 6379)
    for address in ("ray:", "ray:host", "ray:host:0", "ray:host:70000", "ray:ho st:1", "ray:host:1;x", "ray:ray://h:1"):
        with pytest.raises(UsageError, match="not understood"):
            read_address(address)
    assert scheme_of("ray:10.0.0.1:6379").has_workers
    assert scheme_of("ray").name == "ray"


def test_without_the_package_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(MissingExtraError) as caught:
        Cluster("ray").slots()
    assert 'pip install "sosie[ray]"' in caught.value.hint


def test_a_cluster_elsewhere_is_not_joined_without_a_token(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: True)
    monkeypatch.setattr(clusters, "TOKEN_FILE", tmp_path / "none")
    monkeypatch.delenv("RAY_AUTH_TOKEN", raising=False)
    with pytest.raises(UsageError, match="joined by its token, and none is here"):
        Cluster("ray:127.0.0.1:6379").slots()
    (tmp_path / "token").write_text("a")
    assert has_token({"RAY_AUTH_TOKEN_PATH": str(tmp_path / "token")})
    assert has_token({"RAY_AUTH_TOKEN": "a"})
    assert not has_token({})


SECRETS = ("HF_TOKEN", "AWS_SECRET_ACCESS_KEY", "RUNPOD_API_KEY", "SOSIE_SERVER_TOKEN", "MYSQL_PWD", "PGPASSWORD")


def test_a_host_keeps_the_variables_that_rendering_needs_and_no_secret() -> None:
    needed = {"PATH": "/bin", "SOSIE_WORKSPACE": "/w", "CUDA_VISIBLE_DEVICES": "1", "RAY_AUTH_TOKEN": "t"}
    variables = {**needed, **dict.fromkeys(SECRETS, "hidden"), "COMPANY": "x"}
    CardActor("{}", variables)
    assert variables == needed


def test_a_cluster_that_is_started_here_begins_without_secrets_and_the_command_keeps_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in SECRETS:
        monkeypatch.setenv(name, "hidden")
    begun: list[dict[str, str]] = []
    ray = SimpleNamespace(__version__="2.52.0", init=lambda *_, **__: begun.append(dict(os.environ)))
    monkeypatch.setitem(sys.modules, "ray", ray)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: True)
    for name in ("RAY_USAGE_STATS_ENABLED", "RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_worker_niceness"):
        monkeypatch.setenv(name, os.environ.get(name, "0"))  # what the cluster sets is taken back
    assert Cluster("ray").ray is ray
    (variables,) = begun
    assert not set(SECRETS) & set(variables)
    assert variables["RAY_AUTH_TOKEN"]
    assert {os.environ[name] for name in SECRETS} == {"hidden"}


def test_two_nodes_of_one_host_have_cards_of_different_names() -> None:
    node = {"Alive": True, "NodeManagerAddress": "10.0.0.1", "Resources": {"GPU": 2.0}}
    other = {**node, "NodeManagerAddress": "10.0.0.2", "Resources": {"GPU": 1.0}}
    gone = {**node, "Alive": False}
    nodes = [{**one, "NodeID": str(number)} for number, one in enumerate((gone, node, other, node))]
    cluster = Cluster("ray")
    cluster.__dict__["ray"] = SimpleNamespace(nodes=lambda: nodes)
    slots = cluster.slots()
    assert [slot.node for slot in slots] == ["1", "1", "2", "3", "3"]
    assert [str(slot) for slot in slots if slot.host == "10.0.0.1"] == [f"card {n} of 10.0.0.1" for n in range(4)]
    assert len({str(slot) for slot in slots}) == 5


def test_an_old_ray_is_refused() -> None:
    for version in ("2.51.9", "2.9.0", "1.13.0"):
        with pytest.raises(EngineError, match=f"Ray {version} is installed; expected 2.52 or newer"):
            clusters._expect_version(version)
    clusters._expect_version("2.52.0")
    clusters._expect_version("3.0.0.dev0")


def test_another_version_of_sosie_is_refused_with_both() -> None:
    hello = CardActor("{}", {}).hello()
    assert refusal(hello) is None
    finding = refusal({**hello, "version": "0.0.9", "host": "attic"})
    assert finding is not None
    assert (finding.code, finding.severity, finding.subject) == (E042.code, "error", "attic")
    assert f"attic has Sosie 0.0.9, this machine {__version__}" in finding.message
    assert f"=={__version__}" in finding.hint


def test_a_host_knows_the_drivers_folder_by_its_token(tmp_path: Path) -> None:
    assert not seen(str(tmp_path), "abc")
    (tmp_path / "token").write_text("abc")
    assert seen(str(tmp_path), "abc")
    assert not seen(str(tmp_path), "abd")


def test_an_image_is_whole_or_lost(tmp_path: Path) -> None:
    pixels = bytes(range(12)) * 4
    sent = {"size": [4, 4], "file": "", "pixels": pixels}
    assert image_in(sent, tmp_path).tobytes() == pixels
    (tmp_path / "a").write_bytes(pixels)
    assert image_in({**sent, "file": "../" + tmp_path.name + "/a", "pixels": b""}, tmp_path).tobytes() == pixels
    for wrong in ({"size": [4, 5]}, {"size": [0, 4]}, {"size": [2**20, 2**20]}, {"file": "missing"}):
        with pytest.raises(LostError):
            image_in({**sent, **wrong}, tmp_path)


def test_a_host_without_the_drivers_workspace_needs_one_with_the_same_files(
    tmp_path: Path, references: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked, files = plans(1, references)
    order = Order(
        str(tmp_path / "driver"), str(tmp_path / "no"), "t", {k: str(v) for k, v in files.items()}, _settings(), "fake"
    )
    table = json.loads(json.dumps(_table(order)))
    monkeypatch.delenv("SOSIE_WORKSPACE", raising=False)
    (answer,) = CardActor(json.dumps(table), {}).ask({"do": "name", "plan": {}})
    assert (answer["say"], answer["kind"]) == ("error", "ConfigError")
    monkeypatch.setenv("SOSIE_WORKSPACE", str(tmp_path))
    actor = CardActor(json.dumps(table), {})
    assert list(actor.ask({"do": "name", "plan": {}})) == [{"say": "name", "name": "fake", "sees": False}]
    (answer,) = actor.ask({"do": "run", "plan": asked[0].to_json()})
    assert (answer["say"], answer["kind"]) == ("error", "NotFoundError")


def _settings() -> Any:
    from sosie.families.contract.draws import Settings

    return Settings()


def _table(order: Order) -> Any:
    from sosie.core.schema import to_table

    return to_table(order)


# From here on there is a cluster, of pretended GPUs.


def drawn_by_cluster(folder: Path, count: int, *faults: str) -> dict[str, Any]:
    """What `tests/support/ray_cluster.py` found."""
    pytest.importorskip("ray")
    command = [sys.executable, str(ROOT / "tests" / "support" / "ray_cluster.py"), str(folder), str(count), *faults]
    path = os.pathsep.join(part for part in sys.path if part)
    environment = {**os.environ, "PYTHONPATH": path, "PYTHONWARNINGS": "ignore"}
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=900, env=environment)
    assert done.returncode == 0, done.stderr[-3000:]
    told: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return told


@pytest.mark.once
def test_a_worker_that_is_killed_and_a_node_that_is_removed_cost_no_plan_and_double_none(tmp_path: Path) -> None:
    told = drawn_by_cluster(tmp_path, 200, "worker", "node")
    assert (told["error"], told["plans"], told["renders"], told["most"]) == ("", 200, 200, 1)
    assert set(told["codes"]) == {"SOS-E040"}
    assert told["left"] == []


@pytest.mark.once
def test_a_head_that_is_gone_ends_the_run_with_what_was_drawn(tmp_path: Path) -> None:
    told = drawn_by_cluster(tmp_path, 100, "head")
    assert "Ray's head at" in told["error"]
    assert told["error"].endswith("is gone")
    assert "the same command then does what is left" in told["hint"]
    assert 10 <= told["plans"] == told["renders"] <= 100
    assert told["most"] == 1


@pytest.mark.once
def test_a_host_of_another_version_is_refused_before_a_plan_is_sent(tmp_path: Path) -> None:
    told = drawn_by_cluster(tmp_path, 10, "old")
    assert (told["plans"], told["error"]) == (0, "")
    assert any(f"has Sosie 0.0.9, this machine {__version__}" in message for message in told["checks"])
