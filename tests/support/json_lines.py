"""What `--json` prints: one object a line."""

from __future__ import annotations

import json
from typing import Any


def lines(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


def codes(line: dict[str, Any]) -> list[str]:
    """The codes of a line's findings, in order."""
    return [finding["code"] for finding in line["findings"]]
