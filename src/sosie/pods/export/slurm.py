"""Slurm's array of jobs: a task is a machine, or a card of one."""

from __future__ import annotations

from sosie.pods.export.share import Share, gigabytes


def written(share: Share) -> str:
    """The batch script."""
    hours, rest = divmod(share.seconds, 3600)
    card = f"gpu:{share.gpu}:1" if share.gpu else "gpu:1"
    lines = [
        "#!/bin/sh",
        f"#SBATCH --job-name={share.name}",
        f"#SBATCH --array=0-{share.machines - 1}",
        f"#SBATCH --gres={card}",
        f"#SBATCH --time={hours}:{rest // 60:02}:{rest % 60:02}",
        "#SBATCH --cpus-per-task=4",
        "#SBATCH --requeue",
        *([f"#SBATCH --tmp={gigabytes(share.disk)}G"] if share.disk else []),
        "# sbatch FILE",
        share.script("$SLURM_ARRAY_TASK_ID"),
    ]
    return "\n".join(lines) + "\n"
