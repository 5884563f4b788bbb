"""Vast.ai, by its REST interface: machines of other people's, rented by the offer, on demand or by a bid.

Units of its JSON: `compute_cap` is 100 times the capability, `gpu_ram` MB of one card, disks GB, bandwidth Mbit/s, a
driver the number 570086010 for 570.86.10.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

from sosie.machines.remote import Remote
from sosie.machines.ssh import parse_host
from sosie.pods.lease import Lease, LeaseTerms, State
from sosie.pods.offer import GB, Offer, Wanted
from sosie.pods.places import countries
from sosie.pods.providers.account import Account
from sosie.pods.providers.client import Ask, ProviderError, as_list, as_object
from sosie.pods.providers.pace import Interval
from sosie.pods.switch import deadline_of, vast_switch
from sosie.pods.volume import Volume

IMAGE = "pytorch/pytorch:2.8.0-cuda12.8-cudnn9-runtime"
"""Has Python 3.11; its torch is not used."""

TEMPLATES = {"comfyui": "2188dfd3e0a0b83691bb468ddae0a4e5"}
"""Vast.ai's own templates by their hashes: ComfyUI is the image vastai/comfy, whose tag Vast.ai chooses."""

ENTRY = "entrypoint.sh\n"
"""What Vast.ai's own templates start with. A request's own script takes its place: without it nothing starts there."""

INTERVALS = (
    Interval("PUT", r"/api/v0/asks/[^/]+/", 4.5),
    Interval("GET", r"/api/v1/instances/", 1.0),
    Interval("GET", r"/api/v0/instances/\d+/", 2.0),
    Interval("DELETE", r"/api/v0/instances/\d+/", 3.0),
    Interval("GET", r"/api/v0/volumes/", 5.5),
)
"""The `x-rate-limit` of Vast.ai's description of its interface; of the search and of ssh keys it names none."""

LIMIT = 500
MAX_PAGES = 400
HOURS_A_MONTH = 730
DEAD = ("exited", "offline", "frozen")
"""States that never become running; a frozen machine bills its cards all the same."""

STARTING = ("loading", "created", "rebooting", "scheduling")


RATES = ("gpu_costpersec", "disk_ram_costpersec")
"""What a second of a contract costs, in two parts, each `old_` and `new_`; null where it stays."""


@dataclass(frozen=True)
class Rises:
    """The prices that hosts want, by contract, as Vast.ai writes them; `is_cut`: there are more than it listed."""

    rows: Mapping[str, Mapping[str, Any]] = field(default_factory=dict[str, Mapping[str, Any]])
    is_cut: bool = False

    def of(self, number: str, price: float) -> float | None:
        """What is wanted in place of `price`, in USD an hour; 0 for nothing, None where that is not known.

        The two rates are without what Vast.ai adds: the price, which has it, grows as they do.
        """
        row = self.rows.get(number)
        if row is None:
            return None if self.is_cut else 0.0
        old = {name: _number(row.get(f"old_{name}")) or 0.0 for name in RATES}
        new = {name: old[name] if (asked := _number(row.get(f"new_{name}"))) is None else asked for name in RATES}
        before, after = sum(old.values()), sum(new.values())
        return price * after / before if before > 0 and price > 0 else 3600 * after


