"""What ERNIE-Image is put together with. Source: ComfyUI `sd.py`."""

from __future__ import annotations

from sosie.families.contract.partners import Autoencoder, Partners, TextEncoders

PARTNERS = Partners(
    texts=(TextEncoders((("language", "Ministral-3-3B"),), "ministral-3-3b.safetensors"),),
    vaes=(Autoencoder("32 channels", "flux2-vae.safetensors (FLUX.2's)"),),
    called="ernieimage",
)
