"""What all machines cost at most: those that ended what they were billed, the others what they bill to their deadline.

A price that a host wants and nobody accepted counts: it may be accepted on the provider's own page.

A machine ends itself at its deadline, whatever happens here. So who rents only what fits the rest of a budget stays
within it, also where everything that comes after goes wrong.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from datetime import timedelta

from sosie.knowledge.days import as_time
from sosie.knowledge.rental import Rental
from sosie.pods.switch import deadline_of


def most_of(rental: Rental, price: float = 0.0) -> float:
    """What a machine costs at most, in US dollars; infinite where nobody knows when it ends.

    `price` is what an hour of it may cost now: the higher one of this and the price that was agreed counts.
    """
    if rental.ended and rental.cost is not None:
        return rental.cost
    started, deadline = as_time(rental.started), deadline_of(rental.label)
    if started is None or deadline is None:
        return math.inf
    return max(rental.price, price) * max(0.0, (deadline - started) / timedelta(hours=1))


def rest_of(budget: float, rentals: Iterable[Rental], prices: Mapping[str, float] | None = None) -> float:
    """What is left of a budget for machines that are rented from now on; less than 0 where it is exceeded.

    `prices` are those of `most_of`, by label, as far as they are known.
    """
    known = prices or {}
    return budget - sum(most_of(one, known.get(one.label, 0.0)) for one in rentals)
