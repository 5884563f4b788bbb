"""Writes src/sosie_mini/manifest.json from src/sosie_mini/weights/: run it when the weights change.

    python tools/make_manifest.py [--check]

`--check` writes nothing and exits 1 if the manifest in the package is another one.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from sosie_mini.cache import expanded_bytes
from sosie_mini.manifest import Manifest
from sosie_mini.manifest import make_manifest as manifest_of

PACKAGE = Path(__file__).resolve().parent.parent / "src" / "sosie_mini"
SECOND = {"tokenizer": "tokenizer_2"}
"""Folders that the stock layout has twice and the package once."""


def make_manifest(weights: Path) -> Manifest:
    """The manifest of the files below `weights`."""
    return manifest_of(weights, expanded_bytes, SECOND)


def main() -> int:
    """Writes or checks the manifest; the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true")
    text = json.dumps(make_manifest(PACKAGE / "weights").to_json(), indent=1) + "\n"
    target = PACKAGE / "manifest.json"
    if parser.parse_args().check:
        return 0 if target.is_file() and target.read_text(encoding="utf-8") == text else 1
    target.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
