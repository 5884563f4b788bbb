"""Weighted and long prompts: the syntax, and what the text encoders make of it."""

from __future__ import annotations

from typing import Any

import pytest

from sosie.core.errors import EngineError

local = pytest.mark.local
LONG = ", ".join(["portrait of a young woman, auburn braided hair, brown eyes, smiling, soft daylight"] * 12)


@pytest.fixture(scope="module")
def pipeline() -> Any:
    import sosie_mini
    import torch
    from diffusers import StableDiffusionXLPipeline

    made = StableDiffusionXLPipeline.from_pretrained(
        sosie_mini.folder(), dtype=torch.float32, local_files_only=True, unet=None, vae=None
    )
    made.tokenizer_2.pad_token = "!"  # as in SDXL, where the two encoders pad with different tokens
    return made


def stock(pipeline: Any, prompt: str, negative: str | None = None, clip_skip: int | None = None) -> Any:
    import torch

    with torch.no_grad():
        return pipeline.encode_prompt(prompt, negative_prompt=negative, device="cpu", clip_skip=clip_skip)


def equal(ours: Any, theirs: Any) -> bool:
    import torch

    found = (ours.prompt_embeds, ours.negative_prompt_embeds, ours.pooled, ours.negative_pooled)
    return all(torch.equal(*pair) for pair in zip(found, theirs, strict=True))


@local
@pytest.mark.parametrize("negative", ["", "blurry, low quality"])
@pytest.mark.parametrize("prompt", ["", "portrait of a young woman, smiling, soft daylight", "a [b](:c"])
def test_a_plain_prompt_is_what_stock_diffusers_gives_bit_for_bit(pipeline: Any, prompt: str, negative: str) -> None:
    from sosie.families.sdxl.diffusers.text import encode

    ours = encode(pipeline, prompt.replace("[", r"\["), negative)
    assert equal(ours, stock(pipeline, prompt, negative or None))


@local
def test_75_tokens_are_one_chunk_and_76_are_two(pipeline: Any) -> None:
    from sosie.families.sdxl.diffusers.text import encode

    full = "a " * 75
    assert len(pipeline.tokenizer(full).input_ids) == 77
    assert equal(encode(pipeline, full, "x"), stock(pipeline, full, "x"))
    longer = encode(pipeline, full + "a", "x")
    assert longer.prompt_embeds.shape[1] == longer.negative_prompt_embeds.shape[1] == 154


@local
def test_clip_skip_takes_an_earlier_layer_of_both_prompts(pipeline: Any) -> None:
    import torch

    from sosie.families.sdxl.diffusers.text import encode

    ours = encode(pipeline, "a woman", "blurry", clip_skip=1)
    assert torch.equal(ours.prompt_embeds, stock(pipeline, "a woman", clip_skip=1)[0])
    assert torch.equal(ours.negative_prompt_embeds, stock(pipeline, "blurry", clip_skip=1)[0])
    assert torch.equal(ours.pooled, stock(pipeline, "a woman")[2])
    with pytest.raises(EngineError, match="clip_skip 4 is more than this model's text encoder has; at most 3"):
        encode(pipeline, "a woman", clip_skip=4)


@local
def test_an_empty_negative_is_encoded_where_the_model_wants_no_zeros(pipeline: Any) -> None:
    from sosie.families.sdxl.diffusers.text import encode

    pipeline.register_to_config(force_zeros_for_empty_prompt=False)
    try:
        ours = encode(pipeline, "a woman")
        assert equal(ours, stock(pipeline, "a woman"))
        assert float(ours.negative_prompt_embeds.abs().max()) > 0
    finally:
        pipeline.register_to_config(force_zeros_for_empty_prompt=True)


