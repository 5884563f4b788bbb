"""`pod up`: rent the best offer that works, within what was agreed; each that does not is ended before the next."""

from __future__ import annotations

from collections.abc import Generator, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta

from sosie.api.knowledge.entries import change, entries, put
from sosie.api.pods import list_pods
from sosie.core import Event, Note, Progress, Result
from sosie.core.errors import NotFoundError, SosieError, UsageError
from sosie.core.finding import RuleError
from sosie.knowledge.rental import Rental
from sosie.machines.ssh import Host
from sosie.pods import provider_of
from sosie.pods.budget import rest_of
from sosie.pods.fitness import Work
from sosie.pods.lease import Lease, LeaseTerms
from sosie.pods.offer import Offer, Wanted
from sosie.pods.pod import Pod, find_pod, forget_host_key, host_of, make_key, read_pods, save_pod
from sosie.pods.provider import Provider
from sosie.pods.providers.client import ProviderError
from sosie.pods.renting import Clock, UselessError, await_login, end_surely, may_bill, probe_machine, rent_surely
from sosie.pods.switch import new_label
from sosie.workspace.session import Session
from sosie.workspace.workspace import Workspace

TRIES = 5
"""So many machines are rented, one after another, before it is given up."""

LONGEST_HOURS = 24 * 14


@dataclass(frozen=True)
class Agreed:
    """What was agreed to: at most `cost` US dollars in all, and an end after `hours` whatever happens.

    `budget` is the most that all machines of the workspace may cost, those that ended too; 0: there is no such limit.
    """

    cost: float
    hours: float
    budget: float = 0.0

    def __post_init__(self) -> None:
        if not 0 < self.hours <= LONGEST_HOURS:
            raise UsageError(f"--hours {self.hours:g} is out of range: up to {LONGEST_HOURS}")
        if not self.cost > 0:
            raise UsageError(f"--max-cost {self.cost:g} is out of range: more than 0")


@dataclass(frozen=True)
class Lending:
    """What is to be rented under which name. `card` False: a machine without one will do.

    `template` is as in `LeaseTerms`.
    """

    name: str
    wanted: Wanted
    agreed: Agreed
    provider: str = ""
    work: Work = field(default_factory=Work)
    card: bool = True
    template: str = ""


@dataclass(frozen=True)
class PodUp(Result):
    """A pod that can be used."""

    pod: Pod


def rent(session: Session, lending: Lending, offers: tuple[Offer, ...], clock: Clock | None = None) -> Generator[Event]:
    """Rents the first of the offers that works, and yields its `PodUp`.

    Raises `UsageError` for a name that is in use, `NotFoundError` if none of them works, `RuleError` (SOS-B005) if
    something may bill on: then nothing more is rented.
    """
    clock = clock or Clock()
    workspace, agreed = session.workspace, lending.agreed
    if any(pod.name == lending.name and not pod.ended for pod in read_pods(workspace)):
        raise UsageError(f"there is a pod '{lending.name}'", f"sosie pod down {lending.name}, or take another name")
    public = make_key(workspace, lending.name)
    fitting = [offer for offer in offers if cost_of(offer, lending) <= agreed.cost]
    if len(fitting) < len(offers):
        yield Note(
            f"{len(offers) - len(fitting)} offers would cost more than {agreed.cost:.2f} USD in {agreed.hours:g} h"
        )
    prices = {lease.label: lease.most for lease in list_pods().leases} if agreed.budget else {}
    for offer in fitting[:TRIES]:
        if agreed.budget and cost_of(offer, lending) > (rest := _rest(session, agreed.budget, prices)):
            yield Note(
                f"offer {offer.id} may cost {cost_of(offer, lending):.2f} USD, and {rest:.2f} of the budget are left"
            )
            continue
        provider = provider_of(offer.provider)
        deadline = datetime.now(UTC) + timedelta(hours=agreed.hours)
        label = new_label(lending.name, deadline)
        terms = LeaseTerms(lending.wanted.disk, deadline, offer.price, public, template=lending.template)
        forget_host_key(workspace, lending.name)
        now = datetime.now(UTC).isoformat(timespec="seconds")
        pod = Pod(
            *(lending.name, offer.provider, label, offer.id, offer.gpu, offer.price, lending.wanted.disk),
            deadline=deadline.isoformat(timespec="seconds"),
            created=now,
            template=lending.template,
        )
        save_pod(workspace, pod)
        yield Progress(f"renting {offer.gpu} at {offer.price:.3f} USD/h", 0, 0)
        try:
            lease = rent_surely(provider, offer, label, terms, clock)
        except ProviderError as error:
            save_pod(workspace, replace(pod, ended=now))
            yield Note(error.message)
            continue
        pod = save_pod(workspace, replace(pod, lease=lease.id))
        number = put(session, _rental(pod, offer)).id
        try:
            up = yield from _made_useful(workspace, lending, provider, lease, pod, clock)
        except UselessError as error:
            yield error.finding(offer.id, "warning")
            _end(session, provider, lease, pod, number, error.message)
            yield Note(f"lease {lease.id} has ended; it bills no more")
            continue
        except BaseException:
            _end(session, provider, lease, pod, number, "renting was broken off")
            raise
        yield PodUp(up)
        return
    raise NotFoundError(f"none of {len(fitting[:TRIES])} offers works", "sosie pod search; ask for less, or more money")


