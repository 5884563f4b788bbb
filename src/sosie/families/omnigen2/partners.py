"""What OmniGen2 is put together with. Source: ComfyUI `sd.py`."""

from __future__ import annotations

from sosie.families.contract.partners import Autoencoder, Partners, TextEncoders

PARTNERS = Partners(
    texts=(TextEncoders((("language", "Qwen2.5-VL-3B"),), "qwen_2.5_vl_fp16.safetensors"),),
    vaes=(Autoencoder("16 channels", "ae.safetensors (FLUX.1's)"),),
)
