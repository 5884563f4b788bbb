"""A volume: storage at a provider that outlives machines, and bills until it is deleted. Sosie makes and uses none."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Volume:
    """`id` is the provider's own, `name` what somebody called it, `size` in bytes or None where that is not told."""

    provider: str
    id: str
    name: str = ""
    size: int | None = None
