"""RunPod's version 2 against its fake: what is asked for is sent, what is unclear is looked up, what bills is seen."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from processes import until

from sosie.core.errors import SosieError, UsageError
from sosie.core.finding import RuleError
from sosie.pods.lease import LeaseTerms
from sosie.pods.offer import GB, Offer, Wanted, misfits
from sosie.pods.providers.client import Ask, BusyError, Client, ProviderError, UnclearError
from sosie.pods.providers.fake_runpod import KEY, FakeRunPod, Faults, own_key, problem
from sosie.pods.providers.fake_server import Answer
from sosie.pods.providers.runpod import RunPod, country_of, lease_of
from sosie.pods.renting import Clock, UselessError, await_login, end_surely, rent_surely
from sosie.pods.switch import new_label, runpod_switch
from sosie.pods.volume import Volume

TERMS = LeaseTerms(60 * GB, datetime.now(UTC) + timedelta(hours=2), 30.0, "ssh-ed25519 AAAA sosie-x")
REQUIRED = {
    *("id", "name", "status", "actions", "image", "args", "disk", "mounts", "ports", "env", "registry", "cloud"),
    *("dataCenterId", "cudaVersion", "ssh", "template", "cost", "locked", "runtime", "createdAt", "startedAt"),
    "globalNetworking",
}
"""What the published schema says that every pod has."""


@pytest.fixture
def fake() -> Iterator[FakeRunPod]:
    with FakeRunPod() as server:
        yield server


def provider(fake: FakeRunPod) -> RunPod:
    return RunPod(Client("runpod", fake.url, KEY, lambda _: None), lambda _: None)


def clock() -> Clock:
    at = [0.0]
    return Clock(lambda: at[0], lambda seconds: at.__setitem__(0, at[0] + seconds))


def sent(fake: FakeRunPod, method: str) -> list[Any]:
    return [body for one, _, body in fake.requests if one == method]


def test_only_what_has_stock_in_a_wanted_country_is_an_offer(fake: FakeRunPod) -> None:
    wanted = Wanted("4090", disk=60 * GB, places=("RO", "IS", "FR"))
    found = [one for one in provider(fake).search(wanted) if not list(misfits(one, wanted))]
    assert [(one.id, one.place) for one in found] == [("SECURE|NVIDIA GeForce RTX 4090|EU-RO-1", "RO")]
    assert found[0].price == pytest.approx(0.69 + 60 * 0.10 / 730)
    assert "countryCodes=RO%2CIS%2CFR" in fake.requests[0][1]


def test_cuda_is_a_filter_of_the_provider(fake: FakeRunPod) -> None:
    found = provider(fake).search(Wanted(cuda=(13, 0)))
    assert "5090" not in str(found)
    assert {one.cuda for one in found} == {(13, 0)}
    assert "minCudaVersion=13.0" in fake.requests[0][1]


def test_what_is_not_told_does_not_suit(fake: FakeRunPod) -> None:
    for wanted in (Wanted(driver=(570,)), Wanted(bandwidth=1), Wanted(reliability=0.9)):
        assert all(list(misfits(one, wanted)) for one in provider(fake).search(wanted))


def test_the_request_names_exactly_one_card_and_place_and_the_pods_own_key(fake: FakeRunPod) -> None:
    vendor = provider(fake)
    offer = next(one for one in vendor.search(Wanted("", disk=60 * GB)) if one.place == "RO")
    lease = vendor.rent(offer, new_label("elena", TERMS.deadline), TERMS)
    (body,) = sent(fake, "POST")
    assert body["gpu"] == {"id": "NVIDIA GeForce RTX 4090", "count": 1}
    assert (body["cloud"], body["dataCenterIds"], body["disk"]) == ("SECURE", ["EU-RO-1"], 60)
    assert body["env"]["PUBLIC_KEY"] == TERMS.ssh_key
    assert KEY not in str(body)
    assert "$RUNPOD_API_KEY" in body["env"]["SOSIE_SWITCH"]
    assert lease.deadline == TERMS.deadline.replace(microsecond=0)
    assert (lease.state, lease.ssh) == ("starting", ())


def an_offer() -> Offer:
    return Offer("runpod", "SECURE|NVIDIA A40", "A40", 0.4)


def test_a_500_after_creation_rents_once_and_leaves_no_orphan(fake: FakeRunPod) -> None:
    fake.faults.create.append("500")
    label = new_label("elena", TERMS.deadline)
    lease = rent_surely(provider(fake), an_offer(), label, TERMS, clock())
    assert (len(sent(fake, "POST")), list(fake.pods), lease.label) == (1, [lease.id], label)


@pytest.mark.parametrize(("fault", "kind"), [("429", BusyError), ("full", ProviderError)])
def test_a_creation_is_never_repeated(fake: FakeRunPod, fault: str, kind: type[Exception]) -> None:
    fake.faults.create.append(fault)
    with pytest.raises(kind):
        rent_surely(provider(fake), an_offer(), "l", TERMS, clock())
    assert (len(sent(fake, "POST")), fake.pods) == (1, {})


def test_a_price_above_the_agreed_one_is_ended_at_once(fake: FakeRunPod) -> None:
    fake.faults.cost = 3.0
    with pytest.raises(ProviderError, match=r"came at 3\.000"):
        rent_surely(provider(fake), an_offer(), "l", replace(TERMS, price=0.5), clock())
    assert fake.pods == {}


def test_another_card_is_never_taken(fake: FakeRunPod) -> None:
    with pytest.raises(ProviderError, match="no machine with that GPU"):
        provider(fake).rent(replace(an_offer(), id="SECURE|NVIDIA A41"), "l", TERMS)


def test_a_template_of_vast_is_refused(fake: FakeRunPod) -> None:
    with pytest.raises(ProviderError, match="no template 'comfyui'"):
        provider(fake).rent(an_offer(), "l", replace(TERMS, template="comfyui"))
    assert sent(fake, "POST") == []


def test_a_wait_that_the_provider_asks_for_is_kept() -> None:
    waits: list[float] = []
    with FakeRunPod(faults=Faults(busy=2)) as fake:
        assert RunPod(Client("runpod", fake.url, KEY, waits.append)).leases() == []
    assert waits == [12.0, 12.0]


def test_a_machine_without_a_public_address_is_given_up(fake: FakeRunPod) -> None:
    fake.faults.hidden = True
    vendor = provider(fake)
    lease = vendor.rent(an_offer(), "l", TERMS)
    with pytest.raises(UselessError, match="did not start"):
        await_login(vendor, lease, 1.0, lambda _: pytest.fail("no address"), clock())


@pytest.mark.parametrize("states", [("ERROR",), ("EXITED",), ("SOMETHING",)])
def test_a_state_that_never_becomes_running_is_of_no_use(states: tuple[str, ...]) -> None:
    with FakeRunPod(faults=Faults(states=states)) as fake:
        vendor = provider(fake)
        lease = vendor.rent(an_offer(), "l", TERMS)
        with pytest.raises(UselessError):
            await_login(vendor, lease, 1.0, lambda _: pytest.fail("no address"), clock())


def test_a_stopped_pod_is_still_something_that_bills(fake: FakeRunPod) -> None:
    fake.faults.states = ("STARTING", "EXITED")
    vendor = provider(fake)
    vendor.rent(an_offer(), "l", TERMS)
    assert [one.state for one in vendor.leases()] == ["stopped"]


def test_an_end_is_an_end_when_the_pod_is_gone(fake: FakeRunPod) -> None:
    vendor = provider(fake)
    lease = vendor.rent(an_offer(), "l", TERMS)
    fake.faults.undying = 1
    vendor.end(lease)
    vendor.end(lease)
    assert fake.pods == {}
    again = vendor.rent(an_offer(), "m", TERMS)
    fake.faults.undying = 10**6
    with pytest.raises(RuleError, match="may bill"):
        end_surely(vendor, again)


def test_an_error_is_told_with_its_reason_and_without_the_key(fake: FakeRunPod) -> None:
    secret = "s3cret-key-of-somebody"
    with pytest.raises(SosieError, match=r"missing bearer token") as refused:
        RunPod(Client("runpod", fake.url, secret)).leases()
    assert secret not in refused.value.message + refused.value.hint


def test_the_key_stands_in_no_address_and_no_body(fake: FakeRunPod) -> None:
    vendor = provider(fake)
    offer = vendor.search(Wanted(disk=60 * GB))[0]
    vendor.end(vendor.rent(offer, "l", TERMS))
    assert {method for method, _, _ in fake.requests} == {"GET", "POST", "DELETE"}
    assert not [ask for ask in fake.requests if KEY in f"{ask}" or "api_key" in ask[1]]


def test_the_fakes_pods_have_what_the_schema_requires(fake: FakeRunPod) -> None:
    vendor = provider(fake)
    vendor.rent(an_offer(), "l", TERMS)
    (pod,) = fake.answer("GET", "/v2/pods", None)[1]["pods"]
    assert set(pod) >= REQUIRED
    status, table = fake.answer("POST", "/v2/pods", {"name": "x", "image": "y", "gpuCount": 1, "gpu": {"id": "z"}})
    assert (status, table["errors"]) == (422, ["$: additional properties 'gpuCount' not allowed"])


@pytest.mark.parametrize(
    ("name", "country"),
    [
        ("EU-RO-1", "RO"),
        ("US-TX-3", "US"),
        ("CA-MTL-1", "CA"),
        ("EUR-IS-1", "IS"),
        ("AP-JP-1", "JP"),
        ("", None),
        ("x", None),
    ],
)
def test_a_data_centre_stands_in_a_country(name: str, country: str | None) -> None:
    assert country_of(name) == country


@pytest.mark.parametrize(
    "direct", [{"host": "-oProxyCommand=id", "port": 22, "username": "root"}, {"host": "a", "port": "22;id"}, 7, None]
)
def test_an_address_of_nonsense_is_none(direct: object) -> None:
    lease = lease_of({"id": "p", "name": 3, "status": "RUNNING", "ssh": {"direct": direct}, "cost": "x"})
    assert lease is not None
    assert (lease.ssh, lease.machine, lease.price) == ((), None, 0.0)


def test_a_switch_is_written_for_an_address_alone() -> None:
    with pytest.raises(UsageError):
        runpod_switch(TERMS.deadline, "https://x/'; rm -rf /")


def switched(fake: FakeRunPod, number: str, folder: Path) -> subprocess.Popen[bytes]:
    """The switch of a pod, whose deadline has passed, as its image runs it; what `curl` was called with is kept."""
    folder.mkdir(exist_ok=True)
    curl = folder / "curl"
    curl.write_text(f'#!/bin/sh\nprintf "%s\\n" "$*" >>{folder}/words\nexec {shutil.which("curl")} "$@"\n')
    curl.chmod(0o755)
    script = runpod_switch(datetime.now(UTC) - timedelta(hours=1), fake.url)
    own = {"RUNPOD_API_KEY": own_key(number), "RUNPOD_POD_ID": number, "PATH": f"{folder}:{os.environ['PATH']}"}
    return subprocess.Popen(["sh", "-c", script + "\nwait"], env=own, start_new_session=True)


needs_curl = pytest.mark.skipif(shutil.which("curl") is None, reason="curl, which RunPod's images have, is not here")


@needs_curl
@pytest.mark.parametrize("stop_only", [False, True])
def test_the_switch_ends_the_pod_or_stops_it_with_the_pods_own_key(
    fake: FakeRunPod, tmp_path: Path, stop_only: bool
) -> None:
    vendor = provider(fake)
    lease, other = (vendor.rent(an_offer(), name, TERMS) for name in "ab")
    fake.faults.stop_only = stop_only
    shell = switched(fake, lease.id, tmp_path / "pod")
    try:
        assert until(lambda: {one.id: one.state for one in vendor.leases()}.get(lease.id) in (None, "stopped"), 60)
    finally:
        os.killpg(shell.pid, 9)
        shell.wait()
    assert (lease.id in fake.pods, other.id in fake.pods) == (stop_only, True)
    assert "Bearer" not in (words := (tmp_path / "pod" / "words").read_text())
    assert own_key(lease.id) not in words


def test_a_pods_own_key_can_do_nothing_to_others(fake: FakeRunPod) -> None:
    lease, other = (provider(fake).rent(an_offer(), name, TERMS) for name in "ab")
    pod = Client("runpod", fake.url, own_key(lease.id))
    for ask in (
        Ask("GET", "/v2/pods"),
        Ask("POST", "/v2/pods", {"name": "x"}),
        Ask("DELETE", f"/v2/pods/{other.id}"),
        Ask("GET", f"/v2/pods/{lease.id}0"),
    ):
        with pytest.raises(ProviderError, match=r"access denied \(403\)"):
            pod.once(ask)
    assert {*fake.pods} == {lease.id, other.id}


@pytest.mark.parametrize(
    ("status", "kind", "hint"),
    [
        (400, ProviderError, ""),
        (401, ProviderError, "its key is wrong"),
        (403, ProviderError, "has no right to this"),
        (404, ProviderError, "is not there"),
        (405, ProviderError, "its interface may have changed"),
        (409, ProviderError, ""),
        (422, ProviderError, ""),
        (429, BusyError, "wait"),
        (500, UnclearError, ""),
        (503, UnclearError, ""),
    ],
)
def test_each_refusal_is_told_apart_with_its_reason_and_what_it_means_for_money(
    fake: FakeRunPod, monkeypatch: pytest.MonkeyPatch, status: int, kind: type[Exception], hint: str
) -> None:
    monkeypatch.setattr(fake, "answer", lambda *_: problem(status, "the detail", ["$.disk: too large"]))
    with pytest.raises(ProviderError, match="the detail") as error:
        Client("runpod", fake.url, KEY).once(Ask("POST", "/v2/pods", {}))
    assert type(error.value) is kind
    assert error.value.status == status
    assert f"({status})" in error.value.message
    assert "$.disk: too large" in error.value.message
    assert hint in error.value.hint


def test_a_field_that_it_does_not_know_is_named_in_the_error(fake: FakeRunPod) -> None:
    body = {"name": "x", "image": "y", "gpuCount": 1, "gpu": {"id": "z"}}
    with pytest.raises(ProviderError, match="'gpuCount' not allowed"):
        Client("runpod", fake.url, KEY).once(Ask("POST", "/v2/pods", body))


def test_a_limit_without_a_time_to_wait_is_waited_for_until_its_window_ends(
    fake: FakeRunPod, monkeypatch: pytest.MonkeyPatch
) -> None:
    waits: list[float] = []
    limit = {"RateLimit": '"minute";r=0;t=17, "hour";r=2800;t=1812', "Content-Type": "application/problem+json"}
    answers = [
        Answer(*problem(429, "minute window"), limit),
        Answer(200, {"pods": []}, {"RateLimit": '"minute";r=5;t=3'}),
    ]
    monkeypatch.setattr(fake, "reply", lambda *_: answers.pop(0))
    assert RunPod(Client("runpod", fake.url, KEY, waits.append)).leases() == []
    assert waits == [17.0]


def test_version_1_which_has_ended_is_never_asked(fake: FakeRunPod) -> None:
    vendor = provider(fake)
    lease = vendor.rent(vendor.search(Wanted(disk=60 * GB))[0], "l", TERMS)
    assert [vendor.leases(), vendor.volumes(), vendor.billed(TERMS.deadline)][1:] == [[], {}]
    vendor.end(lease)
    assert {path.split("/")[1] for _, path, _ in fake.requests} == {"v2"}


def test_it_takes_no_bids(fake: FakeRunPod) -> None:
    assert provider(fake).search(Wanted(bid=0.1)) == []
    assert fake.requests == []


def test_both_clouds_are_asked_and_the_one_of_the_offer_is_rented(fake: FakeRunPod) -> None:
    vendor = provider(fake)
    found = [one for one in vendor.search(Wanted("4090")) if "4090" in one.gpu]
    assert [(one.id.partition("|")[0], one.place) for one in found] == [
        ("COMMUNITY", None),
        ("SECURE", "RO"),
        ("SECURE", "US"),
    ]
    vendor.rent(found[0], "l", TERMS)
    assert sent(fake, "POST")[0]["cloud"] == "COMMUNITY"
    assert "dataCenterIds" not in sent(fake, "POST")[0]


def test_a_terminated_pod_bills_nothing() -> None:
    assert lease_of({"id": "p", "name": "l", "status": "TERMINATED", "cost": 1.0}) is None


def test_a_list_that_says_that_there_is_more_is_not_all_that_bills(
    fake: FakeRunPod, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fake, "answer", lambda *_: (200, {"pods": [], "nextToken": "abc"}))
    with pytest.raises(ProviderError, match="not all that bills"):
        provider(fake).leases()


def test_a_pod_that_is_changing_its_state_is_asked_to_end_again(fake: FakeRunPod) -> None:
    vendor = provider(fake)
    lease = vendor.rent(an_offer(), "l", TERMS)
    fake.faults.changing = 2
    vendor.end(lease)
    assert fake.pods == {}


def test_an_end_that_is_refused_is_never_told_as_one(fake: FakeRunPod) -> None:
    vendor = provider(fake)
    lease = vendor.rent(an_offer(), "l", TERMS)
    fake.faults.stop_only = True
    with pytest.raises(RuleError, match="may bill") as error:
        end_surely(vendor, lease)
    assert error.value.code == "SOS-B005"
    assert list(fake.pods) == [lease.id]


def test_what_it_billed_is_summed_for_each_pod(fake: FakeRunPod) -> None:
    fake.records = [
        {"podId": "a", "totalAmount": 0.25, "gpuAmount": 0.24, "diskAmount": 0.01},
        {"podId": "b", "totalAmount": 1.0},
        {"podId": "a", "totalAmount": 0.5},
        {"podId": "a", "totalAmount": "nonsense"},
    ]
    start = datetime(2026, 6, 1, 12, 30, tzinfo=UTC)
    assert provider(fake).billed(start) == {"a": 0.75, "b": 1.0}
    assert "startTime=2026-06-01T12%3A30%3A00Z" in fake.requests[-1][1]
    assert "bucketSize=day" in fake.requests[-1][1]


def test_volumes_that_somebody_made_are_told(fake: FakeRunPod) -> None:
    fake.volumes = [{"id": "2q9m7x4c", "name": "training-dataset", "size": 100, "dataCenter": "US-KS-2", "type": "X"}]
    assert provider(fake).volumes() == [Volume("runpod", "2q9m7x4c", "training-dataset", 100 * GB)]
