"""A Ray cluster of pretended GPUs on this machine, in which workers and nodes die while plans are drawn.

    python tests/support/ray_cluster.py FOLDER PLANS FAULT...

Faults come after a tenth, two tenths... of the plans: `worker` kills the process of a card, `node` removes a host,
`head` ends the head; with `old` one host has another version of Sosie from the beginning. The last line is JSON: how
many plans, how often each at most, what was found. A process of its own, as Ray ends one that loses its head.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

os.environ.update(RAY_USAGE_STATS_ENABLED="0", RAY_AUTH_MODE="token", RAY_AUTH_TOKEN="0" * 64, RAY_worker_niceness="0")

from places import EXAMPLES

from sosie.core import Character, Draw, Recipe, Reference, Render, Request, Stage, plan
from sosie.core.errors import SosieError
from sosie.engines.ray.engine import RayEngine
from sosie.engines.scheme import Supplies
from sosie.store import Store

NODE = {"num_cpus": 0, "num_gpus": 2, "object_store_memory": 80 << 20}
RECIPE = Recipe("r", (Stage("generate", "sdxl", "m"),), "{prompt}", 64, 64)


def main(folder: Path, count: int, faults: list[str]) -> dict[str, Any]:
    """Draws `count` plans with the fake engine, into a store."""
    from ray.cluster_utils import Cluster

    files = {f"{index:064d}": path for index, path in enumerate(sorted(EXAMPLES.glob("*.jpg"))[:3])}
    who = Character("mira", "fictional", True, references=tuple(Reference(p.name, sha) for sha, p in files.items()))
    asked = [plan(RECIPE, who, Request("r", "mira", "smiling"), Draw(i), {"m": "a" * 64}) for i in range(count)]
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False, **_small()})
    nodes = [cluster.add_node(**NODE)]
    if "old" in faults:
        faults.remove("old")
        os.environ["PYTHONPATH"] = os.pathsep.join([str(_other_version(folder)), *sys.path])
    nodes.append(cluster.add_node(**NODE))
    engine = RayEngine(f"ray:{cluster.address}", Supplies(files, None, None, root=folder), "fake")  # type: ignore[arg-type]
    told: dict[str, Any] = {"error": "", "hint": "", "codes": [], "checks": []}
    made: Counter[str] = Counter()
    started, headless = time.monotonic(), False
    print("the cluster is there", file=sys.stderr, flush=True)
    with Store.open(folder / ".sosie") as store:
        try:
            told["checks"] = [finding.message for finding in engine.check(asked[0])]
            for event in engine.run(asked) if not told["checks"] else ():
                if not isinstance(event, Render):
                    continue
                store.add_render(event)
                made[event.plan.id] += 1
                print(made.total(), f"{time.monotonic() - started:.1f}", file=sys.stderr, flush=True)
                told["codes"] += [finding.code for finding in event.findings]
                if headless:
                    time.sleep(1.0)  # the fake draws faster than a head is missed
                if faults and made.total() % max(count // 10, 1) == 0:
                    headless = faults[0] == "head"
                    _strike(faults.pop(0), cluster, nodes)
        except SosieError as error:
            told |= {"error": error.message, "hint": error.hint}
        told |= {"renders": store.counts()["renders"], "seconds": time.monotonic() - started}
    engine.close()
    if "gone" not in told["error"]:
        cluster.shutdown()
    return {**told, "plans": len(made), "most": max(made.values(), default=0), "left": _left(folder)}


def _small() -> dict[str, int]:
    return {"object_store_memory": 80 << 20}


def _other_version(folder: Path) -> Path:
    """A folder from which another version of Sosie is imported: ours, with another number."""
    import sosie

    here, there = Path(sosie.__file__).parent, folder / "other" / "sosie"
    there.mkdir(parents=True)
    for path in here.iterdir():
        if path.name != "__init__.py":
            (there / path.name).symlink_to(path)
    text = (here / "__init__.py").read_text(encoding="utf-8")
    (there / "__init__.py").write_text(text.replace(sosie.__version__, "0.0.9"), encoding="utf-8")
    return there.parent


def _strike(fault: str, cluster: Any, nodes: list[Any]) -> None:
    if fault == "worker":
        pid = next(pid for pid in _children() if "CardActor" in _title(pid))
        os.kill(pid, signal.SIGKILL)
    elif fault == "node":
        cluster.remove_node(nodes.pop(), allow_graceful=False)
    else:
        cluster.head_node.kill_gcs_server()


def _children() -> list[int]:
    return [int(path.name) for path in Path("/proc").iterdir() if path.name.isdigit()]


def _title(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace")
    except OSError:
        return ""


def _left(folder: Path) -> list[str]:
    incoming = folder / ".sosie" / "incoming"
    return [path.name for path in incoming.iterdir()] if incoming.is_dir() else []


if __name__ == "__main__":
    print(json.dumps(main(Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3:])), flush=True)
    os._exit(0)
