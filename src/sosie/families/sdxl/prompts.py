r"""A prompt as SDXL's text encoders give it: weights, any length, clip skip. Imports torch when it encodes.

Syntax, as users know it from A1111 and ComfyUI:

- `(words:1.2)` weighs words 1.2, `(words)` 1.1, `[words]` 1 / 1.1; brackets nest and multiply.
- `\(`, `\)`, `\[`, `\]`, `\:` are the characters themselves, as is a bracket without its partner.
- `BREAK`, a word of its own, starts a new chunk.

A chunk is what an encoder takes at once: 75 tokens between its start and end. A longer prompt is
cut after a comma in the last 20 of them, else after a word, and the chunks' states stand one after
another. A weight w turns a token's state z into e + w (z - e), where e is the empty prompt's state
at the same place (Comfy's rule: 1 changes nothing, 0 says nothing). The pooled vector is the first
chunk's, unweighted. Why no library does it: docs/decisions/0006-prompts.md.
"""

from __future__ import annotations

import importlib
import re
from dataclasses import dataclass
from typing import Any

from sosie.core.errors import EngineError

BRACKET = 1.1
LARGEST = 4.0
COMMA_WITHIN = 20

_TOKEN = re.compile(
    r"\\(?P<escaped>[()\[\]:\\])|(?P<open>[(\[])|:\s*(?P<weight>[+-]?(?:\d+\.?\d*|\.\d+))\s*\)|(?P<close>[)\]])"
    r"|(?P<cut>\bBREAK\b)|(?P<text>(?:(?!\bBREAK\b)[^\\()\[\]:])+|.)",
    re.DOTALL,
)


@dataclass(frozen=True)
class Span:
    """Words of one weight."""

    text: str
    weight: float = 1.0


@dataclass(frozen=True)
class PromptEmbeds:
    """What a pipeline takes in place of the two prompts.

    `prompt_embeds` and `negative_prompt_embeds` are [1, 77 n, both encoders' widths] with the
    same n, `pooled` and `negative_pooled` are [1, the second encoder's projection].
    """

    prompt_embeds: Any
    negative_prompt_embeds: Any
    pooled: Any
    negative_pooled: Any


@dataclass
class _Piece:
    """A stretch of the prompt while its brackets are matched. A matched bracket leaves an empty piece."""

    text: str
    weight: float = 1.0
    cuts: bool = False


def parse(prompt: str) -> tuple[tuple[Span, ...], ...]:
    """The prompt's sections between `BREAK`s, each as spans in their order; one section at least."""
    pieces: list[_Piece] = []
    opened: dict[str, list[int]] = {"(": [], "[": []}
    for match in _TOKEN.finditer(prompt):
        kind, text = str(match.lastgroup), match[0]
        kin = {")": "(", "]": "["}.get(text[-1], "") if kind in ("weight", "close") else ""
        if kind == "open":
            opened[text].append(len(pieces))
            pieces.append(_Piece(text))
        elif kin and opened[kin]:
            start = opened[kin].pop()
            factor = float(match["weight"]) if kind == "weight" else BRACKET if kin == "(" else 1 / BRACKET
            for piece in pieces[start:]:
                piece.weight *= factor
            pieces[start].text = ""
            pieces.append(_Piece(""))
        else:
            pieces.append(_Piece(match["escaped"] or text, cuts=kind == "cut"))
    return _sections(pieces)


def _sections(pieces: list[_Piece]) -> tuple[tuple[Span, ...], ...]:
    """Joins what stands together with one weight, so that words are tokenized as they were written."""
    sections: list[list[Span]] = [[]]
    joins = False
    for piece in pieces:
        if piece.cuts:
            sections.append([])
        elif joins and piece.text and sections[-1] and sections[-1][-1].weight == piece.weight:
            sections[-1][-1] = Span(sections[-1][-1].text + piece.text, piece.weight)
        elif piece.text:
            sections[-1].append(Span(piece.text, piece.weight))
        joins = bool(piece.text) and not piece.cuts
    return tuple(tuple(section) for section in sections)


