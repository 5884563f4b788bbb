"""RunPod, by version 2 of its REST interface (version 1 has ended): cards by data centre.

It has no figure for a driver, a machine's bandwidth or its reliability: who asks for one gets no offer of it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote

from sosie.machines.facts import compute_of
from sosie.machines.remote import Remote
from sosie.machines.ssh import parse_host
from sosie.pods.lease import Lease, LeaseTerms, State
from sosie.pods.offer import GB, Offer, Wanted
from sosie.pods.providers.account import Account
from sosie.pods.providers.client import Ask, ProviderError, as_list, as_object
from sosie.pods.switch import deadline_of, runpod_switch
from sosie.pods.volume import Volume

IMAGE = "runpod/pytorch:1.0.2-cu1281-torch280-ubuntu2404"
"""Has Python 3.12 and `/start.sh`, which starts sshd with the key in PUBLIC_KEY; its torch is not used."""

CLOUDS = ("SECURE", "COMMUNITY")
STATES: dict[str, State] = {
    "PROVISIONING": "starting",
    "STARTING": "starting",
    "RUNNING": "running",
    "EXITED": "stopped",
    "ERROR": "failed",
}
DISK_PRICE = 0.10 / 730
"""USD an hour for a GB of a running machine's disk; from memory of the price list, the interface does not tell it."""

REGIONS = ("EU", "EUR", "AP", "OC", "SEA", "NA", "SA", "AF", "ME")
"""How data centres' names begin that have the country in second place: EU-RO-1, but US-TX-3."""


