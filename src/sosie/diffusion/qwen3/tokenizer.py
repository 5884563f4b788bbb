"""Qwen's tokenizer, from the model's folder or from the vocabulary in this package.

`qwen_vocabulary.xz` is Alibaba's `qwen.tiktoken` (Apache-2.0): 151,643 tokens by rank, each as its length in one byte
and its bytes. The 26 marks after them are those of Qwen3's published tokenizer.
"""

from __future__ import annotations

import hashlib
import itertools
import lzma
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

from sosie.core.errors import BadModelError
from sosie.diffusion.parts import Tokenizer

VOCABULARY = Path(__file__).with_name("qwen_vocabulary.xz")
VOCABULARY_SHA256 = "d2fea2da75cd336e42a7b709b2d168a0f6108f909837964693079dad68a9736c"
"""Of what it unpacks to."""

MARKS = (
    *("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|object_ref_start|>", "<|object_ref_end|>", "<|box_start|>"),
    *("<|box_end|>", "<|quad_start|>", "<|quad_end|>", "<|vision_start|>", "<|vision_end|>", "<|vision_pad|>"),
    *("<|image_pad|>", "<|video_pad|>", "<tool_call>", "</tool_call>", "<|fim_prefix|>", "<|fim_middle|>"),
    *("<|fim_suffix|>", "<|fim_pad|>", "<|repo_name|>", "<|file_sep|>", "<tool_response>", "</tool_response>"),
    *("<think>", "</think>"),
)

PATTERN = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|"
    r"\s*[\r\n]+|\s+(?!\S)|\s+"
)
"""What is never merged across, of Qwen2's tokenizer."""


def load_tokenizer(encoder: Path) -> Tokenizer:
    """The tokenizer of the text encoder at `encoder`: of its folder or of the one beside it, else Qwen's.

    Raises `BadModelError` for a tokenizer.json that is none.
    """
    folder = encoder if encoder.is_dir() else encoder.parent
    places = (folder / "tokenizer", folder, folder.parent / "tokenizer")
    path = next((place / "tokenizer.json" for place in places if (place / "tokenizer.json").is_file()), None)
    return qwen_tokenizer() if path is None else _read(path)


def _read(path: Path) -> Tokenizer:
    import tokenizers

    library: Any = tokenizers
    try:
        return library.Tokenizer.from_file(str(path))
    except Exception as error:  # the library raises no other class
        raise BadModelError(f"{path} is no tokenizer: {str(error)[:200]}", "download it again") from error


@cache
def qwen_tokenizer() -> Tokenizer:
    """Qwen3's tokenizer. Raises `BadModelError` if its vocabulary is damaged."""
    import tokenizers
    from tokenizers import models, normalizers, pre_tokenizers

    library: Any = tokenizers
    before: Any = pre_tokenizers
    ranks = {token: rank for rank, token in enumerate(_tokens())}
    letters = _letters()
    names = {token: "".join(letters[byte] for byte in token) for token in ranks}
    merges = [(names[left], names[right]) for left, right in _merges(ranks)]
    model = models.BPE({names[token]: rank for token, rank in ranks.items()}, merges)  # pyright: ignore
    made = library.Tokenizer(model)
    made.normalizer = normalizers.NFC()
    made.pre_tokenizer = before.Sequence(
        [
            before.Split(library.Regex(PATTERN), "isolated"),
            before.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    made.add_special_tokens(list(MARKS))
    return made


def _tokens() -> Iterator[bytes]:
    packed = lzma.decompress(VOCABULARY.read_bytes())
    if hashlib.sha256(packed).hexdigest() != VOCABULARY_SHA256:
        raise BadModelError(f"{VOCABULARY} is damaged", "install sosie again")
    at = 0
    while at < len(packed):
        end = at + 1 + packed[at]
        yield packed[at + 1 : end]
        at = end


def _merges(ranks: dict[bytes, int]) -> Iterator[tuple[bytes, bytes]]:
    """The two tokens that each token beyond the single bytes is merged of, by rank."""
    for token, rank in ranks.items():
        if len(token) == 1:
            continue
        parts = [bytes([byte]) for byte in token]
        while len(parts) > 2:
            pairs = [ranks.get(left + right, rank) for left, right in itertools.pairwise(parts)]
            at = min(range(len(pairs)), key=pairs.__getitem__)
            parts[at : at + 2] = [parts[at] + parts[at + 1]]
        yield parts[0], parts[1]


def _letters() -> list[str]:
    """One visible character for each byte (Radford et al. 2019)."""
    visible = {*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)}
    hidden = [byte for byte in range(256) if byte not in visible]
    return [chr(byte) if byte in visible else chr(256 + hidden.index(byte)) for byte in range(256)]
