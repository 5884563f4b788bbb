"""The JSON of findings, and what every noun here is written as."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sosie.core import Finding

JSON = dict[str, Any]
Writers = Mapping[str, Callable[[Any], JSON]]
"""By the noun's full name, so that none of their modules is loaded before it is needed."""


def finding_line(finding: Finding) -> JSON:
    """Of one finding."""
    return {"code": finding.code, "severity": finding.severity, "message": finding.message, "hint": finding.hint}


WRITERS: Writers = {"sosie.core.finding.Finding": finding_line}
