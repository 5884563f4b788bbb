"""Threads that wait sleep on a busy machine, whoever computes."""

from __future__ import annotations

import os
from types import SimpleNamespace
from typing import Any, cast

import pytest

from sosie.api.training import train
from sosie.core.errors import ConfigError
from sosie.machines.load import POLICY, calm_threads


@pytest.fixture
def load(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """What the last minute's load is, on two cores, without a policy yet."""
    now = [3.0]
    monkeypatch.setattr(os, "getloadavg", lambda: (now[0], 0.0, 0.0), raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 2)
    monkeypatch.setattr("sys.platform", "linux")
    monkeypatch.setenv(POLICY, "")  # so that it is given back at the end
    monkeypatch.delenv(POLICY)
    return now


def test_waiting_threads_sleep_where_more_runs_than_there_are_cores(load: list[float]) -> None:
    calm_threads()
    assert os.environ[POLICY] == "PASSIVE"


def test_threads_of_an_idle_machine_may_spin(load: list[float]) -> None:
    load[0] = 2.4
    calm_threads()
    assert POLICY not in os.environ


def test_a_policy_that_the_user_set_stays(load: list[float], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(POLICY, "ACTIVE")
    calm_threads()
    assert os.environ[POLICY] == "ACTIVE"


def test_training_asks_before_torch_is_there(load: list[float]) -> None:
    order = SimpleNamespace(recipe=SimpleNamespace(name="sketch", training=None))
    with pytest.raises(ConfigError):
        next(train(cast(Any, None), cast(Any, order)))
    assert os.environ[POLICY] == "PASSIVE"
