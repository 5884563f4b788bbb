"""Records the goldens of this folder again, where a change of behaviour is meant; the commit says why.

python tests/goldens/make.py pixels pixels-z lines help
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path


def main(names: list[str]) -> None:
    """Writes the goldens of these names."""
    import lines
    import pixels
    import pixels_z

    with tempfile.TemporaryDirectory() as folder:
        makers = {
            "pixels": lambda: pixels.record(Path(folder)),
            "pixels-z": lambda: pixels_z.record(Path(folder)),
            "lines": lambda: lines.record(Path(folder)),
            "help": lines.record_help,
        }
        if unknown := set(names) - set(makers):
            raise SystemExit(f"unknown golden: {', '.join(unknown)}; expected {', '.join(makers)}")
        for name in names:
            makers[name]()


if __name__ == "__main__":
    main(sys.argv[1:])