def complaint(prompt: str) -> str:
    """What is wrong with the prompt's weights, as one sentence; empty if nothing is."""
    for span in (span for section in parse(prompt) for span in section):
        if not 0 <= span.weight <= LARGEST:
            return (
                f"the prompt weighs '{span.text.strip()}' {span.weight:g}; expected 0 to {LARGEST:g} "
                "(a bracket or colon that is no weight is written \\( or \\:)"
            )
    return ""


def encode(pipeline: Any, prompt: str, negative: str = "", clip_skip: int = 0) -> PromptEmbeds:
    """Both prompts, for `pipeline(prompt_embeds=..., ...)` of an SDXL pipeline of diffusers.

    `clip_skip` counts layers left out beyond SDXL's own choice, the last but one; what other
    programs call "clip skip 2" is 0 here. An empty `negative` is zeros where the model asks for
    that (`force_zeros_for_empty_prompt`). Without weights, with at most 75 tokens and a
    `clip_skip` of 0 the result is that of `pipeline.encode_prompt`, bit for bit. Raises
    `EngineError` if an encoder has too few layers.
    """
    torch: Any = importlib.import_module("torch")
    zeros = not negative and pipeline.config.force_zeros_for_empty_prompt
    device: Any = pipeline._execution_device  # where offloading runs a part, wherever it rests
    parts = ((pipeline.tokenizer, pipeline.text_encoder), (pipeline.tokenizer_2, pipeline.text_encoder_2))
    encoders = [_Encoder(tokenizer, model, clip_skip, device) for tokenizer, model in parts]
    chunks = [[encoder.chunks(parse(text)) for encoder in encoders] for text in (prompt, "" if zeros else negative)]
    count = max(len(each) for both in chunks for each in both)
    with torch.no_grad():
        found = [[encoder.states(each, count) for encoder, each in zip(encoders, both, strict=True)] for both in chunks]
    states = [torch.cat([first[0], second[0]], dim=-1) for first, second in found]
    pooled = [second[1] for _, second in found]
    if zeros:
        states[1], pooled[1] = torch.zeros_like(states[0]), torch.zeros_like(pooled[0])
    dtype: Any = pipeline.text_encoder_2.dtype
    return PromptEmbeds(states[0].to(dtype), states[1].to(dtype), pooled[0], pooled[1])


Tokens = list[tuple[int, float]]
"""Token ids and their weights."""


class _Encoder:
    """One of the two text encoders with its tokenizer."""

    def __init__(self, tokenizer: Any, model: Any, clip_skip: int, device: Any) -> None:
        self._torch: Any = importlib.import_module("torch")
        self._tokenizer = tokenizer
        self._model = model
        self._device = device
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

    def states(self, chunks: list[Tokens], count: int) -> tuple[Any, Any]:
        """States [1, 77 count, width] with empty chunks at the end, and the first chunk's pooled vector or state."""
        chunks = chunks + [[]] * (count - len(chunks))
        found = [self._run([token for token, _ in chunk]) for chunk in chunks]
        weighed = [self._weigh(states, chunk) for (states, _), chunk in zip(found, chunks, strict=True)]
        return self._torch.cat(weighed, dim=1), found[0][1]

    def _run(self, ids: list[int]) -> tuple[Any, Any]:
        tokenizer = self._tokenizer
        rest = [tokenizer.eos_token_id] + [tokenizer.pad_token_id] * (self._room - len(ids))
        row = self._torch.tensor([[tokenizer.bos_token_id, *ids, *rest]], device=self._device)
        result = self._model(row, output_hidden_states=True)
        if self._layer > len(result.hidden_states):
            most = len(result.hidden_states) - 2
            raise EngineError(f"clip_skip {self._layer - 2} is more than this model's text encoder has; at most {most}")
        return result.hidden_states[-self._layer], result[0]

    def _weigh(self, states: Any, chunk: Tokens) -> Any:
        if all(weight == 1 for _, weight in chunk):
            return states
        weights = self._torch.ones(states.shape[1], dtype=self._torch.float32)
        weights[1 : len(chunk) + 1] = self._torch.tensor([weight for _, weight in chunk])
        weights = weights.to(states)[None, :, None]
        empty, _ = self._run([])
        return self._torch.where(weights == 1, states, empty + weights * (states - empty))
