"""Vast.ai against its fake: every trap that cost somebody money is a test by its name."""

from __future__ import annotations

import os
import shlex
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from processes import until

from sosie.api.renting.leases import check_leases
from sosie.core.errors import ConfigError, SosieError, UsageError
from sosie.core.finding import RuleError
from sosie.machines.ssh import parse_host
from sosie.machines.ssh.command import quoted
from sosie.machines.ssh.trouble import failed
from sosie.pods.fitness import Work, estimate, ranked, unfit
from sosie.pods.lease import Lease, LeaseTerms
from sosie.pods.offer import GB, Offer, Wanted, misfits
from sosie.pods.places import EEA, EU, countries
from sosie.pods.providers.client import Ask, BusyError, Client, ProviderError
from sosie.pods.providers.fake_vast import KEY, FakeVast, Faults, offer, own_key, some_offers
from sosie.pods.providers.vast import Vast, lease_of, search_body, state_of
from sosie.pods.renting import Clock, UselessError, await_login, end_surely, rent_surely
from sosie.pods.switch import deadline_of, name_of, new_label, vast_switch
from sosie.pods.volume import Volume

TERMS = LeaseTerms(60 * GB, datetime.now(UTC) + timedelta(hours=2), 30.0)


class Time:
    """A clock that goes on only when somebody waits."""

    def __init__(self) -> None:
        self.at = 0.0

    def sleep(self, seconds: float) -> None:
        self.at += seconds

    @property
    def clock(self) -> Clock:
        return Clock(lambda: self.at, self.sleep)


@pytest.fixture
def fake() -> Iterator[FakeVast]:
    with FakeVast() as server:
        yield server


@pytest.fixture
def vast(fake: FakeVast) -> Vast:
    return provider(fake)


def provider(fake: FakeVast, key: str = KEY) -> Vast:
    return Vast(Client("vast", fake.url, key, lambda _: None), lambda _: None)


def sent(fake: FakeVast, method: str) -> list[Any]:
    return [body for one, _, body in fake.requests if one == method]


def any_offer(vast: Vast) -> Offer:
    return vast.search(Wanted(disk=60 * GB))[0]


def test_the_eight_h200_of_texas_are_not_rented_for_one_3090_in_germany(vast: Vast, fake: FakeVast) -> None:
    wanted = Wanted("3090", disk=120 * GB, places=("DE",), price=0.5, reliability=0.98)
    found = vast.search(wanted)
    assert [one.id for one in found] == ["11"]
    assert list(misfits(found[0], wanted)) == []
    (body,) = sent(fake, "POST")
    assert body["geolocation"] == {"in": ["DE"]}
    assert body["gpu_name"]["in"] == ["RTX 3090", "RTX 3090 Ti"]
    assert (body["dph_total"], body["reliability"]) == ({"lte": 0.5}, {"gte": 0.98})


def test_every_figure_is_sent_as_a_number_in_the_units_of_the_interface() -> None:
    wanted = Wanted("", 2, 24 * GB, (8, 9), (570, 86), 120 * GB, 2.0, ("IE",), 0.9, (12, 8), 50_000_000)
    body = search_body(wanted)
    figures = {name: next(iter(value.values())) for name, value in body.items() if isinstance(value, dict)}
    assert figures["compute_cap"] == 890
    assert figures["driver_version"] == 570_086_000
    assert figures["gpu_ram"] == 24_000
    assert figures["cuda_max_good"] == 12.8
    assert figures["inet_down"] == 400
    assert figures["disk_space"] == 120
    assert body["allocated_storage"] == 120
    assert not any(isinstance(value, str) for value in figures.values())


def test_a_price_is_that_with_the_disk_that_is_asked_for(vast: Vast) -> None:
    small, large = (vast.search(Wanted("3090", disk=size * GB, places=("DE",)))[0] for size in (5, 500))
    assert large.price - small.price == pytest.approx(495 * 0.15 / 730)


def test_the_union_has_ireland_and_neither_russia_nor_switzerland() -> None:
    assert (len(EU), len(EEA)) == (27, 30)
    assert "IE" in EU
    assert not {"RU", "BY", "KZ", "GE", "GB", "CH"} & set(EEA)
    assert countries(["eu", "NO", "DE"]) == (*EU, "NO")


