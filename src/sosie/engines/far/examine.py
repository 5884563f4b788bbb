"""The doctor on machines that are to draw: asked once, nothing is brought there or left."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from sosie.core import Finding
from sosie.core.finding import Rule, RuleError
from sosie.doctor.remote import LEAST_DISK
from sosie.engines.far.known import Known, known_of, room_for
from sosie.engines.far.site import Site
from sosie.machines.ssh import SshError
from sosie.machines.ssh.steady import Patience
from sosie.pods.renting import driver_trouble
from sosie.pods.setup.environment import X012
from sosie.pods.setup.layout import whole_ones

X015 = Rule("SOS-X015", "info", "What a machine by ssh is, and what it would get")

AT_ONCE = Patience(lost=0.0)
"""Who asks the doctor does not wait for a machine to come back."""


def examine_site(site: Site) -> tuple[Finding, ...]:
    """What the machine is, what of it does not fit, whether its disk has room, and whether its driver works.

    The driver takes and writes memory on every card, by itself: nothing is installed for it.
    """
    name = site.host.name
    try:
        known = known_of(site.host, site.python, AT_ONCE)
        fits = [replace(one, subject=f"{name}: {one.subject}") for one in known.findings]
        is_there = bool(site.python or whole_ones(site.host, [known.layout.environment(known.lock.name)]))
        room = room_for(site.host, known, LEAST_DISK + (0 if is_there else known.lock.disk))
        return (*known.taken, _told(site, known, is_there), *fits, *room, *_driver(site, known))
    except RuleError as error:
        return (error.finding(name),)


def examine_sites(sites: list[Site]) -> Iterator[tuple[str, tuple[Finding, ...]]]:
    """Each machine's name and what was found."""
    for site in sites:
        yield site.host.name, examine_site(site)


def _told(site: Site, known: Known, is_there: bool) -> Finding:
    facts, lock = known.facts, known.lock
    cards = ", ".join(card.name for card in facts.gpus) or "no card"
    free = "an unknown part of its disk" if facts.free_disk is None else f"{facts.free_disk / 1e9:.0f} GB of its disk"
    gets = f"the environment {lock.tag}"
    if site.python:
        gets = f"{site.python} there"
    elif not is_there:
        gets += f", which is to be brought and takes {lock.disk / 1e9:.0f} GB while it is installed"
    return X015.at(site.host.name, f"{site.host.name} has {cards}, {free} free; it draws with {gets}")


def _driver(site: Site, known: Known) -> Iterator[Finding]:
    if not known.facts.gpus:
        return
    try:
        why = driver_trouble(site.host)
    except SshError as error:
        yield error.finding(site.host.name)
        return
    if why:
        yield X012.at(site.host.name, f"the driver of {site.host.name} does not work: {why}", "take another machine")
