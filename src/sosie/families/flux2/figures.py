"""What FLUX.2 klein 4B takes of a machine. Sources: its page (about 13 GB), its shapes, and `memory`."""

from __future__ import annotations

from sosie.families.contract.figures import GB, FailingPrecision, Figures
from sosie.families.flux2.memory import drawing_peak
from sosie.families.flux2.training_memory import training_peak

FIGURES = Figures(
    files=16_000_000_000,  # with encoder and VAE
    largest_file=8_050_000_000,  # the encoder
    memory=10 * GB,  # at its peak, parts one after the other; 13 GB is what its page says, 17 with all parts resident
    memory_fp8=6 * GB,  # transformer and encoder from files in fp8
    estimate_drawing=drawing_peak,
    lora_rank=2_310_144,  # 36.9 million numbers at rank 16 (feed-forward, bf16: 74 MB)
    estimate_training=training_peak,
    precision="bf16",
    fails=(FailingPrecision("fp16", "FLUX.2 was made for bf16; diffusers cuts off what overflows in fp16"),),
)
