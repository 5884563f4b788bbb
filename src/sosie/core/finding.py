"""A Finding: what a check has to say about one thing."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

Severity = Literal["info", "warning", "error"]


@dataclass(frozen=True)
class Finding:
    """One result of one check.

    `code` is stable (`SOS-R001`: letter for the subject, three digits). `subject` is the file,
    recipe or machine part that is spoken of. `message` says what was seen and what was expected,
    `hint` what to run.
    """

    code: str
    severity: Severity
    subject: str
    message: str
    hint: str = ""


def has_errors(findings: Iterable[Finding]) -> bool:
    """True if at least one finding forbids going on."""
    return any(finding.severity == "error" for finding in findings)
