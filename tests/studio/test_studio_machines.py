"""Rented machines on the page, against the fake of Vast.ai: what bills, what can be had, and the end of one."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

pytest.importorskip("fastapi", reason="fastapi is not installed: pip install 'sosie[studio]'")

from studio_page import Studio

from sosie.pods import renting
from sosie.pods.lease import LeaseTerms
from sosie.pods.offer import Wanted
from sosie.pods.pod import Pod, save_pod
from sosie.pods.providers import vast as vast_module
from sosie.pods.providers.fake_vast import KEY, FakeVast
from sosie.pods.switch import new_label
from sosie.workspace.workspace import open_workspace

DISK = 20_000_000_000


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeVast]:
    monkeypatch.setattr(renting, "BETWEEN", 0.01)
    monkeypatch.setattr(vast_module.PROVIDER, "_given", None)
    with FakeVast() as server:
        monkeypatch.setenv("VAST_URL", server.url)
        monkeypatch.setenv("VAST_API_KEY", KEY)
        yield server
    vast_module.PROVIDER._given = None


def rented(studio: Studio, name: str) -> str:
    """A machine that was rented two hours ago, for four; its lease."""
    now = datetime.now(UTC)
    provider, deadline = vast_module.PROVIDER, now + timedelta(hours=2)
    offer = next(one for one in provider.search(Wanted(gpu="3090", disk=DISK)) if one.driver and one.driver > (500,))
    label = new_label(name, deadline)
    lease = provider.rent(offer, label, LeaseTerms(DISK, deadline, 9.0, "ssh-ed25519 AAAA"))
    created = (now - timedelta(hours=2)).isoformat(timespec="seconds")
    until = deadline.isoformat(timespec="seconds")
    pod = Pod(name, "vast", label, offer.id, offer.gpu, offer.price, DISK, until, created, lease.id)
    save_pod(open_workspace(studio.root), pod)
    return lease.id


def test_leases_show_what_they_cost_so_far_and_one_is_taken_down(studio: Studio, fake: FakeVast) -> None:
    number = rented(studio, "elena")
    provider = vast_module.PROVIDER
    offer = provider.search(Wanted(gpu="4090", disk=DISK))[0]
    provider.rent(
        offer, "somebody's", LeaseTerms(DISK, datetime.now(UTC) + timedelta(hours=1), 9.0, "ssh-ed25519 AAAA")
    )
    found = studio.json("/api/machines")
    one, other = sorted(found["leases"], key=lambda lease: lease["pod"] is None)
    assert (one["pod"], one["id"], one["provider"]) == ("elena", number, "vast")
    assert one["cost"] == pytest.approx(2 * one["price"], rel=0.02)
    assert one["most"] == pytest.approx(4 * one["price"], rel=0.02)
    assert (other["pod"], other["cost"], other["most"]) == (None, None, None)
    assert found["price"] == pytest.approx(one["price"] + other["price"])
    assert "SOS-B006" in {each["code"] for each in found["findings"]}  # the other one bills without an end
    ended = studio.json("/api/machines/elena/end", {})
    assert (ended["name"], bool(ended["ended"])) == ("elena", True)
    assert [each["pod"] for each in studio.json("/api/machines")["leases"]] == [None]
    assert len(fake.instances) == 1
    assert studio.post("/api/machines/elena/end", {}).status == 404


def test_offers_hold_the_price_of_the_hours_and_what_fails_is_struck_out_with_the_reason(
    studio: Studio, fake: FakeVast
) -> None:
    found = studio.json("/api/machines/offers?gpu=3090&disk=20&hours=4&places=EU")["offers"]
    sound = [one for one in found if not one["struck"]]
    assert [one["price"] for one in sound] == sorted(one["price"] for one in sound)
    assert all(one["most"] == pytest.approx(4 * one["price"]) for one in sound)
    (struck,) = [one for one in found if one["struck"]]
    assert "driver 470" in struck["struck"]
    assert len(studio.json("/api/machines/offers?gpu=3090&disk=20&places=EU&price=0.01")["offers"]) == 0
    assert studio.get("/api/machines/offers?gpus=0").status == 422


def test_a_pod_that_nobody_bills_is_gone_unless_its_provider_cannot_be_asked(
    studio: Studio, fake: FakeVast, monkeypatch: pytest.MonkeyPatch
) -> None:
    rented(studio, "nora")
    fake.instances.clear()
    (gone,) = studio.json("/api/machines")["leases"]
    assert (gone["pod"], gone["state"], gone["cost"]) == ("nora", "gone", None)
    monkeypatch.setenv("VAST_API_KEY", "wrong-key-of-vast")
    vast_module.PROVIDER._given = None
    found = studio.json("/api/machines")
    assert (found["leases"], found["findings"][0]["code"]) == ([], "SOS-B002")


def test_a_volume_that_bills_is_told_beside_the_leases_in_english_and_french(studio: Studio, fake: FakeVast) -> None:
    assert studio.json("/api/machines")["findings"] == []
    fake.volumes.append({"id": 41, "label": "models", "disk_space": 80})
    (found,) = studio.json("/api/machines")["findings"]
    assert (found["code"], found["severity"]) == ("SOS-B008", "warning")
    assert "volume 41 'models', 80 GB" in found["message"]
    assert "est facturé" in found["fr"]["message"]
    assert "41" in found["fr"]["message"]


def test_no_key_is_sent_to_the_page_whatever_goes_wrong(
    studio: Studio, fake: FakeVast, monkeypatch: pytest.MonkeyPatch
) -> None:
    rented(studio, "elena")
    answers: list[Any] = [studio.get(path) for path in ("/api/machines", "/api/machines/offers?gpu=3090")]
    monkeypatch.setenv("VAST_API_KEY", "another-secret-of-vast")
    vast_module.PROVIDER._given = None
    answers += [
        studio.get("/api/machines"),
        studio.get("/api/machines/offers"),
        studio.post("/api/machines/elena/end", {}),
    ]
    monkeypatch.delenv("VAST_API_KEY")
    vast_module.PROVIDER._given = None
    answers.append(studio.get("/api/machines"))
    assert "SOS-B001" in answers[-1].text
    for answer in answers:
        for secret in (KEY, "another-secret-of-vast", "PRIVATE KEY", "ssh-ed25519"):
            assert secret not in answer.text
