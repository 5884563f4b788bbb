"""SkyPilot's task, for managed jobs: one a machine. Never for Vast.ai, and so only for clouds that are named."""

from __future__ import annotations

from typing import Any

from sosie.core.errors import UsageError
from sosie.pods.export.share import Share, gigabytes
from sosie.pods.export.yaml import dumped

WHY = (
    "SkyPilot drops filters of Vast.ai's search (its issue 9733: an 8xH200 in Texas for one RTX 3090 in Germany) and "
    "writes your account's key onto the rented machine"
)


def written(share: Share) -> str:
    """The task's file. Raises `UsageError` for Vast.ai, and where SkyPilot could take it by itself."""
    if any(name.startswith("vast") for name in share.on):
        raise UsageError(f"nothing is rented at Vast.ai by SkyPilot: {WHY}", "sosie pod up NAME, or --to dstack")
    if not share.on:
        hint = "name the others: --on aws,gcp,lambda"
        raise UsageError(f"without --on SkyPilot may take Vast.ai by itself: {WHY}", hint)
    if not share.gpu:
        raise UsageError("SkyPilot takes a card by its name", "--gpu L4, as in: sky gpus list")
    if not share.fetch:
        raise UsageError(
            "machines of SkyPilot share no folder", '--fetch "rclone copy bucket:plans /plans" --deliver ...'
        )
    resources: dict[str, Any] = {
        "accelerators": f"{share.gpu}:1",
        "use_spot": True,
        "image_id": f"docker:{share.image}",
        "any_of": [{"infra": name} for name in share.on],
    }
    if share.disk:
        resources["disk_size"] = gigabytes(share.disk)
    task: dict[str, Any] = {
        "name": share.name,
        "resources": resources,
        "envs": {"NUMBER": "0"},
        "run": f"timeout {share.seconds} sh -s <<'SHARD'\n{share.script('$NUMBER')}\nSHARD\n",
    }
    launch = f"sky jobs launch -y -d --env NUMBER=$k -n {share.name}-$k FILE"
    loop = f"for k in $(seq 0 {share.machines - 1}); do {launch}; done"
    return dumped(task, f"SkyPilot, each machine a managed job of its own:\n{loop}")
