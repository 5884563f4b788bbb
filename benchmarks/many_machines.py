"""Many plans on machines that die at random, in simulated time; manifest, claims, pulling and budget are real.

    python benchmarks/many_machines.py --plans 100000 --machines 50 --budget 100

Prints what was lost, kept twice, drawn in vain, and what it cost. About three minutes of processor time.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent / "tests" / "support"))

from simulated_fleet import Fleet, Simulation, plans_of

from sosie.engines.shards.manifest import Manifest


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--plans", type=int, default=100_000)
    parser.add_argument("--machines", type=int, default=50)
    parser.add_argument("--budget", type=float, default=100.0, help="USD in all")
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    began = time.process_time()
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / "manifest"
        plans = plans_of(asked.plans)
        outcome = Simulation(folder, plans, Fleet(asked.machines, asked.budget), asked.seed).run()
        total, done = Manifest(folder).counts()
        on_record = {path.name for path in (folder / "drawn").iterdir()}
    lost = {plan.id for plan in plans} - on_record
    print(f"plans {total}, done {done}, lost {len(lost)}, kept twice {len(outcome.twice)}")
    print(f"machines rented {outcome.rented}, not rented for want of money {outcome.refused}")
    print(f"died {outcome.died}, fell silent {outcome.silent}, cards lost {outcome.lost_cards}")
    print(f"images begun {outcome.begun}, drawn {outcome.drawn}, kept {outcome.put}")
    print(f"simulated hours {outcome.seconds / 3600:.2f}")
    print(f"cost {outcome.cost:.2f} USD, at most committed {outcome.committed:.2f} of {asked.budget:.2f} USD")
    print(f"processor time {time.process_time() - began:.0f} s")


if __name__ == "__main__":
    main()
