"""PNG files written fast: the same pixels, and text that other programs read."""

from __future__ import annotations

import io

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from sosie.files.png_writing import encode_png, with_texts


def opened(png: bytes) -> Image.Image:
    image = Image.open(io.BytesIO(png))
    image.load()
    return image


@given(width=st.integers(1, 40), height=st.integers(1, 40), seed=st.integers(0, 99))
def test_pixels_come_back_bit_for_bit(width: int, height: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    pixels = rng.integers(0, 256, (height, width, 3), dtype=np.uint8) // rng.choice([1, 64, 255])
    image = opened(encode_png(Image.fromarray(pixels.astype(np.uint8))))
    assert (image.format, image.mode) == ("PNG", "RGB")
    assert np.array_equal(np.asarray(image), pixels)


@pytest.mark.parametrize("mode", ["L", "RGBA", "1", "I;16"])
def test_other_modes_come_back_too(mode: str) -> None:
    count = len(Image.new(mode, (16, 8)).tobytes())
    image = Image.frombytes(mode, (16, 8), bytes(at % 251 for at in range(count)))
    back = opened(encode_png(image))
    assert (back.mode, back.tobytes()) == (mode, image.tobytes())


def test_nothing_but_pixels_is_written() -> None:
    image = Image.new("RGB", (4, 4))
    image.info = {"comment": "a prompt", "dpi": (300, 300)}
    png = encode_png(image)
    assert opened(png).info == {}
    assert [png[at + 4 : at + 8] for at in chunks(png)] == [b"IHDR", b"IDAT", b"IEND"]


def chunks(png: bytes) -> list[int]:
    """Where the chunks of a PNG file begin."""
    places, at = [], 8
    while at < len(png):
        places.append(at)
        at += 12 + int.from_bytes(png[at : at + 4], "big")
    assert at == len(png)
    return places


def test_text_is_put_in_and_the_pixels_stay_the_same_bytes() -> None:
    plain = encode_png(Image.effect_noise((32, 32), 50).convert("RGB"))
    png = with_texts(plain, [("parameters", "a café"), ("title", "美玲")], [("XML:com.adobe.xmp", "<x/>")])
    assert opened(png).info == {"XML:com.adobe.xmp": "<x/>", "parameters": "a café", "title": "美玲", "xmp": b"<x/>"}
    kinds = [png[at + 4 : at + 8] for at in chunks(png)]
    assert kinds == [b"IHDR", b"iTXt", b"tEXt", b"iTXt", b"IDAT", b"IEND"]
    assert plain[33:] == png[-len(plain) + 33 :]
    assert with_texts(plain) == plain


def test_what_is_no_png_gets_no_text() -> None:
    with pytest.raises(ValueError, match="not a PNG"):
        with_texts(b"GIF89a", [("a", "b")])
