"""Countries by their two letters (ISO 3166-1), and the unions that stand for several."""

from __future__ import annotations

from collections.abc import Iterable

EU = (
    *("AT", "BE", "BG", "HR", "CY", "CZ", "DK", "EE", "FI", "FR", "DE", "GR", "HU", "IE"),
    *("IT", "LV", "LT", "LU", "MT", "NL", "PL", "PT", "RO", "SK", "SI", "ES", "SE"),
)
"""The 27 members of the European Union."""

EEA = (*EU, "IS", "LI", "NO")
"""The European Economic Area."""

UNIONS = {"EU": EU, "EEA": EEA}


def countries(names: Iterable[str]) -> tuple[str, ...]:
    """Every country that is meant, unions written out, each once."""
    upper = [name.strip().upper() for name in names]
    return tuple(dict.fromkeys(code for name in upper for code in UNIONS.get(name, (name,))))