class RunPod(Account):
    """Keeps `pods.provider.Provider`. The key is asked for when it is first needed."""

    name = "runpod"
    URL = "https://api.runpod.io"

    def search(self, wanted: Wanted, /) -> Sequence[Offer]:
        """What has stock now, one offer for each data centre that has some, cheapest first; it takes no bids."""
        offers: list[Offer] = []
        if wanted.bid:
            return offers
        for cloud in CLOUDS:
            query = {"include": "AVAILABILITY", "product": "POD", "count": str(wanted.gpus), "cloud": cloud}
            if wanted.places:
                query["countryCodes"] = ",".join(wanted.places)
            if wanted.cuda > (0, 0):
                query["minCudaVersion"] = f"{wanted.cuda[0]}.{wanted.cuda[1]}"
            found = self.client.steady(Ask("GET", "/v2/catalog/gpus", query=query))
            for row in _rows(found, "gpus"):
                offers += offers_of(row, cloud, wanted)
        return sorted(offers, key=lambda offer: offer.price)

    def rent(self, offer: Offer, label: str, terms: LeaseTerms, /) -> Lease:
        """One request. `UnclearError` if nobody knows what became of it: look for the label in `leases`."""
        if not offer.price <= terms.price:
            raise ProviderError(f"offer {offer.id} costs {offer.price:.3f} USD/h, agreed were {terms.price:.3f}")
        if terms.template:
            raise ProviderError(f"no template '{terms.template}' of RunPod's own is known", "rent at Vast.ai for it")
        cloud, card, place = (*offer.id.split("|"), "", "")[:3]
        body = {
            "name": label,
            "image": terms.image or IMAGE,
            "gpu": {"id": card, "count": offer.gpus},
            "cloud": cloud,
            "disk": max(1, -(-terms.disk // GB)),
            "ports": ["22/tcp"],
            "startSsh": True,
            "env": {
                "PUBLIC_KEY": terms.ssh_key,
                "SOSIE_SWITCH": runpod_switch(terms.deadline, self.address),
            },
            "args": "bash -c 'sh -c \"$SOSIE_SWITCH\"; exec /start.sh'",
            **({"dataCenterIds": [place]} if place else {}),
        }
        lease = lease_of(self.client.once(Ask("POST", "/v2/pods", body)))
        if lease is None or lease.label != label:
            raise ProviderError(f"RunPod answered with another machine than '{label}'", "sosie pod list")
        if lease.price > terms.price * 1.001:
            self.end(lease)
            raise ProviderError(f"offer {offer.id} came at {lease.price:.3f} USD/h, agreed were {terms.price:.3f}")
        return lease

    def leases(self) -> Sequence[Lease]:
        """Every pod of the account that is not terminated; raises for an answer that is not the list."""
        found = self.client.steady(Ask("GET", "/v2/pods", query={"includeClusterPods": "true"}))
        if more := [name for name, value in found.items() if name.lower().startswith("next") and value]:
            raise ProviderError(f"RunPod's list is not all that bills: it has {more[0]}", "look at its own page")
        return [lease for row in _rows(found, "pods") if (lease := lease_of(row)) is not None]

    def end(self, lease: Lease, /) -> None:
        """Terminates it, and asks until it is gone."""
        path = f"/v2/pods/{quote(lease.id, safe='')}"
        for attempt in range(5):
            if not self._is_there(Ask("DELETE", path)) or not self._is_there(Ask("GET", path)):
                return
            self._sleep(2.0**attempt)
        message = f"pod {lease.id} of RunPod is still there after it was terminated five times"
        raise ProviderError(message, "end it on the provider's own page: it bills")

    def volumes(self) -> Sequence[Volume]:
        """The network volumes of the account, which bill until they are deleted."""
        rows = _rows(self.client.steady(Ask("GET", "/v2/network-volumes")), "networkVolumes")
        return [Volume(self.name, str(row.get("id")), str(row.get("name") or ""), _gb(row.get("size"))) for row in rows]

    def billed(self, since: datetime, /) -> Mapping[str, float]:
        """US dollars that were billed for each lease since the beginning of that day; what is not billed yet is not."""
        start = since.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        found = self.client.steady(Ask("GET", "/v2/billing/pods", query={"startTime": start, "bucketSize": "day"}))
        sums: dict[str, float] = {}
        for row in _rows(found, "records"):
            amount, number = _number(row.get("totalAmount")), str(row.get("podId") or "")
            if amount is not None and number:
                sums[number] = sums.get(number, 0.0) + amount
        return sums

    def _is_there(self, ask: Ask) -> bool:
        try:
            found = self.client.steady(ask)
        except ProviderError as error:
            if error.status == 404:
                return False
            if error.status == 409:  # it is between two states, and cannot be ended now
                return True
            raise
        return found.get("status") != "TERMINATED"


def offers_of(row: Mapping[str, Any], cloud: str, wanted: Wanted) -> Iterator[Offer]:
    """The offers of one type of card; none where it has no stock or no price."""
    prices, most = as_object(row.get("price")), as_object(row.get("maxCount"))
    price, card = _number(prices.get(cloud.lower())), str(row.get("id") or "")
    if not price or not card or "|" in card or not row.get(cloud.lower()) or row.get("availability") in (None, "NONE"):
        return
    if (_number(most.get(cloud.lower())) or 0) < wanted.gpus:
        return
    versions = [one for one in as_list(row.get("cudaVersions")) if one.get("available")]
    cuda = max((found for one in versions if (found := _version(one.get("version")))), default=None)
    places = [str(one.get("id")) for one in as_list(row.get("dataCenters")) if one.get("availability") != "NONE"]
    whole = price * wanted.gpus + max(1, wanted.disk // GB) * DISK_PRICE
    memory = _number(row.get("memory"))
    for place in places or [""]:
        yield Offer(
            "runpod",
            "|".join(filter(None, (cloud, card, place))),
            str(row.get("name") or card)[:120],
            whole,
            wanted.gpus,
            round(memory * 1e9) if memory else None,
            compute_of(card),
            disk=wanted.disk or None,
            place=country_of(place),
            cuda=cuda,
        )


def lease_of(row: Mapping[str, Any]) -> Lease | None:
    """A pod as a lease; None for one that is terminated, which bills nothing."""
    status, label = str(row.get("status")), str(row.get("name") or "")
    if status == "TERMINATED" or not row.get("id"):
        return None
    direct = as_object(as_object(row.get("ssh")).get("direct"))
    address = f"{direct.get('username')}@{direct.get('host')}:{direct.get('port')}" if direct else ""
    is_sound = re.fullmatch(r"[a-z][a-z0-9_-]{0,31}@[A-Za-z0-9][A-Za-z0-9.-]{0,250}:\d{1,5}", address)
    # The proxy gives a shell for people and nothing else: no command, no file, no tunnel.
    addresses = (address,) if is_sound else ()
    return Lease(
        "runpod",
        str(row["id"]),
        label,
        _number(row.get("cost")) or 0.0,
        STATES.get(status, "unknown"),
        deadline_of(label),
        Remote(parse_host(f"ssh://{address}")) if is_sound else None,
        addresses,
        str(as_object(row.get("gpu")).get("id") or ""),
        why=status,
    )


def country_of(place: str) -> str | None:
    """The country in a data centre's name: EU-RO-1 is RO, US-TX-3 is US; None where none stands there."""
    parts = place.split("-")
    code = parts[1] if len(parts) > 2 and parts[0] in REGIONS else parts[0]
    return code if re.fullmatch(r"[A-Z]{2}", code) else None


def _version(text: object) -> tuple[int, int] | None:
    found = re.fullmatch(r"(\d{1,2})\.(\d{1,2})", str(text))
    return (int(found[1]), int(found[2])) if found else None


def _rows(table: Mapping[str, Any], name: str) -> list[Mapping[str, Any]]:
    if not isinstance(table.get(name), list):
        raise ProviderError(f"RunPod's answer has no list of {name}", "its interface may have changed")
    return as_list(table[name])


def _gb(value: object) -> int | None:
    size = _number(value)
    return None if size is None else round(size * GB)


def _number(value: object) -> float | None:
    return float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else None


PROVIDER = RunPod()
