"""Lock files: exact versions, with the digests of wheels, of what draws on a class of machine."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass, replace
from functools import cache
from importlib.resources import files

from sosie.core import Finding
from sosie.core.finding import has_errors
from sosie.doctor.machine import Needs, check_machine
from sosie.machines.facts import MachineFacts, TorchWheel, torch_wheel

TAGS = ("cu130", "cu128", "cu126")
"""The newest first: the one without a complaint of the doctor's is taken."""

UNPACKED = 3
"""What an environment takes of the disk while it is installed, in bytes of its wheels: these and what is in them."""


@dataclass(frozen=True)
class Lock:
    """A lock file: its CUDA's `tag`, the torch in it, the bytes of its wheels, and its text for pip."""

    tag: str
    wheel: TorchWheel
    bytes: int
    text: str

    @property
    def name(self) -> str:
        """Of its tag and its content: another content is another environment."""
        return f"{self.tag}-{hashlib.sha256(self.text.encode()).hexdigest()[:12]}"

    @property
    def disk(self) -> int:
        """Bytes that installing it takes, temporary files counted."""
        return UNPACKED * self.bytes


@cache
def read_lock(tag: str) -> Lock:
    """The lock file of a tag."""
    text = (files("sosie.pods") / "locks" / f"{tag}.txt").read_text(encoding="ascii")
    heads = dict(re.findall(r"^# (\w+): (\S+)$", text, re.MULTILINE))
    return Lock(tag, torch_wheel(heads["torch"]), int(heads["bytes"]), text)


def choose_lock(facts: MachineFacts) -> tuple[Lock, list[Finding]]:
    """The lock for a machine, and what the doctor says of the two: errors where there is none that fits.

    Of those without an error, the one with the fewest warnings; of these the newest.
    """
    found: list[tuple[int, int, Lock, list[Finding]]] = []
    for place, tag in enumerate(TAGS):
        lock = read_lock(tag)
        findings = check_machine(replace(facts, torch=lock.wheel), Needs(gpu=False, far=True))
        warnings = sum(finding.severity == "warning" for finding in findings)
        found.append((warnings + 100 * has_errors(findings), place, lock, findings))
    _, _, lock, findings = min(found, key=lambda one: one[:2])
    return lock, findings
