"""DFloat11 against an encoder of our own: the same bits, or an error."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytestmark = pytest.mark.local


def stream(weight, code=None):
    from stored import dfloat11

    from sosie.diffusion.weights.dfloat11 import Stream

    held = dfloat11("b", [weight], code)
    parts = ("luts", "encoded_exponent", "sign_mantissa", "output_positions", "gaps")
    return Stream("b", *(held[f"b.{part}"] for part in parts))


def same(one, other) -> bool:
    import torch

    return torch.equal(one.view(torch.int16), other.view(torch.int16))


@pytest.mark.parametrize("numbers", [1, 2, 63, 4096, 50_000])
@pytest.mark.parametrize("spread", [0.0, 1.0, 8.0])
def test_random_weights_come_back_to_the_last_bit(numbers: int, spread: float) -> None:
    import torch

    from sosie.diffusion.weights.dfloat11 import decode

    noise = torch.Generator().manual_seed(numbers)
    weight = torch.randn(numbers, generator=noise) * torch.exp(spread * torch.randn(numbers, generator=noise))
    weight = weight.bfloat16()
    assert same(decode(stream(weight)), weight)


def test_codes_of_32_bits_come_back() -> None:
    import torch

    from sosie.diffusion.weights.dfloat11 import decode

    code = {exponent: "1" * (exponent - 100) + "0" for exponent in range(100, 132)}
    code[132] = "1" * 32
    exponents = torch.cat([torch.arange(100, 133), torch.randint(100, 133, (20_000,))])
    weight = (exponents.short() << 7 | torch.randint(0, 128, exponents.shape).short()).view(torch.bfloat16)
    assert max(map(len, code.values())) == 32
    assert same(decode(stream(weight, code)), weight)


@pytest.mark.parametrize(
    ("piece", "least"), [("luts", 1), ("encoded_exponent", 5), ("output_positions", 35), ("gaps", 30)]
)
def test_a_changed_bit_is_noticed_wherever_a_code_s_length_changes(piece: str, least: int) -> None:
    import dataclasses

    import torch

    from sosie.core.errors import BadModelError
    from sosie.diffusion.weights.dfloat11 import decode

    weight = torch.randn(20_000, generator=torch.Generator().manual_seed(1)).bfloat16()
    whole = stream(weight)
    noise = torch.Generator().manual_seed(2)
    refused = 0
    for _ in range(40):
        changed = getattr(whole, piece).clone()
        flat = changed.flatten()
        flat[int(torch.randint(0, len(flat), (1,), generator=noise))] ^= 1 << int(
            torch.randint(0, 8, (1,), generator=noise)
        )
        try:
            found = decode(dataclasses.replace(whole, **{piece: changed}))
        except BadModelError:
            refused += 1
        else:
            assert len(found) == len(weight)
    assert refused >= least


@settings(max_examples=80, deadline=None)
@given(st.data())
def test_arbitrary_bytes_are_an_error_within_bounds(data: st.DataObject) -> None:
    import torch

    from sosie.core.errors import BadModelError
    from sosie.diffusion.weights.dfloat11 import Stream, decode

    def some(size: int):
        return torch.frombuffer(bytearray(data.draw(st.binary(min_size=size, max_size=size))), dtype=torch.uint8)

    codes = some(data.draw(st.sampled_from([8, 64, 200])))
    numbers = data.draw(st.integers(1, 400))
    luts = some(256 * data.draw(st.integers(2, 4))).reshape(-1, 256)
    positions = torch.tensor([0, 0, 0, 0, numbers & 255, numbers >> 8, 0, 0], dtype=torch.uint8)
    gaps = torch.zeros(320, dtype=torch.uint8)
    try:
        found = decode(Stream("b", luts, codes, torch.zeros(numbers, dtype=torch.uint8), positions, gaps))
    except BadModelError:
        return
    assert len(found) == numbers


def test_tables_that_lead_in_a_circle_end() -> None:
    import dataclasses

    import torch

    from sosie.core.errors import BadModelError
    from sosie.diffusion.weights.dfloat11 import decode

    whole = stream(torch.randn(5_000).bfloat16())
    circle = torch.full((17, 256), 255, dtype=torch.uint8)  # each entry leads to table 1
    with pytest.raises(BadModelError, match="DFloat11"):
        decode(dataclasses.replace(whole, luts=circle))


def test_declared_sizes_that_do_not_agree_are_refused() -> None:
    import dataclasses

    import torch

    from sosie.core.errors import BadModelError
    from sosie.diffusion.weights.dfloat11 import decode

    whole = stream(torch.randn(5_000).bfloat16())
    for piece, value in (
        ("gaps", whole.gaps[:-1]),
        ("output_positions", whole.output_positions[:-4]),
        ("luts", whole.luts[:1]),
        ("encoded_exponent", whole.encoded_exponent[:-100]),
        ("encoded_exponent", whole.encoded_exponent[:0]),
        ("sign_mantissa", torch.cat([whole.sign_mantissa] * 2)),
    ):
        with pytest.raises(BadModelError, match="DFloat11"):
            decode(dataclasses.replace(whole, **{piece: value}))