def test_a_504_after_creation_rents_once_and_leaves_no_orphan(vast: Vast, fake: FakeVast) -> None:
    fake.faults.create.append("504")
    label = new_label("elena", TERMS.deadline)
    terms = replace(TERMS, ssh_key="ssh-ed25519 AAAA sosie-elena")
    lease = rent_surely(vast, any_offer(vast), label, terms, Time().clock)
    assert len(sent(fake, "PUT")) == 1
    assert [str(one) for one in fake.instances] == [lease.id]
    assert lease.label == label
    assert fake.instances[int(lease.id)]["keys"] == ["ssh-ed25519 AAAA sosie-elena"]


def test_a_500_that_created_nothing_is_no_lease_after_a_minute_of_looking(vast: Vast, fake: FakeVast) -> None:
    fake.faults.create.append("500")
    time = Time()
    with pytest.raises(ProviderError, match="no lease has the label"):
        rent_surely(vast, any_offer(vast), "sosie-x-00000000-2000000000", TERMS, time.clock)
    assert (len(sent(fake, "PUT")), fake.instances, time.at) == (1, {}, 50.0)


def test_nobody_is_told_that_nothing_bills_when_the_list_cannot_be_had(vast: Vast, fake: FakeVast) -> None:
    fake.faults.create.append("504")
    one = any_offer(vast)
    fake.faults.list_busy = 10**6
    with pytest.raises(RuleError, match="sosie-x-1 may bill") as error:
        rent_surely(vast, one, "sosie-x-1", TERMS, Time().clock)
    assert error.value.code == "SOS-B005"


@pytest.mark.parametrize(("fault", "kind"), [("429", BusyError), ("gone", ProviderError)])
def test_a_creation_is_never_repeated(vast: Vast, fake: FakeVast, fault: str, kind: type[Exception]) -> None:
    fake.faults.create.append(fault)
    with pytest.raises(kind):
        rent_surely(vast, any_offer(vast), "l", TERMS, Time().clock)
    assert (len(sent(fake, "PUT")), fake.instances) == (1, {})


def test_an_offer_can_be_rented_once(vast: Vast) -> None:
    one = any_offer(vast)
    vast.rent(one, "a", TERMS)
    with pytest.raises(ProviderError, match="not available"):
        vast.rent(one, "b", TERMS)


def test_an_offer_that_costs_more_than_agreed_is_not_asked_for(vast: Vast, fake: FakeVast) -> None:
    with pytest.raises(ProviderError, match=r"agreed were 0\.010"):
        vast.rent(any_offer(vast), "a", replace(TERMS, price=0.01))
    assert sent(fake, "PUT") == []


def test_a_refusal_that_created_all_the_same_is_destroyed() -> None:
    with FakeVast(faults=Faults(create=["refused"])) as fake:
        vast = provider(fake)
        one = any_offer(vast)
        with pytest.raises(SosieError):
            rent_surely(vast, one, "a", TERMS, Time().clock)
        assert (fake.instances, len(fake.ended)) == ({}, 1)


def test_all_pages_of_the_list_count_and_the_list_of_version_0_is_not_asked(fake: FakeVast) -> None:
    fake.offers = {n: offer(n, "RTX 3090", 0.2, "Germany, DE") for n in range(60)}
    vast = provider(fake)
    for one in vast.search(Wanted()):
        vast.rent(one, f"l{one.id}", TERMS)
    fake.faults.list_busy = 2
    assert len(vast.leases()) == 60
    assert not any(path.startswith("/api/v0/instances/?") for _, path, _ in fake.requests)


@pytest.mark.parametrize(
    ("row", "state"),
    [
        ({"actual_status": None}, "starting"),
        ({"actual_status": "loading"}, "starting"),
        ({"actual_status": "created"}, "starting"),
        ({"actual_status": "running"}, "running"),
        ({"actual_status": "stopped"}, "stopped"),
        ({"actual_status": "exited"}, "failed"),
        ({"actual_status": "offline"}, "failed"),
        ({"actual_status": "frozen"}, "failed"),
        ({"actual_status": "unknown"}, "unknown"),
        ({"actual_status": "never heard of"}, "unknown"),
        ({"actual_status": "loading", "status_msg": "Error: OCI runtime create failed: x"}, "failed"),
        (
            {"actual_status": "exited", "cur_state": "stopped", "intended_status": "stopped", "next_state": "stopped"},
            "stopped",
        ),
        ({}, "starting"),
    ],
)
def test_states_mean_what_they_cost(row: dict[str, Any], state: str) -> None:
    assert state_of(row) == state


