"""RunPod's version 2 against its fake: what is asked for is sent, what is unclear is looked up, what bills is seen."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from sosie.core.errors import SosieError, UsageError
from sosie.core.finding import RuleError
from sosie.pods.lease import LeaseTerms
from sosie.pods.offer import GB, Offer, Wanted, misfits
from sosie.pods.providers.client import BusyError, Client, ProviderError
from sosie.pods.providers.fake_runpod import KEY, FakeRunPod, Faults
from sosie.pods.providers.runpod import RunPod, country_of, lease_of
from sosie.pods.renting import Clock, UselessError, await_login, end_surely, rent_surely
from sosie.pods.switch import new_label, runpod_switch

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
    assert (status, table["errors"]) == (422, ["unknown field gpuCount"])


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
