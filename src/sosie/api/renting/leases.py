"""What bills, beside what this workspace remembers; and what was paid for before."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from sosie.api.knowledge.entries import entries
from sosie.core import Finding
from sosie.core.finding import Rule
from sosie.knowledge.days import as_time
from sosie.knowledge.rental import Rental
from sosie.pods import provider_of
from sosie.pods.lease import Lease
from sosie.pods.pod import drawn_on
from sosie.store.record import Record
from sosie.workspace.session import Session

B006 = Rule("SOS-B006", "warning", "A machine bills without an end, or longer than was agreed")
B007 = Rule("SOS-B007", "warning", "A host wants a higher price")


def check_leases(leases: Sequence[Lease]) -> list[Finding]:
    """SOS-B006 and B007 of everything that bills."""
    findings: list[Finding] = []
    now = datetime.now(UTC)
    for lease in leases:
        hint = f"sosie pod down NAME, or end lease {lease.id} on the provider's own page"
        if lease.deadline is None:
            message = f"lease {lease.id} ({lease.gpu or 'a machine'}) bills {lease.price:.3f} USD/h without an end"
            findings.append(B006.at(lease.id, message, hint))
        elif lease.deadline < now:
            end = f"{lease.deadline:%Y-%m-%d %H:%M} UTC"
            message = f"lease {lease.id} still bills {lease.price:.3f} USD/h; it was to end at {end}"
            findings.append(B006.at(lease.id, message, hint))
        if lease.state in ("stopped", "failed"):
            message = f"lease {lease.id} is {lease.state}, and bills all the same ({lease.price:.3f} USD/h at most)"
            findings.append(B006.at(lease.id, message, hint))
        if lease.rise:
            message = f"the host of lease {lease.id} wants {lease.rise:.3f} USD/h in place of {lease.price:.3f}"
            findings.append(B007.at(lease.id, message, "nothing was accepted; the provider's own page has the choice"))
    for name in sorted({lease.provider for lease in leases if lease.rise is None}):
        message = (
            f"{name} does not list every price that hosts want: of some leases it is not known whether one is wanted"
        )
        findings.append(B007.at(name, message, "nothing was accepted; the provider's own page has the choice"))
    return findings


@dataclass(frozen=True)
class Paid:
    """A machine that was paid for, how many images it drew for this workspace, and how many of them were kept."""

    rental: Rental
    drawn: int
    kept: int

    @property
    def each(self) -> float | None:
        """US dollars for a kept image; None where the cost is not known yet, or none was kept."""
        return None if self.rental.cost is None or not self.kept else self.rental.cost / self.kept


def billed(rentals: Sequence[Rental]) -> dict[str, float]:
    """What providers say that they billed, in US dollars, by the rental's label; without those that do not say it.

    Raises `SosieError` of a provider that could not be asked.
    """
    found: dict[str, float] = {}
    for name in sorted({one.provider for one in rentals if one.lease}):
        theirs = [one for one in rentals if one.provider == name and one.lease]
        ask = getattr(provider_of(name), "billed", None)
        starts = [start for one in theirs if (start := as_time(one.started)) is not None]
        if ask is not None and starts:
            told = ask(min(starts))
            found |= {one.label: told[one.lease] for one in theirs if one.lease in told}
    return found


def ledger(session: Session) -> tuple[Paid, ...]:
    """Every machine on record, the oldest first."""
    found = tuple(one.noun for one in entries(session, Rental))
    drawn = {rental.label: drawn_on(session.workspace, rental.label) for rental in found}
    kept: set[str] = set()
    if any(drawn.values()):
        with Record(session.store.folder) as record:
            kept = {one.render.plan.id for one in record.judged() if one.kept}
    return tuple(Paid(rental, len(drawn[rental.label]), len(drawn[rental.label] & kept)) for rental in found)
