"""Files for other engines: what they say, that the engines' own models read them, and what they refuse."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from far_machine import executable
from hypothesis import given, settings
from hypothesis import strategies as st

from sosie.core.errors import NotFoundError, UsageError
from sosie.pods.export import TARGETS, export
from sosie.pods.export.share import Share
from sosie.pods.export.yaml import dumped

Sosie = Callable[..., Any]
COPIES = Share(
    *("plans", "/plans", 4, 2.5, "L4", 24 * 10**9, 60 * 10**9, 0.8),
    on=("runpod", "aws"),
    fetch=("rclone copy bucket:plans /plans",),
    deliver=("rclone copy /plans/drawn bucket:plans/drawn",),
)
SHARED = replace(COPIES, fetch=(), deliver=(), claim="plans")


def read(share: Share, target: str) -> Any:
    return yaml.safe_load(export(share, target)[1])


def test_dstack_runs_a_task_a_machine_at_the_clouds_that_are_named() -> None:
    task = read(replace(COPIES, on=("vast", "runpod")), "dstack")
    assert task["type"] == "task"
    assert task["backends"] == ["vastai", "runpod"]
    assert task["resources"] == {"gpu": {"count": 1, "name": "L4", "memory": "24GB.."}, "disk": "60GB.."}
    assert (task["max_price"], task["max_duration"], task["env"]) == (0.8, 9000, ["NUMBER=0"])
    assert 'sosie worker draw /plans --shard "$NUMBER/4"' in task["commands"][0]
    assert read(SHARED, "dstack")["volumes"] == ["/plans:/plans"]


def test_skypilot_runs_a_managed_job_a_machine_and_never_takes_vast() -> None:
    task = read(COPIES, "skypilot")
    assert task["resources"]["any_of"] == [{"infra": "runpod"}, {"infra": "aws"}]
    assert (task["resources"]["accelerators"], task["resources"]["disk_size"]) == ("L4:1", 60)
    assert task["run"].startswith("timeout 9000 sh -s <<'SHARD'\n")
    with pytest.raises(UsageError, match=r"9733.*account's key") as refused:
        export(replace(COPIES, on=("aws", "vast")), "skypilot")
    assert "sosie pod up" in refused.value.hint
    with pytest.raises(UsageError, match=r"may take Vast\.ai by itself"):
        export(replace(COPIES, on=()), "skypilot")
    with pytest.raises(UsageError, match="share no folder"):
        export(SHARED, "skypilot")


def test_kubernetes_runs_an_index_a_machine_with_the_volume_that_has_the_plans() -> None:
    job = read(replace(SHARED, queue="gpus"), "k8s")
    spec, pod = job["spec"], job["spec"]["template"]["spec"]
    assert (job["apiVersion"], job["kind"]) == ("batch/v1", "Job")
    assert (spec["completionMode"], spec["completions"], spec["parallelism"]) == ("Indexed", 4, 4)
    assert (spec["suspend"], spec["activeDeadlineSeconds"]) == (True, 9000)
    assert job["metadata"]["labels"] == {"kueue.x-k8s.io/queue-name": "gpus"}
    (container,) = pod["containers"]
    assert container["resources"]["limits"] == {"nvidia.com/gpu": 1, "ephemeral-storage": "60G"}
    assert container["volumeMounts"] == [{"name": "plans", "mountPath": "/plans"}]
    assert pod["volumes"] == [{"name": "plans", "persistentVolumeClaim": {"claimName": "plans"}}]
    assert "--shard" not in container["command"][2]
    assert (
        '--shard "$JOB_COMPLETION_INDEX/4"'
        in read(COPIES, "k8s")["spec"]["template"]["spec"]["containers"][0]["command"][2]
    )
    with pytest.raises(UsageError, match="see no folder"):
        export(replace(SHARED, claim=""), "k8s")


def test_slurm_runs_an_array_that_a_shell_understands() -> None:
    name, text = export(COPIES, "slurm")
    assert name == "plans-slurm.sbatch"
    assert {"#SBATCH --array=0-3", "#SBATCH --gres=gpu:L4:1", "#SBATCH --time=2:30:00"} <= set(text.splitlines())
    assert subprocess.run(["sh", "-n"], input=text, text=True, check=False).returncode == 0
    assert text.index("#SBATCH --requeue") < text.index("set -e")


@pytest.mark.parametrize("code", [0, 1])
def test_a_machine_delivers_at_the_end_whatever_became_of_its_shard(tmp_path: Path, code: int) -> None:
    executable(tmp_path / "sosie", f'#!/bin/sh\necho "$*" >{tmp_path}/drew\nexit {code}\n')
    share = replace(COPIES, setup=("true",), fetch=("touch fetched",), deliver=("touch delivered",))
    done = subprocess.run(
        ["sh", "-c", share.script("$NUMBER") + "\nwait"],
        env={"PATH": f"{tmp_path}:{os.environ['PATH']}", "NUMBER": "3"},
        cwd=tmp_path,
        check=False,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    assert done.returncode == code
    assert (tmp_path / "drew").read_text() == "worker draw /plans --shard 3/4\n"
    assert {"fetched", "delivered"} <= {path.name for path in tmp_path.iterdir()}
    failing = replace(share, fetch=("false",))
    assert subprocess.run(["sh", "-c", failing.script("0")], cwd=tmp_path, check=False).returncode == 1


@pytest.mark.parametrize(
    "wrong",
    [{"name": "A b"}, {"name": "x'; rm -rf /"}, {"folder": "plans"}, {"machines": 0}, {"hours": 0}, {"hours": 1e9}],
)
def test_what_cannot_be_exported_is_told(wrong: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        replace(COPIES, **wrong)


def test_an_engine_that_is_none_names_the_nearest() -> None:
    with pytest.raises(NotFoundError, match="'skypilots' is no engine for machines; did you mean 'skypilot'"):
        export(COPIES, "skypilots")
    assert sorted(TARGETS) == ["dstack", "k8s", "skypilot", "slurm"]


def test_the_command_writes_the_file_and_says_how_it_is_run(sosie: Sosie, tmp_path: Path) -> None:
    at = ("--at", "/mnt/it is/plans", "-n", "3", "--hours", "1", "--out", tmp_path / "x", "--workspace", tmp_path)
    done = sosie("pod", "export", "plans", "--to", "dstack", *at)
    path = tmp_path / "x" / "plans-dstack.yaml"
    assert (done.code, done.out.strip()) == (0, str(path))
    assert f"dstack apply -y -d -f {path.name} -n plans-$k" in path.read_text()
    assert "sosie worker draw '/mnt/it is/plans'" in yaml.safe_load(path.read_text())["commands"][0]
    assert sosie("pod", "export", "plans", "--to", "skypilot", "--on", "vast", *at).code == 2


TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=12) | st.just("a\nb: 'c'\n")
VALUES = st.recursive(
    TEXT | st.integers(-(10**9), 10**9) | st.booleans() | st.floats(0.01, 1e6).map(lambda one: round(one, 2)),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=10,
)


@settings(max_examples=40)
@given(st.dictionaries(TEXT, VALUES, min_size=1, max_size=4))
def test_what_is_written_is_read_as_it_was(value: dict[str, Any]) -> None:
    assert yaml.safe_load(dumped(value, "a\nb")) == json.loads(json.dumps(value))


def test_several_lines_are_a_block_that_people_can_read() -> None:
    text = dumped({"run": "a: 1\nb 'c'\n", "more": ["x\ny"]})
    assert text == "run: |\n  a: 1\n  b 'c'\nmore:\n  - |-\n    x\n    y\n"


@pytest.mark.skipif(importlib.util.find_spec("dstack") is None, reason="dstack is not installed")
def test_dstack_itself_reads_its_task() -> None:
    from dstack._internal.core.models.configurations import parse_run_configuration  # pyright: ignore

    for share in (COPIES, SHARED, replace(COPIES, on=("vast",))):
        task = parse_run_configuration(read(share, "dstack"))
        assert task.type == "task"
        assert task.resources.gpu.memory.min == 24


@pytest.mark.skipif(importlib.util.find_spec("sky") is None, reason="skypilot is not installed")
def test_skypilot_itself_reads_its_task(tmp_path: Path) -> None:
    import sky  # pyright: ignore

    path = tmp_path / "task.yaml"
    path.write_text(export(COPIES, "skypilot")[1])
    task = sky.Task.from_yaml(str(path))
    assert task.name == "plans"
    assert {str(one.cloud).lower() for one in task.resources} == {"runpod", "aws"}
    assert task.envs == {"NUMBER": "0"}