def _rest(session: Session, budget: float, prices: Mapping[str, float]) -> float:
    """What is left of a budget, counted until the deadline of what still runs, at the `prices` that it may have now."""
    return rest_of(budget, (one.noun for one in entries(session, Rental)), prices)


def cost_of(offer: Offer, lending: Lending) -> float:
    """What an offer costs at most until the deadline, with the traffic that is planned."""
    return offer.price * lending.agreed.hours + offer.traffic * lending.work.download / 1e9


def end_pod(session: Session, name: str) -> Pod:
    """Ends a pod, surely; what was not rented at all is only forgotten.

    Raises `NotFoundError` for a name that is none, `RuleError` (SOS-B005) if it may bill on.
    """
    pod = find_pod(session.workspace, name)
    provider = provider_of(pod.provider)
    try:
        leases = [lease for lease in provider.leases() if lease.label == pod.label]
    except SosieError as error:
        raise may_bill(pod.label, error.message) from error
    number = next(
        (one.id for one in entries(session, Rental) if one.noun.label == pod.label and not one.noun.ended), ""
    )
    for lease in leases:
        end_surely(provider, lease)
    return _ended(session, pod, number, "")


def _made_useful(
    workspace: Workspace, lending: Lending, provider: Provider, lease: Lease, pod: Pod, clock: Clock
) -> Generator[Event, None, Pod]:
    yield Progress("waiting for the machine", 0, 0)

    def reach(address: str) -> Host:
        return host_of(workspace, pod, address)

    found, host = await_login(provider, lease, pod.price, reach, clock)
    yield Progress("trying the machine", 0, 0)
    probe_machine(host, found, pod.disk, lending.card)
    user = f"{host.user}@" if host.user else ""
    return save_pod(workspace, replace(pod, address=f"{user}{host.name}"))


def _end(session: Session, provider: Provider, lease: Lease, pod: Pod, number: str, problem: str) -> None:
    try:
        end_surely(provider, lease)
    except RuleError as error:
        said = error.message
        change(session, Rental, number, lambda one: replace(one, problems=(*one.problems, problem, said)))
        raise
    _ended(session, pod, number, problem)


def _ended(session: Session, pod: Pod, number: str, problem: str) -> Pod:
    now = datetime.now(UTC).isoformat(timespec="seconds")
    if number:
        problems = (problem,) if problem else ()
        change(session, Rental, number, lambda one: replace(one, ended=now, problems=(*one.problems, *problems)))
    return save_pod(session.workspace, replace(pod, ended=now))


def _rental(pod: Pod, offer: Offer) -> Rental:
    return Rental(
        pod.label,
        pod.gpu,
        pod.price,
        pod.created,
        provider=pod.provider,
        place=offer.place or "",
        use=f"pod {pod.name}",
        lease=pod.lease,
    )
