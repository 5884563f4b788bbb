"""What Stable Diffusion 1 is put together with. Source: ComfyUI `sd.py`."""

from __future__ import annotations

from sosie.families.contract.partners import Autoencoder, Partners, TextEncoders

PARTNERS = Partners(
    texts=(TextEncoders((("clip", "CLIP-L"),), "clip_l.safetensors", "stable_diffusion", never=("sd3", "hidream")),),
    vaes=(Autoencoder("4 channels", "vae-ft-mse-840000-ema-pruned.safetensors"),),
)