@pytest.mark.parametrize("states", [("exited",), ("offline",), ("frozen",), ("outbid",), (None, "unknown")])
def test_a_state_that_never_becomes_running_is_of_no_use(states: tuple[str | None, ...]) -> None:
    with FakeVast(faults=Faults(states=states)) as fake:
        vast = provider(fake)
        lease = vast.rent(any_offer(vast), "a", TERMS)
        with pytest.raises(UselessError, match="of no use"):
            await_login(vast, lease, 1.0, never, Time().clock)


def never(address: str) -> Any:
    raise AssertionError(address)


def test_a_machine_that_loads_for_ever_is_given_up_after_a_quarter_of_an_hour() -> None:
    with FakeVast(faults=Faults(states=(None, "loading"))) as fake:
        vast, time = provider(fake), Time()
        lease = vast.rent(any_offer(vast), "a", TERMS)
        with pytest.raises(UselessError, match="did not start, for 15 minutes"):
            await_login(vast, lease, 1.0, never, time.clock)
        assert time.at == 900.0


def test_a_price_above_the_agreed_one_is_seen_while_it_starts(vast: Vast, fake: FakeVast) -> None:
    lease = vast.rent(any_offer(vast), "a", TERMS)
    with pytest.raises(UselessError, match="agreed were"):
        await_login(vast, lease, 0.01, never, Time().clock)


def test_the_direct_way_comes_before_the_proxy() -> None:
    row = {
        "id": 1,
        "public_ipaddr": " 203.0.113.7 ",
        "ports": {"22/tcp": [{"HostPort": "40022"}]},
        "ssh_host": "ssh4.vast.ai",
    }
    lease = lease_of({**row, "ssh_port": 12345})
    assert lease.ssh == ("root@203.0.113.7:40022", "root@ssh4.vast.ai:12345")


@pytest.mark.parametrize(
    "row",
    [
        {"id": 1, "public_ipaddr": "-oProxyCommand=id", "ports": {"22/tcp": [{"HostPort": "1"}]}},
        {"id": 1, "ssh_host": "a b", "ssh_port": "22"},
        {"id": 1, "ssh_host": "far", "ssh_port": "22; id"},
        {"id": None, "ports": [], "label": 7, "dph_total": "NaN-ish", "actual_status": ["running"]},
    ],
)
def test_a_row_of_nonsense_is_still_a_lease_without_an_address(row: dict[str, Any]) -> None:
    assert lease_of(row).ssh == ()


def test_a_price_that_a_host_wants_is_shown_and_never_accepted(vast: Vast, fake: FakeVast) -> None:
    lease = vast.rent(any_offer(vast), "a", TERMS)
    fake.faults.rises[int(lease.id)] = 0.9
    (found,) = vast.leases()
    assert found.rise == pytest.approx(0.9)
    assert found.most == found.rise
    assert not any("accept" in path for _, path, _ in fake.requests)


def test_a_list_of_wanted_prices_that_was_cut_is_no_answer_for_the_others(vast: Vast, fake: FakeVast) -> None:
    lease, other = (vast.rent(offer, name, TERMS) for offer, name in zip(vast.search(Wanted()), "ab", strict=False))
    fake.faults.rises[int(lease.id)], fake.faults.rises_cut = 0.9, True
    found = {one.id: one for one in vast.leases()}
    assert (found[lease.id].rise, found[other.id].rise) == (pytest.approx(0.9), None)
    assert found[other.id].most == found[other.id].price
    assert [one.code for one in check_leases(vast.leases())].count("SOS-B007") == 2


def test_an_end_is_an_end_when_the_machine_is_gone(vast: Vast, fake: FakeVast) -> None:
    lease = vast.rent(any_offer(vast), "a", TERMS)
    fake.faults.undying = 2
    vast.end(lease)
    assert fake.instances == {}
    vast.end(lease)
    again = vast.rent(any_offer(vast), "b", TERMS)
    fake.faults.undying = 10**6
    with pytest.raises(RuleError) as error:
        end_surely(vast, again)
    assert error.value.code == "SOS-B005"


