"""What can be rented, and what still bills, at every installed provider."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import TypeVar

from sosie.core import Finding
from sosie.core.errors import NotFoundError, SosieError, UsageError
from sosie.core.finding import Rule
from sosie.core.ranges import out_of_range
from sosie.machines.ssh.trouble import plain
from sosie.pods import GROUP, provider_names, provider_of
from sosie.pods.fitness import Estimate, Work, ranked, unfit
from sosie.pods.lease import Lease
from sosie.pods.offer import Offer, Wanted, misfits
from sosie.pods.provider import Provider
from sosie.pods.volume import Volume

B001 = Rule("SOS-B001", "warning", "No provider of pods can be asked")
B002 = Rule("SOS-B002", "error", "A provider of pods could not be asked")
B003 = Rule("SOS-B003", "warning", "A provider offered what was not wanted")

B008 = Rule("SOS-B008", "warning", "A volume bills")

Answer = TypeVar("Answer", Offer, Lease, Volume)


@dataclass(frozen=True)
class PodOffers:
    """Offers, the one on which the work would cost least first, and what went wrong.

    `estimates` are what it would take on each, None where that is not known. `struck` are the offers that suit and on
    which the doctor knows that nothing of Sosie's runs, each with the reason: they are never rented.
    """

    offers: tuple[Offer, ...]
    findings: tuple[Finding, ...] = ()
    estimates: tuple[Estimate | None, ...] = ()
    struck: tuple[tuple[Offer, str], ...] = ()


@dataclass(frozen=True)
class PodLeases:
    """All that bills, by provider, and what went wrong: where a provider could not be asked, more may bill."""

    leases: tuple[Lease, ...]
    findings: tuple[Finding, ...] = ()

    @property
    def price(self) -> float:
        """What all of it costs, in US dollars an hour."""
        return sum(lease.price for lease in self.leases)


def search_pods(wanted: Wanted, provider: str = "", work: Work | None = None) -> PodOffers:
    """What the providers (or one) offer of what is wanted; nothing is rented. Without `work` prices alone count.

    Raises `NotFoundError` for a provider that is not installed, `UsageError` for a figure that cannot be wanted.
    """
    for complaint in out_of_range(wanted, ""):
        raise UsageError(complaint)
    found, findings = _asked(provider, lambda one: one.search(wanted))
    suiting: list[Offer] = []
    for name, group in groupby(found, key=lambda offer: offer.provider):
        offers, odd = list(group), list[str]()
        for offer in offers:
            why = next(misfits(offer, wanted), "")
            if why:
                odd.append(f"{offer.id}: {why}")
            else:
                suiting.append(offer)
        if odd:
            message = f"{len(odd)} of {len(offers)} offers of '{name}' are not what was wanted, and left out ({odd[0]})"
            findings.append(B003.at(name, message))
    why = {(offer.provider, offer.id): unfit(offer) for offer in suiting}
    fit = [offer for offer in suiting if not why[offer.provider, offer.id]]
    struck = tuple((offer, reason) for offer in suiting if (reason := why[offer.provider, offer.id]))
    if work is None:
        return PodOffers(tuple(sorted(fit, key=lambda offer: offer.price)), tuple(findings), (None,) * len(fit), struck)
    best = ranked(fit, work)
    return PodOffers(tuple(one for one, _ in best), tuple(findings), tuple(one for _, one in best), struck)


def list_pods(provider: str = "") -> PodLeases:
    """All that bills at the providers (or one). Raises as `search_pods`."""
    found, findings = _asked(provider, lambda one: one.leases())
    return PodLeases(tuple(found), tuple(findings))


def check_volumes(provider: str = "") -> list[Finding]:
    """SOS-B008 of every volume that bills, and of a provider (or the one) that does not tell whether one does."""
    found, failed = _asked(provider, _volumes)
    findings = [
        B008.at(one.subject, f"it is not known whether volumes bill: {one.message}", one.hint) for one in failed
    ]
    for volume in found:
        size = "" if volume.size is None else f", {volume.size / 1e9:.0f} GB"
        named = f" '{plain(volume.name, 80)}'" if volume.name else ""
        message = f"{volume.provider} keeps volume {volume.id}{named}{size}, which bills until it is deleted"
        findings.append(B008.at(volume.id, message, "Sosie uses no volumes; delete it on the provider's own page"))
    return findings


def _volumes(provider: Provider) -> Sequence[Volume]:
    ask = getattr(provider, "volumes", None)
    return ask() if ask is not None else ()


def _asked(name: str, ask: Callable[[Provider], Sequence[Answer]]) -> tuple[list[Answer], list[Finding]]:
    """The answers of every provider, or of one; a provider that fails is a finding, and the others are asked."""
    findings: list[Finding] = []
    answers: list[Answer] = []
    names = (name,) if name else provider_names()
    if not names:
        keys = "VAST_API_KEY or RUNPOD_API_KEY"
        message = f"no provider of pods can be asked: no {keys}, and no package in the entry point group '{GROUP}'"
        hint = "export VAST_API_KEY=... or RUNPOD_API_KEY=..., or install a package that brings another provider"
        findings.append(B001.at("pods", message, hint))
    for one in names:
        try:
            answers += ask(provider_of(one))
        except NotFoundError:
            raise
        except SosieError as error:
            findings.append(B002.at(one, error.message, error.hint))
        except Exception as error:  # another project's code; its text may name a key
            message = f"provider '{one}' failed: {type(error).__name__}, an error that it does not explain"
            findings.append(B002.at(one, message, "update that package, and ask the provider's own page what bills"))
    return answers, findings
