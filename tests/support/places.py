"""Where things lie in a checkout, and the example character."""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples" / "mira"
DESCRIPTION = "a young woman, light skin, auburn braided hair, brown eyes"
