"""Kubernetes' indexed Job, with Kueue's queue if one is named: an index is a machine."""

from __future__ import annotations

from typing import Any

from sosie.core.errors import UsageError
from sosie.pods.export.share import Share, gigabytes
from sosie.pods.export.yaml import dumped

AGAIN = 6
"""So often a machine's pod is begun anew, before the others must do with it."""


def written(share: Share) -> str:
    """The manifest of the Job. Raises `UsageError` without a volume that has the folder, or a way to fetch it."""
    if not share.claim and not share.fetch:
        raise UsageError("pods see no folder by themselves", "--claim NAME of a volume claim, or --fetch and --deliver")
    limits: dict[str, Any] = {"nvidia.com/gpu": 1}
    if share.disk:
        limits["ephemeral-storage"] = f"{gigabytes(share.disk)}G"
    container: dict[str, Any] = {
        "name": "draw",
        "image": share.image,
        "command": ["sh", "-c", share.script("$JOB_COMPLETION_INDEX")],
        "resources": {"limits": limits},
    }
    pod: dict[str, Any] = {"restartPolicy": "OnFailure", "containers": [container]}
    if share.claim:
        container["volumeMounts"] = [{"name": "plans", "mountPath": share.folder}]
        pod["volumes"] = [{"name": "plans", "persistentVolumeClaim": {"claimName": share.claim}}]
    if share.gpu:
        pod["nodeSelector"] = {"nvidia.com/gpu.product": share.gpu}
    labels = {"kueue.x-k8s.io/queue-name": share.queue} if share.queue else {}
    job: dict[str, Any] = {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": share.name, **({"labels": labels} if labels else {})},
        "spec": {
            "completionMode": "Indexed",
            "completions": share.machines,
            "parallelism": share.machines,
            "backoffLimit": AGAIN * share.machines,
            "activeDeadlineSeconds": share.seconds,
            **({"suspend": True} if share.queue else {}),
            "template": {"spec": pod},
        },
    }
    return dumped(job, "kubectl apply -f FILE")
