"""Shards of a manifest for engines that schedule machines: files that have each machine run `sosie worker draw`."""

from __future__ import annotations

from collections.abc import Callable

from sosie.core.errors import NotFoundError, nearest
from sosie.pods.export import dstack, k8s, skypilot, slurm
from sosie.pods.export.share import Share

TARGETS: dict[str, Callable[[Share], str]] = {
    "dstack": dstack.written,
    "k8s": k8s.written,
    "skypilot": skypilot.written,
    "slurm": slurm.written,
}
"""What writes the one file that an engine runs, by the engine's name."""

ENDINGS = {"slurm": "sbatch"}


def export(share: Share, target: str) -> tuple[str, str]:
    """The name of the file and its text. Raises `NotFoundError`, and `UsageError` for what an engine cannot do."""
    if target not in TARGETS:
        raise NotFoundError(f"'{target}' is no engine for machines{nearest(target, TARGETS)}", ", ".join(TARGETS))
    return f"{share.name}-{target}.{ENDINGS.get(target, 'yaml')}", TARGETS[target](share)
