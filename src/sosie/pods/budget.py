"""What all machines cost at most: those that ended what they were billed, the others what they bill to their deadline.

A machine ends itself at its deadline, whatever happens here. So who rents only what fits the rest of a budget stays
within it, also where everything that comes after goes wrong.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from datetime import timedelta

from sosie.knowledge.days import as_time
from sosie.knowledge.rental import Rental
from sosie.pods.switch import deadline_of


def most_of(rental: Rental) -> float:
    """What a machine costs at most, in US dollars; infinite where nobody knows when it ends."""
    if rental.ended and rental.cost is not None:
        return rental.cost
    started, deadline = as_time(rental.started), deadline_of(rental.label)
    if started is None or deadline is None:
        return math.inf
    return rental.price * max(0.0, (deadline - started) / timedelta(hours=1))


def rest_of(budget: float, rentals: Iterable[Rental]) -> float:
    """What is left of a budget for machines that are rented from now on; less than 0 where it is exceeded."""
    return budget - sum(map(most_of, rentals))
