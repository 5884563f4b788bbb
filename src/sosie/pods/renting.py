"""Renting, so that nothing is rented twice or forgotten; and waiting until a machine can be used, or cannot.

Time comes from a `Clock`, so that tests need none.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from sosie.core.errors import SosieError
from sosie.core.finding import Rule, RuleError, has_errors
from sosie.doctor.machine import Needs, check_machine
from sosie.machines.remote import Remote
from sosie.machines.ssh import Command, Host, SshError, run
from sosie.machines.ssh.trouble import X002, plain
from sosie.pods.lease import Lease, LeaseTerms
from sosie.pods.offer import Offer
from sosie.pods.provider import Provider
from sosie.pods.providers.client import BusyError, ProviderError, UnclearError
from sosie.pods.setup.locks import choose_lock

B004 = Rule("SOS-B004", "warning", "A rented machine was of no use")
B005 = Rule("SOS-B005", "error", "A machine may bill on")

LOOKS = 6
"""So often a label is looked for after an answer that was not clear; a provider shows a lease within a minute."""

BETWEEN = 10.0
START_SECONDS = 900.0
LOGIN_SECONDS = 300.0
"""How long a machine may take to run, and then to let somebody in."""

REFUSED_SECONDS = 20.0
"""A machine that refuses the login at every address for so long will not take it: a provider's key is there by then."""

DRIVER_PROBE = """
import ctypes, sys
cuda = ctypes.CDLL("libcuda.so.1")
def call(name, *words):
    code = getattr(cuda, name)(*words)
    if code:
        sys.exit("CUDA error %d in %s" % (code, name))
count, device, context, memory = ctypes.c_int(), ctypes.c_int(), ctypes.c_void_p(), ctypes.c_void_p()
call("cuInit", 0)
call("cuDeviceGetCount", ctypes.byref(count))
for index in range(count.value):
    call("cuDeviceGet", ctypes.byref(device), index)
    call("cuCtxCreate_v2", ctypes.byref(context), 0, device)
    call("cuMemAlloc_v2", ctypes.byref(memory), ctypes.c_size_t(1 << 26))
    call("cuMemsetD8_v2", memory, 7, ctypes.c_size_t(1 << 26))
    call("cuCtxSynchronize")
    call("cuCtxDestroy_v2", context)
print("%d cards" % count.value)
"""
"""Memory is taken and written on every card by the driver alone: nothing is installed or downloaded for it."""


class UselessError(RuleError):
    """A machine that was rented and cannot be used."""


@dataclass(frozen=True)
class Clock:
    """Seconds that only grow, and a way to let them pass."""

    now: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep


def rent_surely(provider: Provider, offer: Offer, label: str, terms: LeaseTerms, clock: Clock) -> Lease:
    """The lease under `label`; one request that creates, whatever becomes of its answer.

    Raises `ProviderError` if nothing was rented, surely; `RuleError` (SOS-B005) if nobody can tell.
    """
    try:
        return provider.rent(offer, label, terms)
    except UnclearError:
        pass
    except ProviderError:
        raise
    except SosieError:
        pass  # of a provider that does not tell the two apart
    is_told = False
    for look in range(LOOKS):
        if look:
            clock.sleep(BETWEEN)
        try:
            found = [lease for lease in provider.leases() if lease.label == label]
        except SosieError:
            is_told = False
            continue
        if found:
            _admit(provider, found[0], terms.ssh_key)
            return found[0]
        is_told = True
    if is_told:
        raise ProviderError(f"offer {offer.id} was not rented: no lease has the label {label}", "take another offer")
    raise may_bill(label, "its provider does not say what bills")


def _admit(provider: Provider, lease: Lease, ssh_key: str) -> None:
    """Gives a lease that was found by its label the key that its request may not have brought.

    A provider that registers keys after it created has a method `admit(lease, ssh_key)`; others need none.
    """
    admit = getattr(provider, "admit", None)
    if admit is not None:
        admit(lease, ssh_key)


def may_bill(label: str, why: str) -> RuleError:
    """The error that money may run."""
    hint = "look at the provider's own page, and end it there; then: sosie pod list"
    return RuleError(B005, f"a machine with the label {label} may bill: {why}", hint)


