"""A prompt as SDXL's text encoders give it: weights, any length, clip skip.

A chunk is what an encoder takes at once: 75 tokens between its start and end. A longer prompt is
cut after a comma in the last 20 of them, else after a word, and the chunks' states stand one after
another. A weight w turns a token's state z into e + w (z - e), where e is the empty prompt's state
at the same place (Comfy's rule: 1 changes nothing, 0 says nothing). The pooled vector is the first
chunk's, unweighted.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from sosie.core.errors import EngineError
from sosie.core.notation import Span, parse
from sosie.diffusion.offload import device_of

if TYPE_CHECKING:
    from sosie.families.sdxl.diffusers.parts import SdxlPipeline, TextEncoder, Tokenizer

COMMA_WITHIN = 20
"""Of a chunk's last tokens, those among which a comma is looked for."""


@dataclass(frozen=True)
class PromptEmbeds:
    """What a pipeline takes in place of the two prompts.

    `prompt_embeds` and `negative_prompt_embeds` are [1, 77 n, both encoders' widths] with the
    same n, `pooled` and `negative_pooled` are [1, the second encoder's projection].
    """

    prompt_embeds: Tensor
    negative_prompt_embeds: Tensor
    pooled: Tensor
    negative_pooled: Tensor

    def followed_by(self, tokens: Tensor | None) -> PromptEmbeds:
        """With more tokens [1, n, width] after the prompt's, and as many zeros after the negative one's."""
        if tokens is None:
            return self
        more = tokens.to(self.prompt_embeds)
        return replace(
            self,
            prompt_embeds=torch.cat([self.prompt_embeds, more], dim=1),
            negative_prompt_embeds=torch.cat([self.negative_prompt_embeds, torch.zeros_like(more)], dim=1),
        )


def encode(pipeline: SdxlPipeline, prompt: str, negative: str = "", clip_skip: int = 0) -> PromptEmbeds:
    """Both prompts, for `pipeline(prompt_embeds=..., ...)` of an SDXL pipeline of diffusers.

    `clip_skip` counts layers left out beyond SDXL's own choice, the last but one; what other
    programs call "clip skip 2" is 0 here. An empty `negative` is zeros where the model asks for
    that (`force_zeros_for_empty_prompt`). Without weights, with at most 75 tokens and a
    `clip_skip` of 0 the result is that of `pipeline.encode_prompt`, bit for bit. Raises
    `EngineError` if an encoder has too few layers.
    """
    zeros = not negative and pipeline.config.force_zeros_for_empty_prompt
    parts = ((pipeline.tokenizer, pipeline.text_encoder), (pipeline.tokenizer_2, pipeline.text_encoder_2))
    encoders = [_Encoder(tokenizer, model, clip_skip) for tokenizer, model in parts]
    chunks = [[encoder.chunks(parse(text)) for encoder in encoders] for text in (prompt, "" if zeros else negative)]
    count = max(len(each) for both in chunks for each in both)
    with torch.no_grad():
        found = [[encoder.states(each, count) for encoder, each in zip(encoders, both, strict=True)] for both in chunks]
    states = [torch.cat([first[0], second[0]], dim=-1) for first, second in found]
    pooled = [second[1] for _, second in found]
    if zeros:
        states[1], pooled[1] = torch.zeros_like(states[0]), torch.zeros_like(pooled[0])
    dtype: torch.dtype = pipeline.text_encoder_2.dtype
    return PromptEmbeds(states[0].to(dtype), states[1].to(dtype), pooled[0], pooled[1])


Tokens = list[tuple[int, float]]
"""Token ids and their weights."""


class _Encoder:
    """One of the two text encoders with its tokenizer."""

    def __init__(self, tokenizer: Tokenizer, model: TextEncoder, clip_skip: int) -> None:
        self._tokenizer = tokenizer
        self._model = model
        self._device = device_of(model)  # where offloading runs it, wherever it rests
        self._layer = clip_skip + 2
        self._room: int = tokenizer.model_max_length - 2

    def chunks(self, sections: tuple[tuple[Span, ...], ...]) -> list[Tokens]:
        """The sections cut to what the encoder takes; one chunk at least."""
        cut: list[Tokens] = []
        for section in sections:
            tokens: Tokens = []
            for span in section:
                ids: list[int] = self._tokenizer(span.text, add_special_tokens=False, verbose=False).input_ids
                tokens += [(token, span.weight) for token in ids]
            while tokens:
                end = self._end(tokens)
                cut.append(tokens[:end])
                tokens = tokens[end:]
        return cut or [[]]

    def _end(self, tokens: Tokens) -> int:
        if len(tokens) <= self._room:
            return len(tokens)
        names: list[str] = self._tokenizer.convert_ids_to_tokens([token for token, _ in tokens[: self._room]])
        commas = [place for place, name in enumerate(names, 1) if name == ",</w>"]
        if commas and commas[-1] > self._room - COMMA_WITHIN:
            return commas[-1]
        return max((place for place, name in enumerate(names, 1) if name.endswith("</w>")), default=self._room)

    def states(self, chunks: list[Tokens], count: int) -> tuple[Tensor, Tensor]:
        """States [1, 77 count, width] with empty chunks at the end, and the first chunk's pooled vector or state."""
        chunks = chunks + [[]] * (count - len(chunks))
        found = [self._run([token for token, _ in chunk]) for chunk in chunks]
        weighed = [self._weigh(states, chunk) for (states, _), chunk in zip(found, chunks, strict=True)]
        return torch.cat(weighed, dim=1), found[0][1]

    def _run(self, ids: list[int]) -> tuple[Tensor, Tensor]:
        tokenizer = self._tokenizer
        rest = [tokenizer.eos_token_id] + [tokenizer.pad_token_id] * (self._room - len(ids))
        row = torch.tensor([[tokenizer.bos_token_id, *ids, *rest]], device=self._device)
        result = self._model(row, output_hidden_states=True)
        if self._layer > len(result.hidden_states):
            most = len(result.hidden_states) - 2
            raise EngineError(f"clip_skip {self._layer - 2} is more than this model's text encoder has; at most {most}")
        return result.hidden_states[-self._layer], result[0]

    def _weigh(self, states: Tensor, chunk: Tokens) -> Tensor:
        if all(weight == 1 for _, weight in chunk):
            return states
        weights = torch.ones(states.shape[1], dtype=torch.float32)
        weights[1 : len(chunk) + 1] = torch.tensor([weight for _, weight in chunk])
        weights = weights.to(states)[None, :, None]
        empty, _ = self._run([])
        return torch.where(weights == 1, states, empty + weights * (states - empty))
