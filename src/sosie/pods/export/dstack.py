"""dstack's task: one run a machine, so that no cluster is asked for, which Vast.ai and RunPod do not have."""

from __future__ import annotations

from typing import Any

from sosie.pods.export.share import Share, gigabytes
from sosie.pods.export.yaml import dumped

BACKENDS = {"vast": "vastai"}


def written(share: Share) -> str:
    """The configuration file."""
    gpu: dict[str, Any] = {"count": 1}
    if share.gpu:
        gpu["name"] = share.gpu
    if share.memory:
        gpu["memory"] = f"{gigabytes(share.memory)}GB.."
    resources: dict[str, Any] = {"gpu": gpu}
    if share.disk:
        resources["disk"] = f"{gigabytes(share.disk)}GB.."
    task: dict[str, Any] = {
        "type": "task",
        "image": share.image,
        "env": ["NUMBER=0"],
        "commands": [share.script("$NUMBER")],
        "resources": resources,
        "max_duration": share.seconds,
        "retry": {"on_events": ["no-capacity", "interruption", "error"], "duration": share.seconds},
    }
    if not share.fetch:
        task["volumes"] = [f"{share.folder}:{share.folder}"]
    if share.on:
        task["backends"] = [BACKENDS.get(name, name) for name in share.on]
    if share.price:
        task["max_price"] = share.price
    loop = (
        f"for k in $(seq 0 {share.machines - 1}); do dstack apply -y -d -f FILE -n {share.name}-$k -e NUMBER=$k; done"
    )
    return dumped(task, f"dstack, each machine a run of its own:\n{loop}")
