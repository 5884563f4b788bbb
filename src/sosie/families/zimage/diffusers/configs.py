"""The configurations of Z-Image's parts, told from the shapes of their tensors.

So a single file needs nothing beside it, and small models load as the published ones do. What no shape tells is
constant here: theta and the scale of time are those of Tongyi-MAI's configuration,
the factors of the latents are FLUX.1's. A config.json beside the weights goes before.
"""

from __future__ import annotations

from typing import Any

from sosie.diffusion.autoencoder import autoencoder_config
from sosie.diffusion.weights.part import Shapes, blocks

POSITIONS = (1536, 512, 512)
"""Largest positions of text, rows and columns (of 16 pixels)."""

ROPE_SHARES = (2, 3, 3)
"""Eighths of a head's numbers that turn with text, rows and columns."""

FLUX_SCALE, FLUX_SHIFT = 0.3611, 0.1159


def transformer_config(shapes: Shapes) -> dict[str, Any]:
    """Of the names of `ZImageTransformer2DModel`: the arguments that build it."""
    width, text = shapes["cap_embedder.1.weight"]
    head = shapes["layers.0.attention.norm_q.weight"][0]
    patches = shapes["all_x_embedder.2-1.weight"][1]
    return {
        "in_channels": patches // 4,
        "dim": width,
        "n_layers": blocks("layers", shapes),
        "n_refiner_layers": blocks("noise_refiner", shapes),
        "n_heads": width // head,
        "n_kv_heads": width // head,
        "cap_feat_dim": text,
        "siglip_feat_dim": shapes.get("siglip_embedder.0.weight", (None,))[0],
        "axes_dims": [head * share // 8 for share in ROPE_SHARES],
        "axes_lens": list(POSITIONS),
        "rope_theta": 256.0,
        "t_scale": 1000.0,
    }


def vae_config(shapes: Shapes) -> dict[str, Any]:
    """Of the names of `AutoencoderKL`: the arguments that build it."""
    return autoencoder_config(shapes) | {"scaling_factor": FLUX_SCALE, "shift_factor": FLUX_SHIFT}
