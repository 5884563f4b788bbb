"""What a provider of rented machines keeps. The promises are here, for money is spent on what they say.

A request that creates may fail after it has created. Nothing is created twice and nothing is forgotten only if

1. the label comes first: a caller makes a label that no other lease has, and records it before it rents;
2. nothing that creates is repeated blindly: `rent` sends one request, once, whatever its transport does by itself;
3. the label decides: after an error of `rent`, a crash or a lost line, the caller looks for its label in `leases`.
   If it is there, that is the lease. If it is not, and is not after the provider's own delay, it may be rented anew.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from sosie.pods.lease import Lease, LeaseTerms
from sosie.pods.offer import Offer, Wanted


class Provider(Protocol):
    """One provider, with one account. Each method raises `SosieError` if it could not be done, or may not have been.

    Who can may have three more, which are looked for: `admit(lease, ssh_key)` (`renting`), `volumes()`, all `Volume`s
    that bill, and `billed(since)`, US dollars by the id of each lease.

    Keys come from the environment or a keyring alone. They stand in no message, address or file, and never reach a
    machine that is rented. Making the object asks nobody.
    """

    @property
    def name(self) -> str:
        """What it is called: that of its entry point."""
        ...

    def search(self, wanted: Wanted, /) -> Sequence[Offer]:
        """What can be rented now, cheapest first. Nothing is rented or reserved.

        The filters are the provider's to apply, to spare requests; what does not suit is left out by `misfits` in any
        case. The price of each offer is that with `wanted.disk`.
        """
        ...

    def rent(self, offer: Offer, label: str, terms: LeaseTerms, /) -> Lease:
        """Rents exactly this offer under this label, or raises: never another machine, price or number of cards.

        It returns as soon as the provider knows the lease, which need not run yet. It creates at most once. What was
        created, and is known not to do, is ended before it raises. The lease ends by itself at `terms.deadline`, with
        no help from this machine, where the provider or the pod can do that; else `Lease.deadline` is None.
        """
        ...

    def leases(self) -> Sequence[Lease]:
        """All that bills now: every page, whoever rented it, stopped and failed machines too. Raises for a part."""
        ...

    def end(self, lease: Lease, /) -> None:
        """Destroys the machine with its disk, so that nothing bills any more; one that is gone already is done.

        Returns when the provider has confirmed it; a lease that was only stopped has not ended. May be repeated.
        """
        ...
