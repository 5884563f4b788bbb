"""Where Sosie keeps what it can make again."""

from __future__ import annotations

import os
from pathlib import Path


def cache_folder() -> Path:
    """`SOSIE_CACHE`, or the user's cache folder for Sosie; absolute, and it may not exist yet."""
    if named := os.environ.get("SOSIE_CACHE"):
        return Path(named).expanduser().absolute()
    from platformdirs import user_cache_dir

    return Path(user_cache_dir("sosie", appauthor=False))
