"""What SDXL takes of a machine. Sources: reports of kohya's and InvokeAI's users; `training_memory`."""

from __future__ import annotations

from sosie.families.contract.figures import GB, FailingPrecision, Figures
from sosie.families.sdxl.training_memory import training_peak

FIGURES = Figures(
    files=16 * GB,  # with its identity guides
    largest_file=6_900_000_000,
    lora_rank=12_500_000,  # 0.2 to 0.4 GB at rank 32
    memory=8 * GB,  # 8 to 10 GB
    memory_guided=14 * GB,  # with InstantID and FaceID: 14 to 17 GB
    memory_training=13 * GB,  # 13 to 15 GB
    estimate_training=training_peak,
    # Models in fp16 run all the same: their VAE is run in fp32.
    fails=(
        FailingPrecision(
            "fp16", "the VAE of SDXL overflows fp16: latents and pictures become NaN or black", training_only=True
        ),
    ),
)