def test_the_switch_ends_the_machine_with_its_own_key_alone(vast: Vast, fake: FakeVast) -> None:
    lease = vast.rent(any_offer(vast), "a", TERMS)
    (body,) = sent(fake, "PUT")
    assert KEY not in str(body)
    assert "$CONTAINER_API_KEY" in body["onstart"]
    script = vast_switch(datetime.now(UTC) - timedelta(hours=1), fake.url)
    other = vast.rent(any_offer(vast), "b", TERMS)
    key = own_key(int(lease.id))
    own = {"CONTAINER_API_KEY": key, "CONTAINER_ID": lease.id, "PATH": os.environ["PATH"]}
    shell = subprocess.Popen(["sh", "-c", script + "\nwait"], env=own, start_new_session=True)
    try:
        assert until(lambda: int(lease.id) not in fake.instances, 60)
    finally:
        os.killpg(shell.pid, 9)
        shell.wait()
    assert list(fake.instances) == [int(other.id)]


def test_an_instances_own_key_can_do_nothing_to_others(vast: Vast, fake: FakeVast) -> None:
    lease, other = vast.rent(any_offer(vast), "a", TERMS), vast.rent(any_offer(vast), "b", TERMS)
    theirs = Client("vast", fake.url, own_key(int(lease.id)))
    for ask in (
        Ask("GET", "/api/v1/instances/"),
        Ask("DELETE", f"/api/v0/instances/{other.id}/"),
        Ask("PUT", "/api/v0/asks/14/", {}),
    ):
        with pytest.raises(ProviderError, match=r"no right to that \(403\)"):
            theirs.once(ask)
    assert len(fake.instances) == 2


def test_unverified_external_and_taken_machines_are_never_asked_for(vast: Vast, fake: FakeVast) -> None:
    assert "20" not in [one.id for one in vast.search(Wanted())]  # sound, cheap, and not verified
    (body,) = sent(fake, "POST")
    wanted = {"verified": {"eq": True}, "external": {"eq": False}, "rentable": {"eq": True}, "rented": {"eq": False}}
    assert wanted.items() <= body.items()


def test_a_limit_in_plain_text_is_told_as_it_is_and_waited_for(fake: FakeVast) -> None:
    waits: list[float] = []
    fake.faults.list_busy = 1
    assert Vast(Client("vast", fake.url, KEY, waits.append)).leases() == []
    assert waits == [2.0]
    fake.faults.list_busy = 10**6
    with pytest.raises(BusyError, match="API requests too frequent"):
        Vast(Client("vast", fake.url, KEY, waits.append)).leases()


def test_volumes_that_somebody_made_are_told(vast: Vast, fake: FakeVast) -> None:
    fake.volumes = [{"id": 41, "label": "models", "disk_space": 80.0}, {"id": 42}]
    assert vast.volumes() == [Volume("vast", "41", "models", 80 * GB), Volume("vast", "42")]


def test_a_label_tells_the_name_and_the_end() -> None:
    label = new_label("elena2", TERMS.deadline)
    assert label != new_label("elena2", TERMS.deadline)
    assert name_of(label) == "elena2"
    assert deadline_of(label) == TERMS.deadline.replace(microsecond=0)
    assert (name_of("my own"), deadline_of("my own")) == ("", None)
    for wrong in ("", "a b", "A", "x" * 33, "a'; rm -rf /"):
        with pytest.raises(UsageError):
            new_label(wrong, TERMS.deadline)


def test_a_key_stands_in_no_error_and_no_repr(fake: FakeVast) -> None:
    secret = "s3cret-key-of-somebody"
    client = Client("vast", fake.url, secret, lambda _: None)
    with pytest.raises(ProviderError, match="invalid key") as refused:
        Vast(client).search(Wanted())
    assert secret not in f"{refused.value.message}{refused.value.hint}{client!r}{Vast(client)!r}"
    assert not any(secret in f"{path}{body}" for _, path, body in fake.requests)


