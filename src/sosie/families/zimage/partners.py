"""What Z-Image is put together with.

Sources: the model's pages (Base: 30 to 50 steps, CFG 3 to 5; Turbo: 8 steps without guidance), ComfyUI's templates
(Base 25 steps at CFG 4, Turbo 8 at CFG 1, both shift 3) and its `supported_models.py` (shift 3 is built in).
"""

from __future__ import annotations

from sosie.families.contract.partners import Autoencoder, Partners, SamplingRange, TextEncoders
from sosie.families.zimage.adapters import variant_of

PARTNERS = Partners(
    texts=(
        # Under FLUX's types it becomes klein's encoder, 7680 wide.
        TextEncoders((("qwen3", "4B"),), "qwen_3_4b.safetensors", "lumina2", never=("flux", "flux2")),
        TextEncoders((("qwen3", "reduced"),), "the reduced model's own", "lumina2", of="reduced"),
    ),
    vaes=(Autoencoder("16 channels", "ae.safetensors (FLUX.1's)"),),
    ranges=(
        SamplingRange("base", "Z-Image Base", (20, 50), (3.0, 6.0)),
        SamplingRange(
            "turbo",
            "Z-Image Turbo",
            (6, 9),
            (1.0, 3.0),
            train_instead="on the base model, or on De-Turbo",
            train_seen="blur at 8 steps (DiffSynth-Studio #1251, diffusion-pipe #462), grain that De-Turbo cured "
            "(musubi-tuner #769)",
        ),
    ),
    published="25 steps at CFG 4 for Base, 8 steps at CFG 1 for Turbo",
    variant_of=variant_of,
    shift=3.0,
    left_shift=1.73,
    shift_node="ModelSamplingAuraFlow",
    called="zimage",
    switches_cfg=True,
)
