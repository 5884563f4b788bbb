"""The memory that a program may use: the machine's, within a container's limit."""

from __future__ import annotations

from pathlib import Path

import pytest

from sosie.engines import residency
from sosie.machines.memory import available_memory, machine_memory, total_memory

GIB = 2**30
MEMINFO = "MemTotal: 33554432 kB\nMemFree: 1 kB\nMemAvailable: 16777216 kB\n"
V2 = ("memory.max", "memory.current", "memory.stat", "inactive_file")
V1 = ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes", "memory/memory.stat", "total_inactive_file")


def write(root: Path, name: str, text: str) -> None:
    (root / name).parent.mkdir(parents=True, exist_ok=True)
    (root / name).write_text(text)


def test_without_a_limit_it_is_the_machines(tmp_path: Path) -> None:
    write(tmp_path, "proc/meminfo", MEMINFO)
    write(tmp_path, "sys/fs/cgroup/memory.max", "max\n")
    assert (total_memory(tmp_path), available_memory(tmp_path)) == (32 * GIB, 16 * GIB)


@pytest.mark.parametrize("group", [V2, V1])
def test_in_a_container_it_is_what_its_limit_leaves_without_files_that_can_be_dropped(
    tmp_path: Path, group: tuple[str, str, str, str]
) -> None:
    limit, used, stat, files = group
    write(tmp_path, "proc/meminfo", MEMINFO)
    write(tmp_path, f"sys/fs/cgroup/{limit}", f"{8 * GIB}\n")
    assert (total_memory(tmp_path), available_memory(tmp_path)) == (8 * GIB, 8 * GIB)
    write(tmp_path, f"sys/fs/cgroup/{used}", f"{6 * GIB}\n")
    assert available_memory(tmp_path) == 2 * GIB
    write(tmp_path, f"sys/fs/cgroup/{stat}", f"anon {GIB}\n{files} {3 * GIB}\nslab 5\n")
    assert available_memory(tmp_path) == 5 * GIB
    write(tmp_path, f"sys/fs/cgroup/{used}", f"{20 * GIB}\n")
    assert available_memory(tmp_path) == 0


def test_a_limit_above_the_machines_memory_is_none(tmp_path: Path) -> None:
    write(tmp_path, "proc/meminfo", MEMINFO)
    write(tmp_path, "sys/fs/cgroup/memory/memory.limit_in_bytes", f"{2**63 - 4096}\n")
    assert (total_memory(tmp_path), available_memory(tmp_path)) == (32 * GIB, 16 * GIB)


def test_a_system_that_does_not_tell_is_not_known_and_no_model_must_leave(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert total_memory(tmp_path) is None
    monkeypatch.setattr("sosie.machines.memory._pages", lambda _: None)
    assert (available_memory(tmp_path), machine_memory()) == (None, None)
    monkeypatch.setattr(residency, "available_memory", lambda: None)
    assert residency.free_memory() > 10**15


def test_this_machine_tells(tmp_path: Path) -> None:
    assert 0 < (available_memory() or 0) <= (machine_memory() or 0)
