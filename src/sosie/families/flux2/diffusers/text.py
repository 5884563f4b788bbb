"""A prompt as klein reads it: states of three layers of Qwen3, side by side, of a user's turn that is not thought over.

The turn is filled up to 512 tokens, and those that fill it are read by the transformer like all others. The same as
diffusers' `Flux2KleinPipeline`, but that a longer prompt is refused, not cut.
"""

from __future__ import annotations

import torch
from torch import Tensor

from sosie.core.errors import EngineError
from sosie.diffusion.offload import device_of
from sosie.families.flux2.diffusers.parts import Parts

TURN = "<|im_start|>user\n{}<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n"
"""Qwen3's chat template for one message, without thinking."""

TOKENS = 512
FILLING = "<|endoftext|>"

LAYERS = (1, 2, 3)
"""After which quarters of the encoder's layers states are taken: 9, 18 and 27 of 36."""


def encode(parts: Parts, text: str) -> Tensor:
    """States [512, 3 width] of a prompt, where the text encoder works. Raises `EngineError` if it is too long."""
    ids: list[int] = parts.tokenizer.encode(TURN.format(text), add_special_tokens=False).ids
    if len(ids) > TOKENS:
        raise EngineError(f"the prompt has {len(ids)} tokens; FLUX.2 klein takes {TOKENS}", "write a shorter prompt")
    filling = parts.tokenizer.token_to_id(FILLING)
    row = [*ids, *[filling or 0] * (TOKENS - len(ids))]
    words = int(parts.text_encoder.config.vocab_size)
    if max(row) >= words:
        message = f"the tokenizer gives token {max(row)}; the text encoder has {words}"
        raise EngineError(message, "put the tokenizer.json of this text encoder beside it")
    device = device_of(parts.text_encoder)
    seen = torch.arange(TOKENS, device=device)[None] < len(ids)
    layers = int(parts.text_encoder.config.num_hidden_layers)
    with torch.no_grad():
        states: tuple[Tensor, ...] = parts.text_encoder(
            torch.tensor([row], device=device), attention_mask=seen.long(), output_hidden_states=True
        ).hidden_states
    return torch.cat([states[layers * quarter // 4][0] for quarter in LAYERS], dim=-1)
