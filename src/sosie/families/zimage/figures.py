"""What Z-Image takes of a machine. Sources: the model card, reports of OneTrainer (#1269) and ai-toolkit (#550)."""

from __future__ import annotations

from sosie.families.contract.figures import GB, FailingPrecision, Figures
from sosie.families.zimage.memory import drawing_peak
from sosie.families.zimage.training_memory import training_peak

FIGURES = Figures(
    files=20_600_000_000,  # with encoder and VAE
    largest_file=12_310_000_000,
    lora_rank=5_312_500,  # 85.03 million numbers at rank 32 (layers only, bf16)
    memory=13 * GB,  # at its peak; 21 to 23 GB with all parts resident
    memory_fp8=8 * GB,  # 8 to 10 GB
    estimate_drawing=drawing_peak,  # by how the files are stored: fp8 and GGUF stay packed
    memory_training=12 * GB,  # at 768 px; 20 GB in bf16 with two images at once
    estimate_training=training_peak,
    precision="bf16",
    fails=(
        FailingPrecision(
            "fp16",
            "activations of Z-Image reach 344,064 (layers.0.feed_forward.w2), fp16 ends at 65,504: they become "
            "infinite and the loss NaN, or exactly 0 in a trainer that hides it",
        ),
    ),
)