@local
def test_a_long_prompt_is_its_chunks_one_after_another(pipeline: Any) -> None:
    import torch

    from sosie.families.sdxl.diffusers.text import encode

    pieces, rest = [], LONG.split(", ")
    while rest:  # as many phrases as fit into 75 tokens, each with its comma
        taken = len(rest)
        while len(pipeline.tokenizer(text := ", ".join([*rest[:taken], ""]).strip(), verbose=False).input_ids) > 77:
            taken -= 1
        pieces.append(text if taken < len(rest) else ", ".join(rest))
        rest = rest[taken:]
    assert len(pieces) > 2
    ours = encode(pipeline, LONG, "blurry")
    parts = [stock(pipeline, piece) for piece in pieces]
    assert torch.equal(ours.prompt_embeds, torch.cat([part[0] for part in parts], dim=1))
    assert torch.equal(ours.pooled, parts[0][2])
    empty = stock(pipeline, "")[0]
    negative = torch.cat([stock(pipeline, "blurry")[0], *[empty] * (len(pieces) - 1)], dim=1)
    assert torch.equal(ours.negative_prompt_embeds, negative)


@local
def test_a_long_negative_makes_the_prompt_as_long(pipeline: Any) -> None:
    import torch

    from sosie.families.sdxl.diffusers.text import encode

    ours = encode(pipeline, "a woman", LONG)
    assert ours.prompt_embeds.shape == ours.negative_prompt_embeds.shape
    assert torch.equal(ours.prompt_embeds[:, :77], stock(pipeline, "a woman")[0])


@local
def test_a_prompt_without_commas_is_cut_after_a_word(pipeline: Any) -> None:
    import torch

    from sosie.families.sdxl.diffusers.text import encode

    word = "unbelievableness"
    many = len(pipeline.tokenizer(word, add_special_tokens=False).input_ids)
    assert many > 1
    fits = 75 // many
    assert 75 % many
    ours = encode(pipeline, f"{word} " * (fits + 2))
    parts = [stock(pipeline, f"{word} " * count)[0] for count in (fits, 2)]
    assert torch.equal(ours.prompt_embeds, torch.cat(parts, dim=1))


@local
def test_break_starts_a_chunk(pipeline: Any) -> None:
    import torch

    from sosie.families.sdxl.diffusers.text import encode

    ours = encode(pipeline, "a woman BREAK red hair")
    parts = [stock(pipeline, text)[0] for text in ("a woman", "red hair")]
    assert torch.equal(ours.prompt_embeds, torch.cat(parts, dim=1))


@local
@pytest.mark.parametrize("weight", [0.0, 0.6, 1.4])
def test_a_weight_moves_its_tokens_away_from_the_empty_prompt_and_leaves_the_others(
    pipeline: Any, weight: float
) -> None:
    import torch

    from sosie.families.sdxl.diffusers.text import encode

    start = len(pipeline.tokenizer("a woman with", add_special_tokens=False).input_ids) + 1
    end = start + len(pipeline.tokenizer("red hair", add_special_tokens=False).input_ids)
    ours = encode(pipeline, f"a woman with (red hair:{weight}), smiling")
    plain, empty = stock(pipeline, "a woman with red hair, smiling"), stock(pipeline, "")[0]
    expected = plain[0].clone()
    expected[:, start:end] = empty[:, start:end] + weight * (plain[0] - empty)[:, start:end]
    torch.testing.assert_close(ours.prompt_embeds, expected, rtol=1e-5, atol=1e-5)
    assert torch.equal(ours.prompt_embeds[:, :start], plain[0][:, :start])
    assert torch.equal(ours.prompt_embeds[:, end:], plain[0][:, end:])
    assert torch.equal(ours.pooled, plain[2])


@local
def test_a_weighted_negative_is_weighed_too(pipeline: Any) -> None:
    from sosie.families.sdxl.diffusers.text import encode

    ours = encode(pipeline, "a woman", "(blurry:1.5)")
    plain = stock(pipeline, "a woman", "blurry")
    assert float((ours.negative_prompt_embeds - plain[1]).abs().max()) > 0.01
    assert bool((ours.negative_pooled == plain[3]).all())