@pytest.mark.parametrize("url", ["http://vast.example", "ftp://x", "https://u:p@x", "https://x?key=1", "nonsense"])
def test_a_key_goes_by_https_or_to_this_machine_only(url: str) -> None:
    with pytest.raises(ConfigError):
        Client("vast", url, "key")


def test_a_server_that_is_not_there_created_nothing() -> None:
    with FakeVast() as fake:
        url = fake.url
    client = Client("vast", url, KEY)
    with pytest.raises(ProviderError, match="cannot be reached"):
        client.once(Ask("PUT", "/api/v0/asks/1/", {}))


def test_what_the_doctor_knows_to_fail_is_struck_out_with_the_reason() -> None:
    why = {row["id"]: unfit(_offer(row)) for row in some_offers()}
    assert {number for number, reason in why.items() if reason} == {13}
    assert "driver 470.82.1" in why[13]


def _offer(row: dict[str, Any]) -> Offer:
    from sosie.pods.providers.vast import offer_of

    found = offer_of({**row, "dph_total": row["base"]})
    assert found is not None
    return found


def test_offers_are_ranked_by_what_this_job_costs() -> None:
    cheap = Offer("x", "slow", "RTX 3090", 0.20, bandwidth=100_000_000)
    dear = Offer("x", "fast", "RTX 5090", 0.50, bandwidth=100_000_000)
    far = Offer("x", "thin", "RTX 5090", 0.40, bandwidth=1_000_000)
    unknown = Offer("x", "odd", "Card of tomorrow", 0.01, bandwidth=100_000_000)
    drawing = ranked([cheap, dear, far, unknown], Work(10**6, 0))
    assert [one.id for one, _ in drawing] == ["thin", "fast", "slow", "odd"]
    loading = ranked([cheap, dear, far, unknown], Work(0, 40 * GB))
    assert [one.id for one, _ in loading] == ["odd", "slow", "fast", "thin"]
    assert estimate(unknown, Work(1.0)) is None
    costly = replace(cheap, traffic=0.1)
    assert estimate(costly, Work(0, 10 * GB)).cost - estimate(cheap, Work(0, 10 * GB)).cost == pytest.approx(1.0)  # type: ignore[union-attr]


@given(st.lists(st.text(st.characters(blacklist_characters="\0", blacklist_categories=("Cs",))), min_size=1))
def test_quoted_words_are_the_same_words_to_a_shell(words: list[str]) -> None:
    assert shlex.split(quoted(words)) == words


def test_quoted_words_reach_a_real_shell_as_they_are() -> None:
    odd = ["printf", "%s|", "a'b", '"$HOME"', "`id`", "$(id)", "-rf", "\n", "*", "\\", "é~#;&"]
    done = subprocess.run(["sh", "-c", quoted(odd)], capture_output=True, text=True, check=True)
    assert done.stdout == "".join(f"{word}|" for word in odd[2:])
    with pytest.raises(UsageError, match="NUL"):
        quoted(["a\0b"])


def test_a_lease_needs_no_machine_to_be_counted() -> None:
    assert Lease("vast", "1", "", 0.2, "starting").machine is None


def bidding(vast: Vast, usd: float = 0.12) -> Offer:
    return vast.search(Wanted("3090", disk=60 * GB, places=("DE",), bid=usd))[0]


def test_the_comfyui_template_starts_beside_the_switch_and_in_place_of_an_image(vast: Vast, fake: FakeVast) -> None:
    lease = vast.rent(any_offer(vast), "a", replace(TERMS, template="comfyui"))
    (body,) = sent(fake, "PUT")
    assert "image" not in body
    assert fake.instances[int(lease.id)]["image"] == "vastai/comfy"
    assert body["onstart"].endswith("\nentrypoint.sh\n")
    assert "$CONTAINER_API_KEY" in body["onstart"]
    with pytest.raises(ProviderError, match="no template 'other'"):
        vast.rent(any_offer(vast), "b", replace(TERMS, template="other"))