def end_surely(provider: Provider, lease: Lease) -> None:
    """Ends a lease. Raises `RuleError` (SOS-B005) if that is not sure."""
    try:
        provider.end(lease)
    except SosieError as error:
        raise may_bill(lease.label or lease.id, error.message) from error


def await_login(
    provider: Provider, lease: Lease, price: float, reach: Callable[[str], Host], clock: Clock
) -> tuple[Lease, Host]:
    """The lease when its machine runs, and how it lets us in: directly if it can, else by the provider's proxy.

    Raises `UselessError` for a state that never becomes running, a price above what was agreed, or too long a wait.
    """
    until, running_until, refused = clock.now() + START_SECONDS, None, None
    why = "it did not start"
    while clock.now() < (until if running_until is None else running_until):
        found = _find(provider, lease)
        if found is not None:
            if found.price > price * 1.001:
                raise _useless(lease, f"it costs {found.price:.3f} USD/h, agreed were {price:.3f}")
            if found.state in ("failed", "stopped", "unknown"):
                raise _useless(lease, f"it is {found.state} ({plain(found.why, 80) or 'no reason is given'})")
            if found.state == "running" and found.ssh:
                running_until = running_until or clock.now() + LOGIN_SECONDS
                host, errors = _logged_in(found, reach)
                if host is not None:
                    return found, host
                why = errors[-1].message
                refused = (refused or clock.now()) if all(error.is_final for error in errors) else None
                if refused is not None and clock.now() - refused >= REFUSED_SECONDS:
                    raise _useless(lease, why)
        clock.sleep(BETWEEN)
    raise _useless(lease, f"{why}, for {(LOGIN_SECONDS if running_until else START_SECONDS) / 60:.0f} minutes")


def _logged_in(lease: Lease, reach: Callable[[str], Host]) -> tuple[Host | None, list[SshError]]:
    """The first address that lets us in, and what the ones before it said. Raises `UselessError` for another key."""
    errors: list[SshError] = []
    for address in lease.ssh:
        try:
            host = reach(address)
            run(host, Command("true"), 30.0)
        except SshError as error:
            if error.code == X002.code:
                raise _useless(lease, error.message) from error
            errors.append(error)
        else:
            return host, errors
    return None, errors


def probe_machine(host: Host, lease: Lease, disk: int, needs_card: bool = True) -> None:
    """Asks a machine what it is and has its driver work, before anything is downloaded. Raises `UselessError`."""
    try:
        facts = Remote(host).facts("/")
        if facts.free_disk is not None and facts.free_disk < 0.8 * disk:
            raise _useless(lease, f"its disk has {facts.free_disk / 1e9:.0f} GB free, {disk / 1e9:.0f} GB were rented")
        if not needs_card:
            return
        if not facts.gpus:
            findings = check_machine(facts, Needs(gpu=True, far=True))
            raise _useless(lease, next((one.message for one in findings), "it shows no card"))
        _, findings = choose_lock(facts)
        if has_errors(findings):
            raise _useless(lease, next(one.message for one in findings if one.severity == "error"))
        if why := driver_trouble(host):
            raise _useless(lease, f"its driver does not work: {why}")
    except SshError as error:
        raise _useless(lease, error.message) from error


def driver_trouble(host: Host) -> str:
    """Why the driver there cannot take and write memory on every card; empty if it can. Raises `SshError`."""
    ran = run(host, Command('exec python3 -c "$1" 2>&1', (DRIVER_PROBE,)), 120.0)
    lines = [line for line in ran.text.splitlines() if line.strip()]
    return plain(lines[-1] if lines else ran.err) if ran.code else ""


def _find(provider: Provider, lease: Lease) -> Lease | None:
    """The lease as it is now; None while the provider cannot be asked, or does not show it yet."""
    try:
        return next((one for one in provider.leases() if one.id == lease.id), None)
    except (BusyError, UnclearError):
        return None


def _useless(lease: Lease, why: str) -> UselessError:
    return UselessError(B004, f"{lease.gpu or 'the machine'} (lease {lease.id}) is of no use: {why}")
