"""What ssh says when it fails, as errors that say what to do."""

from __future__ import annotations

import re

from sosie.core.finding import Rule, RuleError
from sosie.machines.ssh.host import Host

X001 = Rule("SOS-X001", "error", "A machine cannot be reached by ssh")
X002 = Rule("SOS-X002", "error", "A machine shows another host key than before")
X003 = Rule("SOS-X003", "error", "A machine refused the login")
X004 = Rule("SOS-X004", "error", "A machine did something else than was asked")


class SshError(RuleError):
    """A machine that did not do what was asked."""

    @property
    def is_final(self) -> bool:
        """Whether another try is of no use, or a risk."""
        return self.code in (X002.code, X003.code)


def plain(text: str, most: int = 200) -> str:
    """Untrusted text for people: one line of printable letters."""
    words = " ".join(text.split())
    return "".join(letter for letter in words if letter.isprintable())[:most]


def unreached(host: Host, why: str) -> SshError:
    """A machine that cannot be reached, now."""
    where = f"ssh -p {host.port} {host.destination}" if host.port else f"ssh {host.destination}"
    return SshError(X001, f"{host.name} cannot be reached by ssh: {why}", f"check that it runs, and try: {where}")


def nonsense(host: Host, what: str, hint: str = "") -> SshError:
    """A machine that did something else than was asked."""
    return SshError(X004, f"{host.name} {what}", hint)


def not_installed(host: Host) -> SshError:
    """No ssh here."""
    hint = "install OpenSSH's client (Debian: apt install openssh-client)"
    return SshError(X001, f"{host.name} cannot be reached: there is no 'ssh' on this machine", hint)


def failed(host: Host, said: str) -> SshError:
    """The error for what ssh wrote to stderr before it gave up (exit code 255)."""
    if "REMOTE HOST IDENTIFICATION HAS X002" in said or "Host key verification failed" in said:
        place = f"[{host.address}]:{host.port}" if host.port not in (0, 22) else host.address
        found = re.search(r"(SHA256:[A-Za-z0-9+/=]{20,60})", said)
        shown = f" (now {found[1]})" if found else ""
        file = f" -f {host.known_hosts}" if host.known_hosts else ""
        message = (
            f"{host.name} shows another host key than it had{shown}: "
            "it is a new machine at an old address, or somebody stands between"
        )
        hint = f"compare it with what the provider shows; if the machine is new: ssh-keygen -R '{place}'{file}"
        return SshError(X002, message, hint)
    if "Permission denied" in said or "Too many authentication failures" in said:
        hint = (
            "register your public key there (or at the provider), and load the private one: ssh-add; "
            "Sosie never asks for passwords"
        )
        return SshError(X003, f"{host.name} refused the login as {host.user or 'the user that ssh takes'}", hint)
    lines = [line for line in said.splitlines() if line.strip() and not line.startswith(("debug", "Warning: Perm"))]
    return unreached(host, plain(lines[-1]) if lines else "the connection ended")
