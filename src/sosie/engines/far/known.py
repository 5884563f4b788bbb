"""What is asked of a machine once, before anything is brought there."""

from __future__ import annotations

from dataclasses import dataclass

from sosie.core import Finding
from sosie.doctor.machine import H043
from sosie.doctor.remote import taken_key
from sosie.machines.facts import MachineFacts
from sosie.machines.remote import Remote
from sosie.machines.ssh import Host
from sosie.machines.ssh.steady import Patience, steady
from sosie.pods.setup.layout import Layout, first_contact
from sosie.pods.setup.locks import Lock, choose_lock

RESERVE = 10**9
"""Bytes that stay free there."""


@dataclass(frozen=True)
class Known:
    """Where things lie there, what it is, the environment for it, and what the doctor says.

    `taken` tells of a host key that was new and was taken (SOS-X005).
    """

    layout: Layout
    facts: MachineFacts
    lock: Lock
    findings: tuple[Finding, ...]
    taken: tuple[Finding, ...] = ()


def known_of(host: Host, python: str, patience: Patience) -> Known:
    """Asks; with a `python` that is there nothing is said of environments: it is tried, not guessed."""
    layout, key = steady(lambda: first_contact(host), patience)
    home = layout.root.rpartition("/")[0]
    facts = steady(lambda: Remote(host).facts(home), patience)
    lock, findings = choose_lock(facts)
    taken = (taken_key(host.name, key),) if key else ()
    return Known(layout, facts, lock, () if python else tuple(findings), taken)


def room_for(host: Host, known: Known, needed: int) -> list[Finding]:
    """SOS-H043, where the disk has no room for so many bytes."""
    free = known.facts.free_disk
    if not needed or free is None or free >= needed + RESERVE:
        return []
    message = f"{host.name} has {free / 1e9:.1f} GB free; what must be brought there needs {needed / 1e9:.1f} GB"
    return [H043.at(host.name, f"{message}, temporary files counted, and 1 GB stays free", "free some space there")]
