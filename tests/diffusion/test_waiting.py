"""Waiting for a GPU without keeping a core busy."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

pytest.importorskip("torch")

import torch

from sosie.diffusion.waiting import computed

pytestmark = pytest.mark.local


def test_on_a_cpu_nothing_is_waited_for() -> None:
    numbers = torch.arange(3)
    assert computed(numbers) is numbers


def test_a_core_sleeps_until_the_gpu_has_computed_a_tensor(monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[object] = []

    class Event:
        def __init__(self, *, blocking: bool) -> None:
            done.append(blocking)

        def record(self, stream: object) -> None:
            done.append(stream)

        def synchronize(self) -> None:
            done.append("waited")

    monkeypatch.setattr(torch.cuda, "Event", Event)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: f"stream of {device}")
    there: Any = SimpleNamespace(is_cuda=True, device="cuda:1")
    assert computed(there) is there
    assert done == [True, "stream of cuda:1", "waited"]
