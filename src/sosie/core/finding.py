"""A Finding: what a check found in one thing, and the Rule that it is an instance of."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from sosie.core.address import conceal
from sosie.core.errors import SosieError

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


@dataclass(frozen=True)
class Rule:
    """What a check checks: the birthplace of its findings, next to the check.

    `severity` is the usual one; `title` heads the section of `code` in `docs/findings`.
    """

    code: str
    severity: Severity
    title: str

    def at(self, subject: str, message: str, hint: str = "", *, severity: Severity | None = None) -> Finding:
        """The finding that `subject` breaks this rule; `severity` where the case is better or worse than usual."""
        return Finding(self.code, severity or self.severity, conceal(subject), conceal(message), conceal(hint))


class RuleError(SosieError):
    """An error that has the code of a finding: of the rule that was broken, or of a finding of it."""

    def __init__(self, rule: Rule | Finding, message: str, hint: str = "") -> None:
        super().__init__(message, hint)
        self.code = rule.code

    def finding(self, subject: str, severity: Severity = "error") -> Finding:
        """The same as a finding."""
        return Finding(self.code, severity, subject, self.message, self.hint)


def has_errors(findings: Iterable[Finding]) -> bool:
    """True if at least one finding forbids going on."""
    return any(finding.severity == "error" for finding in findings)
