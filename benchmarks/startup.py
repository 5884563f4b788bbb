"""How long `sosie --help`, `recipe list` and `model show mini` take, as processes, beside a bare interpreter.

python benchmarks/startup.py [--rounds 15]
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from pathlib import Path

import numpy as np


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=15)
    rounds = parser.parse_args().rounds
    sosie = str(Path(sys.executable).with_name("sosie"))
    commands = {
        "python -c pass": [sys.executable, "-c", "pass"],
        "sosie --help": [sosie, "--help"],
        "sosie recipe list": [sosie, "recipe", "list"],
        "sosie model show mini": [sosie, "model", "show", "mini"],
    }
    times: dict[str, list[float]] = {name: [] for name in commands}
    for _ in range(rounds):
        for name, command in commands.items():
            start = time.perf_counter()
            subprocess.run(command, check=True, capture_output=True)
            times[name].append(time.perf_counter() - start)
    print("| command | seconds, median (least) |\n| --- | --- |")
    for name, values in times.items():
        print(f"| `{name}` | {np.median(values):.3f} ({min(values):.3f}) |")


if __name__ == "__main__":
    main()
