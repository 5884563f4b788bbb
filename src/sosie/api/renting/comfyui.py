"""ComfyUI on a machine that was rented with a template: waited for until it answers, through a tunnel."""

from __future__ import annotations

from collections.abc import Generator

from sosie.core import Finding, Note, Progress
from sosie.core.finding import Rule
from sosie.engines.comfy.client import Client
from sosie.engines.comfy.errors import ComfyError
from sosie.machines.ssh import SshError
from sosie.pods.renting import Clock
from sosie.servers.address import reach
from sosie.workspace.workspace import Workspace

B009 = Rule("SOS-B009", "warning", "ComfyUI on a rented machine does not answer")

BETWEEN = 10.0
LONGEST = 900.0
"""Seconds: the template's image installs and loads for some minutes after the machine lets one in."""


def await_comfyui(
    workspace: Workspace, name: str, clock: Clock | None = None, longest: float = LONGEST
) -> Generator[Finding | Note | Progress]:
    """Asks ComfyUI of the pod `name` until it answers; SOS-B009 if it does not within `longest` seconds.

    A login that is refused, or another host key, ends the wait at once: waiting is of no use then.
    """
    clock, why = clock or Clock(), ""
    began = clock.now()
    while True:
        yield Progress("waiting for ComfyUI", min(clock.now() - began, longest), longest)
        try:
            version = _version(workspace, name)
        except (SshError, ComfyError) as error:
            why = error.message
            if (isinstance(error, SshError) and error.is_final) or clock.now() - began >= longest:
                break
        else:
            yield Note(f"ComfyUI {version or 'of an unknown version'} answers: --engine comfy+ssh:{name}")
            return
        clock.sleep(BETWEEN)
    message = f"ComfyUI on '{name}' did not answer in {(clock.now() - began) / 60:.0f} minutes: {why}"
    hint = f"it bills on: sosie doctor comfy+ssh:{name} asks again, sosie pod down {name} ends it"
    yield B009.at(name, message, hint)


def _version(workspace: Workspace, name: str) -> str:
    """What ComfyUI says that it is. Raises `SshError`, `ComfyError`."""
    with reach(f"comfy+ssh:{name}", workspace) as (one,):
        client = Client(one.server)
        try:
            return client.system().version
        finally:
            client.close()
