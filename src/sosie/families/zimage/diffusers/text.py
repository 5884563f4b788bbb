"""A prompt as Z-Image reads it: Qwen3's states of a user's turn, of the last layer but one."""

from __future__ import annotations

import torch
from torch import Tensor

from sosie.core.errors import EngineError
from sosie.diffusion.offload import device_of
from sosie.families.zimage.diffusers.parts import Parts

TURN = "<|im_start|>user\n{}<|im_end|>\n<|im_start|>assistant\n"
"""Qwen3's chat template for one message, with thinking allowed."""

PADDED = 32
"""The transformer pads text to a multiple of this many tokens; the picture's position follows them."""


def encode(parts: Parts, text: str) -> Tensor:
    """States [tokens, width] of a prompt, where the text encoder works.

    The same as those of diffusers' `ZImagePipeline`, which pads to 512 and cuts there. Raises `EngineError` for a
    prompt of more tokens than the transformer has positions for.
    """
    ids: list[int] = parts.tokenizer.encode(TURN.format(text), add_special_tokens=False).ids
    most = int(parts.transformer.config.axes_lens[0]) - PADDED - 1
    if len(ids) > most:
        raise EngineError(f"the prompt has {len(ids)} tokens; Z-Image takes {most}", "write a shorter prompt")
    words = int(parts.text_encoder.config.vocab_size)
    if max(ids) >= words:
        message = f"the tokenizer gives token {max(ids)}; the text encoder has {words}"
        raise EngineError(message, "put the tokenizer.json of this text encoder beside it")
    row = torch.tensor([ids], device=device_of(parts.text_encoder))
    with torch.no_grad():
        states: tuple[Tensor, ...] = parts.text_encoder(row, output_hidden_states=True).hidden_states
    return states[-2][0]
