"""Rented machines as a page shows them: what bills and what it came to, what can be rented, what was paid before."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from sosie.api.lines import json_of
from sosie.api.lines.findings import finding_line
from sosie.api.pods import check_volumes, list_pods, search_pods
from sosie.api.renting.leases import Paid, check_leases, ledger
from sosie.pods import provider_names
from sosie.pods.lease import Lease
from sosie.pods.offer import Wanted
from sosie.pods.places import countries
from sosie.pods.pod import Pod, read_pods
from sosie.workspace.session import Session

MOST_OFFERS = 100


def describe_machines(session: Session) -> dict[str, Any]:
    """Everything that bills, whoever rented it, with what it came to so far; then what was paid before.

    A pod that is remembered and not billed has the state `gone`. `cost` is in US dollars, None where it is not known
    since when a machine was rented; `most` is what it comes to at its deadline, at the price that its
    host wants if that is higher. Volumes that bill are findings (SOS-B008).
    """
    found = list_pods()
    pods = {pod.label: pod for pod in read_pods(session.workspace) if not pod.ended}
    now = datetime.now(UTC)
    leases = [_lease(lease, pods.get(lease.label), now) for lease in found.leases]
    billed = {lease.label for lease in found.leases}
    asked = not found.findings  # where a provider could not be asked, nothing is known to be gone
    gone = [_gone(pod) for label, pod in pods.items() if asked and label not in billed]
    volumes = check_volumes() if asked else []
    findings = [finding_line(one) for one in (*found.findings, *check_leases(found.leases), *volumes)]
    past = [_paid(one) for one in ledger(session) if one.rental.ended]
    state = {"providers": list(provider_names()), "leases": [*leases, *gone], "price": found.price}
    return {**state, "findings": findings, "past": past[::-1]}


def describe_offers(
    gpu: str, gpus: int, disk: int, hours: float, price: float, places: tuple[str, ...]
) -> dict[str, Any]:
    """What can be rented of what is wanted (`disk` in bytes, `price` at most, an hour), the cheapest first.

    `most` is what `hours` cost. What the doctor knows to fail is `struck`, with the reason. Raises `UsageError`.
    """
    wanted = Wanted(gpu=gpu, gpus=gpus, disk=disk, price=price, places=countries(places))
    found = search_pods(wanted)
    offers = [{**json_of(offer), "most": offer.price * hours, "struck": None} for offer in found.offers]
    struck = [{**json_of(offer), "most": None, "struck": why} for offer, why in found.struck]
    return {"offers": [*offers, *struck][:MOST_OFFERS], "findings": [finding_line(one) for one in found.findings]}


def _lease(lease: Lease, pod: Pod | None, now: datetime) -> dict[str, Any]:
    since = datetime.fromisoformat(pod.created) if pod else None
    until = lease.deadline
    return {
        **json_of(lease),
        "pod": pod.name if pod else None,
        "since": pod.created if pod else None,
        "cost": _cost(lease.price, since, now),
        "most": _cost(lease.most, since, until) if until else None,
    }


def _gone(pod: Pod) -> Mapping[str, Any]:
    known = {"provider": pod.provider, "id": pod.lease or None, "label": pod.label, "price": 0.0, "state": "gone"}
    rest = {"deadline": pod.deadline, "gpu": pod.gpu, "rise": None, "pod": pod.name, "since": pod.created}
    return {**known, **rest, "cost": None, "most": None}


def _cost(price: float, since: datetime | None, until: datetime) -> float | None:
    return None if since is None else max(0.0, (until - since).total_seconds()) / 3600 * price


def _paid(one: Paid) -> dict[str, Any]:
    rental = one.rental
    told = {name: getattr(rental, name) for name in ("label", "gpu", "price", "started", "ended", "cost")}
    return {**told, "problems": list(rental.problems), "drawn": one.drawn, "kept": one.kept, "each": one.each}