class Vast(Account):
    """Keeps `pods.provider.Provider`. The key is asked for when it is first needed."""

    name = "vast"
    URL = "https://console.vast.ai"
    intervals = INTERVALS

    def search(self, wanted: Wanted, /) -> Sequence[Offer]:
        """Offers with their price for `wanted.disk`, cheapest first; by a bid what that comes to."""
        found = self.client.steady(Ask("POST", "/api/v0/bundles/", search_body(wanted)))
        offers = [offer for row in _rows(found, "offers") if (offer := offer_of(row, wanted)) is not None]
        return sorted(offers, key=lambda offer: offer.price)

    def rent(self, offer: Offer, label: str, terms: LeaseTerms, /) -> Lease:
        """One request. `UnclearError` if nobody knows what became of it: look for the label in `leases`."""
        if not offer.price <= terms.price:
            raise ProviderError(f"offer {offer.id} costs {offer.price:.3f} USD/h, agreed were {terms.price:.3f}")
        if terms.template and terms.template not in TEMPLATES:
            raise ProviderError(f"Vast.ai has no template '{terms.template}'", f"one of: {', '.join(TEMPLATES)}")
        start = {"template_hash_id": TEMPLATES[terms.template]} if terms.template else {"image": terms.image or IMAGE}
        body: dict[str, Any] = {
            "client_id": "me",
            **start,
            "env": {},
            "price": offer.bid or None,  # without one it would be on demand, whatever was searched for
            "disk": max(1, -(-terms.disk // GB)),
            "label": label,
            "onstart": vast_switch(terms.deadline, self.address) + (ENTRY if terms.template else ""),
            "runtype": "ssh_direc ssh_proxy",
            "cancel_unavail": True,
        }
        try:
            answer = self.client.once(Ask("PUT", f"/api/v0/asks/{quote(offer.id, safe='')}/", body))
        except ProviderError as error:
            if not error.table.get("new_contract"):
                raise
            answer = {**error.table, "success": False}
        contract = answer.get("new_contract")
        if not answer.get("success"):
            if contract:  # a refusal that created all the same
                self.end(Lease(self.name, str(contract), label, offer.price, "unknown"))
            why = str(answer.get("msg") or answer.get("error") or "no reason")
            raise ProviderError(f"offer {offer.id} cannot be rented: {why[:200]}", "take another offer")
        lease = Lease(self.name, str(contract), label, offer.price, "starting", deadline_of(label), gpu=offer.gpu)
        self.admit(lease, terms.ssh_key)
        return lease

    def admit(self, lease: Lease, ssh_key: str, /) -> None:
        """Registers a public key with the provider for this machine; may be repeated."""
        if ssh_key:
            self.client.steady(Ask("POST", f"/api/v0/instances/{lease.id}/ssh/", {"ssh_key": ssh_key}))

    def leases(self) -> Sequence[Lease]:
        """Every instance of the account, by the pages of version 1 of the list; raises for a part of it."""
        rises = self._rises()
        return [lease_of(row, rises) for row in self._instances()]

    def end(self, lease: Lease, /) -> None:
        """Destroys it, and asks until it is gone."""
        path = f"/api/v0/instances/{quote(lease.id, safe='')}/"
        for attempt in range(5):
            try:
                answer = self.client.steady(Ask("DELETE", path))
                gone = answer.get("error") == "no_such_instance"
            except ProviderError as error:
                if error.status != 404 and error.kind != "no_such_instance":
                    raise
                gone = True
            if gone or not self._is_there(path):
                return
            self._sleep(2.0**attempt)
        message = f"instance {lease.id} of Vast.ai is still there after it was destroyed five times"
        raise ProviderError(message, "end it on the provider's own page: it bills")

    def volumes(self) -> Sequence[Volume]:
        """The volumes of the account, of a machine or of a network, which bill until they are deleted."""
        rows = _rows(self.client.steady(Ask("GET", "/api/v0/volumes/", query={"type": "all_volume"})), "volumes")
        return [
            Volume(self.name, str(row.get("id")), str(row.get("label") or ""), round(size * GB) if size else None)
            for row in rows
            for size in (_number(row.get("disk_space", row.get("size"))),)
        ]

    def _is_there(self, path: str) -> bool:
        try:
            found = self.client.steady(Ask("GET", path, query={"owner": "me"}))
        except ProviderError as error:
            if error.status == 404:
                return False
            raise
        return found.get("instances") is not None

    def _instances(self) -> Iterator[Mapping[str, Any]]:
        token, seen = "", set[str]()
        for _ in range(MAX_PAGES):
            query = {"limit": "25", **({"after_token": token} if token else {})}
            page = self.client.steady(Ask("GET", "/api/v1/instances/", query=query))
            if page.get("success") is False:
                raise ProviderError(f"Vast.ai does not list what bills: {str(page.get('error'))[:100]}")
            yield from _rows(page, "instances")
            token = str(page.get("next_token") or "")
            if not token:
                return
            if token in seen:
                break
            seen.add(token)
        raise ProviderError("Vast.ai's list of what bills does not end", "look at the provider's own page")

    def _rises(self) -> Rises:
        """What hosts want from now on; nothing is accepted."""
        try:
            found = self.client.steady(Ask("GET", "/api/v0/instances/pending-price-increases/"))
        except ProviderError as error:
            if error.status == 404:
                return Rises()
            raise
        rows = _rows(found, "pending_price_increases")
        return Rises({str(row.get("contract_id")): row for row in rows}, found.get("truncated") is True)


def search_body(wanted: Wanted) -> dict[str, Any]:
    """What the search is asked for: every figure that is wanted, as numbers in its units."""
    body: dict[str, Any] = {
        "verified": {"eq": True},
        "external": {"eq": False},
        "rentable": {"eq": True},
        "rented": {"eq": False},
        "direct_port_count": {"gte": 1},
        "num_gpus": {"gte": wanted.gpus},
        "type": "bid" if wanted.bid else "on-demand",
        "order": [["dph_total", "asc"]],
        "limit": LIMIT,
        "allocated_storage": max(1, -(-wanted.disk // GB)),
    }
    if names := card_names(wanted.gpu):
        body["gpu_name"] = {"in": names}
    if wanted.memory:
        body["gpu_ram"] = {"gte": wanted.memory / 1e6}
    if wanted.compute > (0, 0):
        body["compute_cap"] = {"gte": wanted.compute[0] * 100 + wanted.compute[1] * 10}
    if wanted.driver:
        major, minor, patch = (*wanted.driver, 0, 0, 0)[:3]
        body["driver_version"] = {"gte": major * 1_000_000 + minor * 1_000 + patch}
    if wanted.cuda > (0, 0):
        body["cuda_max_good"] = {"gte": wanted.cuda[0] + wanted.cuda[1] / 10}
    if wanted.disk:
        body["disk_space"] = {"gte": wanted.disk / GB}
    if wanted.bandwidth:
        body["inet_down"] = {"gte": wanted.bandwidth * 8 / 1e6}
    if wanted.reliability:
        body["reliability"] = {"gte": wanted.reliability}
    if wanted.bid:
        body["min_bid"] = {"lte": wanted.bid}
    elif wanted.price:
        body["dph_total"] = {"lte": wanted.price}
    if wanted.places:
        body["geolocation"] = {"in": list(countries(wanted.places))}
    return body


NAMES = (
    *(
        f"RTX {one}"
        for one in ("3060", "3070", "3080", "3080 Ti", "3090", "3090 Ti", "4060 Ti", "4070", "4070 Ti", "4080")
    ),
    *(
        f"RTX {one}"
        for one in ("4080S", "4090", "5070", "5070 Ti", "5080", "5090", "A4000", "A5000", "A6000", "PRO 6000 WS")
    ),
    *("A10", "A40", "A100 PCIE", "A100 SXM4", "L4", "L40", "L40S", "H100 PCIE", "H100 SXM", "H100 NVL", "H200", "B200"),
)
"""Cards as Vast.ai writes them; recalled. A part of a name that is in none of them is looked for here alone."""


def card_names(part: str) -> list[str]:
    """The names that a part of one means; none: all are asked for."""
    return [name for name in NAMES if part.casefold() in name.casefold()] if part else []


def offer_of(row: Mapping[str, Any], wanted: Wanted | None = None) -> Offer | None:
    """An offer of the search's answer; None for a row without number or price. By a bid it costs that and the disk."""
    price, number, bid = _number(row.get("dph_total")), row.get("id"), wanted.bid if wanted else 0.0
    if wanted is not None and bid:
        storage = _number(row.get("storage_cost"))
        price = None if storage is None else bid + storage * max(1, -(-wanted.disk // GB)) / HOURS_A_MONTH
    if price is None or price <= 0 or not isinstance(number, int):
        return None
    capability, ram, speed = (_number(row.get(name)) for name in ("compute_cap", "gpu_ram", "inet_down"))
    disk, cuda = _number(row.get("disk_space")), _number(row.get("cuda_max_good"))
    return Offer(
        "vast",
        str(number),
        str(row.get("gpu_name") or "an unknown card")[:120],
        price,
        int(_number(row.get("num_gpus")) or 1),
        round(ram * 1e6) if ram else None,
        (int(capability) // 100, int(capability) % 100 // 10) if capability else None,
        _driver(str(row.get("driver_version") or "")),
        round(disk * GB) if disk else None,
        _country(str(row.get("geolocation") or "")),
        _number(row.get("reliability2", row.get("reliability"))),
        (int(cuda), round(cuda * 10) % 10) if cuda else None,
        round(speed * 1e6 / 8) if speed else None,
        _number(row.get("inet_down_cost")) or 0.0,
        bid,
    )


def lease_of(row: Mapping[str, Any], rises: Rises | None = None) -> Lease:
    """An instance of the list as a lease, whatever is missing in it."""
    number, label = str(row.get("id")), str(row.get("label") or "")
    addresses, price = tuple(_addresses(row)), _number(row.get("dph_total")) or 0.0
    return Lease(
        "vast",
        number,
        label,
        price,
        state_of(row),
        deadline_of(label),
        Remote(parse_host(f"ssh://{addresses[0]}")) if addresses else None,
        addresses,
        str(row.get("gpu_name") or ""),
        (rises or Rises()).of(number, price),
        _why(row),
    )


def _why(row: Mapping[str, Any]) -> str:
    """What is said of an instance's state. One that bids and was stopped by nobody here was outbid."""
    said = str(row.get("status_msg") or row.get("actual_status") or "")[:200].strip()
    return f"outbid: {said}" if row.get("is_bid") and state_of(row) == "stopped" else said


def state_of(row: Mapping[str, Any]) -> State:
    """What an instance's four states come to."""
    actual = row.get("actual_status")
    if "OCI runtime create failed" in str(row.get("status_msg") or ""):
        return "failed"
    if {row.get("cur_state"), row.get("intended_status"), row.get("next_state")} == {"stopped"} or actual == "stopped":
        return "stopped"  # outbid, or stopped by somebody: its disk bills
    if actual in DEAD:
        return "failed"
    if actual == "running":
        return "running"
    return "starting" if actual is None or actual in STARTING else "unknown"


def _addresses(row: Mapping[str, Any]) -> Iterator[str]:
    """`root@HOST:PORT`, the direct way first, then the provider's proxy."""
    mapped = as_list(as_object(row.get("ports")).get("22/tcp"))
    pairs = [(row.get("public_ipaddr"), one.get("HostPort")) for one in mapped][:1]
    for host, port in (*pairs, (row.get("ssh_host"), row.get("ssh_port"))):
        if re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9.-]{0,250}", str(host or "").strip()) and str(port).isdigit():
            yield f"root@{str(host).strip()}:{port}"


def _rows(table: Mapping[str, Any], name: str) -> list[Mapping[str, Any]]:
    if not isinstance(table.get(name), list):
        raise ProviderError(f"Vast.ai's answer has no list of {name}", "its interface may have changed")
    return as_list(table[name])


def _number(value: object) -> float | None:
    try:
        found = float(value) if isinstance(value, (int, float, str)) and not isinstance(value, bool) else None
    except ValueError:
        return None
    return found if found is not None and abs(found) < 1e15 else None


def _driver(text: str) -> tuple[int, ...] | None:
    return tuple(int(part) for part in text.split(".")) if re.fullmatch(r"\d{3}(\.\d{1,3}){1,2}", text) else None


def _country(text: str) -> str | None:
    """The two letters at the end: "Germany, DE"."""
    code = text.strip()[-2:]
    return code if re.fullmatch(r"[A-Z]{2}", code) else None


PROVIDER = Vast()
