"""A Pod: a machine that was rented from here, as this workspace remembers it: `.sosie/pods/NAME/`.

It is written before the machine is rented, label first, and says where it is reached, with which key and under which
host key. No account's key is in it.
"""

from __future__ import annotations

import os
import re
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from pathlib import Path

from sosie.core.errors import NotFoundError, SosieError, UsageError, nearest
from sosie.core.schema import from_table
from sosie.files.foreign import read_object
from sosie.files.whole import make_folder, write_json
from sosie.machines.ssh import Host, parse_host
from sosie.pods.switch import name_of
from sosie.workspace.workspace import Workspace


@dataclass(frozen=True)
class Pod:
    """`label` is that of its lease. Prices are in US dollars an hour, `deadline` and `created` ISO 8601 with a zone.

    `lease` is the provider's number and `address` `root@HOST:PORT`; both empty while they are not known. `ended` is
    when it was ended from here, empty before; `template` what it was rented with, as in `LeaseTerms`.
    """

    name: str
    provider: str
    label: str
    offer: str
    gpu: str
    price: float
    disk: int
    deadline: str
    created: str
    lease: str = ""
    address: str = ""
    ended: str = ""
    template: str = ""

    @property
    def until(self) -> datetime:
        """When it ends by itself."""
        return datetime.fromisoformat(self.deadline)


def pod_folder(workspace: Workspace, name: str) -> Path:
    """Where a pod of that name is remembered. Raises `UsageError` for what is no name of one."""
    if not re.fullmatch(r"[a-z0-9]{1,32}", name):
        raise UsageError(f"'{name[:80]}' is no name for a pod; expected 1 to 32 small letters and digits")
    return workspace.state / "pods" / name


def save_pod(workspace: Workspace, pod: Pod) -> Pod:
    """Remembers it, for good."""
    folder = pod_folder(workspace, pod.name)
    make_folder(folder, 0o700)
    write_json(folder / "pod.json", asdict(pod))
    return pod


def read_pods(workspace: Workspace) -> tuple[Pod, ...]:
    """Every pod that is remembered and can be read, by name; those that ended too."""
    found: list[Pod] = []
    for path in sorted((workspace.state / "pods").glob("*/pod.json")):
        with suppress(SosieError):
            found.append(from_table(Pod, read_object(path), str(path)))
    return tuple(found)


def find_pod(workspace: Workspace, name: str) -> Pod:
    """The pod of that name that has not ended. Raises `NotFoundError` that names the nearest."""
    pods = {pod.name: pod for pod in read_pods(workspace) if not pod.ended}
    if name not in pods:
        raise NotFoundError(f"there is no pod '{name[:80]}'{nearest(name, pods)}", "sosie pod list; sosie pod up NAME")
    return pods[name]


def host_of(workspace: Workspace, pod: Pod, address: str = "") -> Host:
    """How it is reached: with a key of its own, and the host key that it had at the first contact."""
    where = address or pod.address
    if not where:
        raise NotFoundError(f"pod '{pod.name}' has no address yet", f"sosie pod down {pod.name}, and rent another")
    folder = pod_folder(workspace, pod.name)
    return replace(parse_host(f"ssh://{where}"), key=folder / "key", known_hosts=folder / "known_hosts")


def drawn_file(workspace: Workspace, label: str) -> Path:
    """Where the ids of the plans stand that the machine of that label drew, a line each."""
    return pod_folder(workspace, name_of(label) or "others") / f"{label}.drawn"


def drawn_on(workspace: Workspace, label: str) -> frozenset[str]:
    """The ids of the plans that it drew; none for a label of somebody else's."""
    if not name_of(label):
        return frozenset()
    try:
        return frozenset(drawn_file(workspace, label).read_text(encoding="ascii").split())
    except (OSError, ValueError):
        return frozenset()


def make_key(workspace: Workspace, name: str) -> str:
    """The public key of a pod, in OpenSSH's form; the private one is made if need be, for this user alone."""
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import (
        Encoding,
        NoEncryption,
        PrivateFormat,
        PublicFormat,
        load_ssh_private_key,
    )

    folder = pod_folder(workspace, name)
    make_folder(folder, 0o700)
    path = folder / "key"
    if path.exists():
        key = load_ssh_private_key(path.read_bytes(), None)
    else:
        key = Ed25519PrivateKey.generate()
        content = key.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption())
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as stream:
            stream.write(content)
    public = key.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode()
    return f"{public} sosie-{name}"


def forget_host_key(workspace: Workspace, name: str) -> None:
    """Another machine will have that name."""
    (pod_folder(workspace, name) / "known_hosts").unlink(missing_ok=True)
