"""Records the goldens of this folder anew; to be run where a change of behaviour is meant, and said in the commit.

python tests/goldens/make.py pixels
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path


def main(names: list[str]) -> None:
    """Writes the goldens of that name."""
    with tempfile.TemporaryDirectory() as folder:
        for name in names:
            if name == "pixels":
                import pixels

                pixels.record(Path(folder))
            else:
                raise SystemExit(f"golden '{name}' is not known; expected pixels")


if __name__ == "__main__":
    main(sys.argv[1:])
