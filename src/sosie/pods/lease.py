"""A rented machine: what it costs, until when, and how it is reached."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal

from sosie.machines.machine import Machine

State = Literal["starting", "running", "stopped", "failed", "unknown"]
"""A stopped machine still bills its disk; a failed one will not run any more, and bills until it is ended. A state that
the provider names and nobody knows is `unknown`: it bills."""


@dataclass(frozen=True)
class LeaseTerms:
    """What is agreed with a lease: `disk` in bytes, which cannot be changed later, and when the lease must have ended.

    `price` is the most that it may cost in US dollars an hour, the disk included. `ssh_key` is the public key that may
    log in there, `image` the container image that it starts with; empty: the provider's or Sosie's own choice.
    `template` is what the machine starts instead: `comfyui`, or empty. Who has none of that name refuses it.
    """

    disk: int
    deadline: datetime
    price: float
    ssh_key: str = ""
    image: str = ""
    template: str = ""


@dataclass(frozen=True)
class Lease:
    """Something that a provider bills; whatever is not billed any more is none.

    `label` is the one it was rented under (empty: somebody rented it elsewhere). `price` is what it costs now, in US
    dollars an hour: hosts may have raised it since. `deadline` (with a time zone) is when it ends by itself, None if
    it does not. `machine` is how it is reached, None while it is not, and `ssh` are all the addresses that may lead
    there, the best first. `rise` is a price that its host wants from now on and that nobody accepted, 0 if there is
    none, None if the provider does not tell all of them. `why` is what the provider says of its state.
    """

    provider: str
    id: str
    label: str
    price: float
    state: State
    deadline: datetime | None = None
    machine: Machine | None = field(default=None, compare=False)
    ssh: tuple[str, ...] = ()
    gpu: str = ""
    rise: float | None = 0.0
    why: str = ""

    @property
    def most(self) -> float:
        """What it may cost from now on, in US dollars an hour: the higher one of its price and what its host wants."""
        return max(self.price, self.rise or 0.0)
