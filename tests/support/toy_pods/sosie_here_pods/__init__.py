"""A provider of pods as another distribution brings it: it leases the machine that it runs on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from sosie.core.errors import SosieError
from sosie.machines.here import Here
from sosie.pods.lease import Lease, LeaseTerms
from sosie.pods.offer import Offer, Wanted

OFFER = Offer("here", "this", "CPU", price=0.25, memory=8 * 10**9, disk=100 * 10**9, place="DE", reliability=0.99)


class HerePods:
    """It applies no filter, as careless providers do; `answer_lost` makes `rent` fail after it has created."""

    name = "here"

    def __init__(self) -> None:
        self.answer_lost = False
        self._leases: dict[str, Lease] = {}

    def search(self, wanted: Wanted) -> Sequence[Offer]:
        return (OFFER, replace(OFFER, id="small", price=0.1, disk=10**9))

    def rent(self, offer: Offer, label: str, terms: LeaseTerms) -> Lease:
        if offer != OFFER or offer.price > terms.price:
            raise SosieError(f"offer '{offer.id}' is not there any more")
        lease = Lease(self.name, str(len(self._leases) + 1), label, offer.price, "running", terms.deadline, Here())
        self._leases[lease.id] = lease
        if self.answer_lost:
            raise SosieError("the answer was lost")
        return lease

    def leases(self) -> Sequence[Lease]:
        return tuple(self._leases.values())

    def end(self, lease: Lease) -> None:
        self._leases.pop(lease.id, None)


PROVIDER = HerePods()
