"""The limits that providers publish: the fakes keep them as numbers, and the clients stay within them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import pytest

from sosie.pods.lease import LeaseTerms
from sosie.pods.offer import GB, Wanted
from sosie.pods.providers.client import Ask, BusyError, Client
from sosie.pods.providers.fake_runpod import KEY as RUNPOD_KEY
from sosie.pods.providers.fake_runpod import WINDOWS, FakeRunPod
from sosie.pods.providers.fake_server import Thresholds, Windows
from sosie.pods.providers.fake_vast import KEY, THRESHOLDS, FakeVast
from sosie.pods.providers.pace import Pace
from sosie.pods.providers.runpod import RunPod
from sosie.pods.providers.vast import INTERVALS, Vast

TERMS = LeaseTerms(20 * GB, datetime.now(UTC) + timedelta(hours=2), 30.0, "ssh-ed25519 AAAA sosie-x")


@dataclass
class Hours:
    """A clock that only sleeping moves."""

    at: float = 1000.0

    def now(self) -> float:
        return self.at

    def sleep(self, seconds: float) -> None:
        self.at += seconds


def refusals(client: Client, ask: Ask, count: int) -> int:
    """How many of so many requests in a row are refused."""
    refused = 0
    for _ in range(count):
        try:
            client.once(ask)
        except BusyError:
            refused += 1
    return refused


def test_vast_machines_are_rented_listed_and_ended_in_a_row_without_a_429_at_the_published_thresholds() -> None:
    clock = Hours()
    with FakeVast() as fake:
        fake.limits = Thresholds(THRESHOLDS, clock.now)
        hasty = Client("vast", fake.url, KEY, clock.sleep)
        assert refusals(hasty, Ask("GET", "/api/v1/instances/"), 3) == 2  # the fake does keep them
        clock.at, fake.requests = 2000.0, []
        vast = Vast(Client("vast", fake.url, KEY, clock.sleep, Pace(INTERVALS, clock.sleep, clock.now)), clock.sleep)
        offers = [one for one in vast.search(Wanted(disk=20 * GB)) if one.price < 1][:3]
        leases = [vast.rent(one, f"sosie-{one.id}", TERMS) for one in offers]
        assert len(vast.leases()) == len(vast.leases()) == 3
        for lease in leases:
            vast.end(lease)
        assert vast.volumes() == vast.volumes() == []
        assert fake.instances == {}
        # Nothing was sent twice, as it would be after a 429.
        sent = [(method, path.partition("?")[0]) for method, path, _ in fake.requests]
        assert [sum(method == one for method, _ in sent) for one in ("PUT", "DELETE")] == [3, 3]
        assert sent.count(("GET", "/api/v1/instances/")) == sent.count(("GET", "/api/v0/volumes/")) == 2
    assert clock.at - 2000.0 == pytest.approx(2 * 4.5 + 1.0 + 2 * 3.0 + 5.5)


def test_runpod_is_asked_again_when_the_window_that_its_answers_tell_of_is_over() -> None:
    clock = Hours()
    with FakeRunPod() as fake:
        fake.limits = Windows({**WINDOWS, "minute": (4, 60)}, clock.now)
        pace = Pace((), clock.sleep, clock.now)
        pods = RunPod(Client("runpod", fake.url, RUNPOD_KEY, clock.sleep, pace))
        for _ in range(5):
            assert pods.leases() == []
        assert len(fake.requests) == 5
    assert clock.at == 1060.0  # one wait, of the minute; no request was refused


def test_the_windows_of_the_fake_are_those_of_the_published_example() -> None:
    windows = Windows(WINDOWS)
    assert windows.take() == ""
    published = '"minute";q=60;w=60, "hour";q=3000;w=3600, "day";q=50000;w=86400'
    assert windows.headers["RateLimit-Policy"] == published
    assert [windows.take() for _ in range(60)] == [*[""] * 59, "minute"]


def test_a_window_of_hours_is_not_waited_for_and_says_how_long_it_lasts() -> None:
    clock = Hours()
    with FakeRunPod() as fake:
        fake.limits = Windows({"day": (2, 86_400)}, clock.now)
        client = Client("runpod", fake.url, RUNPOD_KEY, clock.sleep, Pace((), clock.sleep, clock.now))
        for _ in range(2):
            client.once(Ask("GET", "/v2/pods"))
        with pytest.raises(BusyError, match="rate limit exceeded for the day window") as refused:
            client.once(Ask("GET", "/v2/pods"))
    assert (refused.value.wait, clock.at) == (86_400.0, 1000.0)