def test_a_bid_is_sent_with_the_creation_and_is_the_price(vast: Vast, fake: FakeVast) -> None:
    one = bidding(vast)
    (search,) = sent(fake, "POST")
    assert (search["type"], search["min_bid"]) == ("bid", {"lte": 0.12})
    assert one.price == pytest.approx(0.12 + 60 * 0.15 / 730)
    lease = vast.rent(one, "a", TERMS)
    (body,) = sent(fake, "PUT")
    assert body["price"] == 0.12
    assert next(found.price for found in vast.leases() if found.id == lease.id) == pytest.approx(one.price)


def test_without_a_bid_a_machine_is_on_demand_whatever_was_searched_for(vast: Vast, fake: FakeVast) -> None:
    vast.rent(any_offer(vast), "a", TERMS)
    assert sent(fake, "PUT")[0]["price"] is None
    assert list(misfits(any_offer(vast), Wanted(bid=0.1))) == ["it is rented on demand, wanted by a bid"]


def test_a_bid_that_became_too_low_leaves_no_machine(vast: Vast, fake: FakeVast) -> None:
    one = bidding(vast)
    fake.offers[int(one.id)]["min_bid"] = 0.5
    with pytest.raises(SosieError, match="bid too low"):
        rent_surely(vast, one, "a", TERMS, Time().clock)
    assert (fake.instances, len(fake.ended)) == ({}, 1)


def test_a_machine_that_was_outbid_is_stopped_bills_its_disk_and_is_told_so(vast: Vast, fake: FakeVast) -> None:
    lease = vast.rent(bidding(vast), "a", TERMS)
    fake.faults.states = ("outbid",)
    (found,) = vast.leases()
    assert (found.state, found.why) == ("stopped", "outbid: exited")
    assert [one.code for one in check_leases([found])] == ["SOS-B006", "SOS-B006"]
    with pytest.raises(UselessError, match="outbid"):
        await_login(vast, lease, 1.0, never, Time().clock)


def refusing(says: str) -> Any:
    def reach(address: str) -> Any:
        raise failed(parse_host(f"ssh://{address}"), says)

    return reach


def test_a_refused_login_is_final_and_not_waited_for_five_minutes(vast: Vast) -> None:
    lease, time = vast.rent(any_offer(vast), "a", TERMS), Time()
    with pytest.raises(UselessError, match="refused the login"):
        await_login(vast, lease, 1.0, refusing("Permission denied (publickey)."), time.clock)
    assert time.at <= 60.0


def test_a_key_that_is_there_a_moment_later_lets_us_in(vast: Vast, monkeypatch: pytest.MonkeyPatch) -> None:
    lease, time = vast.rent(any_offer(vast), "a", TERMS), Time()
    asked: list[str] = []

    def reach(address: str) -> Any:
        asked.append(address)
        if len(asked) < 3:
            return refusing("Permission denied (publickey).")(address)
        return parse_host(f"ssh://{address}")

    monkeypatch.setattr("sosie.pods.renting.run", lambda *_: None)
    found, host = await_login(vast, lease, 1.0, reach, time.clock)
    assert (found.id, host.port) == (lease.id, 22)


def test_a_port_that_does_not_answer_yet_is_waited_for(vast: Vast) -> None:
    lease, time = vast.rent(any_offer(vast), "a", TERMS), Time()
    with pytest.raises(UselessError, match="for 5 minutes"):
        await_login(vast, lease, 1.0, refusing("ssh: connect to host: Connection refused"), time.clock)
    assert 300.0 <= time.at < 400.0


def test_a_daily_limit_is_told_and_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[float] = []
    with FakeVast() as fake:
        limited = {"success": False, "error": "search_quota_exceeded", "msg": "resets at midnight"}
        monkeypatch.setattr(fake, "answer", lambda *_: (429, limited))
        with pytest.raises(BusyError, match="search_quota_exceeded"):
            Vast(Client("vast", fake.url, KEY, waits.append)).search(Wanted())
    assert waits == []


def test_an_interface_without_price_increases_lists_what_bills(vast: Vast, fake: FakeVast) -> None:
    lease, answer = vast.rent(any_offer(vast), "a", TERMS), fake.answer
    gone = (404, {"success": False, "error": "no_pending_price_increase"})
    fake.answer = lambda *ask: gone if "increases" in ask[1] else answer(*ask)  # type: ignore[method-assign]
    assert [(one.id, one.rise) for one in vast.leases()] == [(lease.id, 0.0)]
