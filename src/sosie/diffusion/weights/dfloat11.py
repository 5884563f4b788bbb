"""DFloat11: bfloat16 with its exponents in Huffman codes, decoded to the same bits (arXiv:2504.11651).

The weights of a block are one stream. `sign_mantissa` has a byte a number: its sign and seven bits of mantissa.
`encoded_exponent` has the codes of the exponents, first bit first, at most 32 bits each. `luts` are tables of 256
entries: an entry below 240 is an exponent, one above leads to table `256 - entry` for the next byte of the code; the
last table holds the codes' lengths by exponent. Every 8 bytes of codes are a lane: `gaps` says (5 bits each) at which
bit of a lane its first code begins, `output_positions` (uint32) how many numbers lie before each 512 lanes.

So all lanes are decoded at the same time, on a GPU or in main memory, and each must end where the next begins: a
stream that was changed, or is laid out otherwise, is noticed. The layout is that of dfloat11 0.2 to 0.5.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from sosie.core.errors import BadModelError

LANE_BYTES, LANE_BITS = 8, 64
LANES = 512
"""Lanes for which one output position is kept."""

POINTER = 240
MAX_CODE = 32
LONG = 1 << 16
"""Marks a code longer than 16 bits in the table of 16."""

HINT = "take the file in bf16 instead"


@dataclass(frozen=True, eq=False)
class Stream:
    """The tensors of one block, uint8: `luts` [tables, 256], the others flat. `name` is the block's, for errors."""

    name: str
    luts: Tensor
    encoded_exponent: Tensor
    sign_mantissa: Tensor
    output_positions: Tensor
    gaps: Tensor

    @property
    def tensors(self) -> tuple[Tensor, ...]:
        """All of them, in the order of the fields."""
        return self.luts, self.encoded_exponent, self.sign_mantissa, self.output_positions, self.gaps


def decode(stream: Stream, device: str | torch.device = "cpu") -> Tensor:
    """The numbers of a stream, bfloat16 [numbers], on `device`. Raises `BadModelError` for one that is not whole."""
    moved = Stream(stream.name, *(tensor.to(device) for tensor in stream.tensors))
    exponents = _exponents(moved).short()
    rest = moved.sign_mantissa.short()
    bits = (rest & 0x80) << 8 | exponents << 7 | rest & 0x7F
    return bits.view(torch.bfloat16)


def _exponents(stream: Stream) -> Tensor:
    """uint8 [numbers]."""
    numbers, size = stream.sign_mantissa.numel(), stream.encoded_exponent.numel()
    lanes = -(-size // LANE_BYTES)
    groups = -(-lanes // LANES)
    positions = _check_sizes(stream, numbers, groups)
    if not numbers or not lanes:
        if numbers:
            raise _bad(stream.name, f"no codes for its {numbers:,} numbers")
        return stream.sign_mantissa
    codes = torch.nn.functional.pad(stream.encoded_exponent, (0, lanes * LANE_BYTES - size + LANE_BYTES))
    gaps = _five_bits(stream.gaps)[:lanes]
    table = _Table(stream)
    at_once = 2**15 if codes.device.type == "cpu" else 2**22
    found: list[Tensor] = []
    counts: list[Tensor] = []
    ends: list[Tensor] = []
    for first in range(0, lanes, at_once):
        last = min(first + at_once, lanes)
        part = codes[first * LANE_BYTES : (last + 1) * LANE_BYTES]
        symbols, count, end = _lanes(part, gaps[first:last], table)
        found.append(symbols)
        counts.append(count)
        ends.append(end)
    _check_chain(stream.name, torch.cat(counts), torch.cat(ends), gaps, positions, numbers)
    return torch.cat(found)[:numbers]


def _check_sizes(stream: Stream, numbers: int, groups: int) -> Tensor:
    """The output positions, int64. Raises `BadModelError` where sizes do not agree with one another."""
    luts, gaps, positions = stream.luts, stream.gaps.numel(), stream.output_positions.numel()
    if luts.ndim != 2 or luts.shape[1] != 256 or not 2 <= len(luts) <= 257 - POINTER + 1:
        raise _bad(stream.name, f"tables of the shape {list(luts.shape)}")
    if gaps != groups * LANES * 5 // 8 or positions % 4 or positions // 4 not in (groups, groups + 1):
        raise _bad(stream.name, f"{gaps:,} bytes of gaps and {positions:,} of positions for {groups:,} x {LANES} lanes")
    as_bytes = stream.output_positions.reshape(-1, 4).long()
    values = as_bytes[:, 0] | as_bytes[:, 1] << 8 | as_bytes[:, 2] << 16 | as_bytes[:, 3] << 24
    if positions and int(values[-1]) != numbers:
        raise _bad(stream.name, f"{int(values[-1]):,} as its last position for {numbers:,} numbers")
    return values


def _five_bits(packed: Tensor) -> Tensor:
    """Numbers of 5 bits, first bit first, int32."""
    groups = packed.reshape(-1, 5).long()  # 8 numbers in 40 bits
    joined = groups[:, 0] << 32 | groups[:, 1] << 24 | groups[:, 2] << 16 | groups[:, 3] << 8 | groups[:, 4]
    shifts = torch.arange(35, -1, -5, device=packed.device)
    return (joined[:, None] >> shifts & 31).flatten().int()


class _Table:
    """The codes by their first 16 bits: `length << 8 | exponent`, 0 for no code, `LONG` for a longer one."""

    def __init__(self, stream: Stream) -> None:
        self.name = stream.name
        self.luts = stream.luts[:-1].long()
        self.lengths = stream.luts[-1].long()
        first = torch.arange(2**16, device=stream.luts.device)
        self.short = self._walk(first << 16, 2).int()
        self.any_long = bool((self.short == LONG).any())

    def _walk(self, windows: Tensor, levels: int) -> Tensor:
        """What codes at the beginning of 32 bits are, looking at up to `levels` bytes of them."""
        entry = self.luts[0][windows >> 24]
        lost = torch.zeros_like(entry, dtype=torch.bool)
        for level in range(1, levels):
            follows = entry >= POINTER
            index = torch.where(follows, 256 - entry, 0)
            lost |= index >= len(self.luts)
            index = torch.where(lost, 0, index)
            entry = torch.where(follows, self.luts[index, windows >> (24 - 8 * level) & 0xFF], entry)
        length = self.lengths[entry]
        found = torch.where((length > 0) & (length <= MAX_CODE) & ~lost, length << 8 | entry, 0)
        further = LONG if levels < MAX_CODE // 8 else 0
        return torch.where((entry >= POINTER) & ~lost, further, found)

    def long(self, windows: Tensor) -> Tensor:
        """As `short`, of all 32 bits."""
        return self._walk(windows, 4).int()


def _lanes(codes: Tensor, gaps: Tensor, table: _Table) -> tuple[Tensor, Tensor, Tensor]:
    """The exponents of lanes one after the other, how many each lane has, and how far its last code reaches beyond it.

    `codes` has 8 bytes more than the lanes. A lane ends at -1 if it has bits that are no code.
    """
    wide = codes.int()
    # Four bytes at each byte; the sign of int32 does no harm, for at most 25 of its bits are looked at.
    windows = wide[:-3] << 24 | wide[1:-2] << 16 | wide[2:-1] << 8 | wide[3:]
    count = len(gaps)
    starts = torch.arange(count, device=codes.device, dtype=torch.int32) * LANE_BYTES
    place = gaps.clone()
    broken = torch.zeros(count, dtype=torch.bool, device=codes.device)
    symbols: list[Tensor] = []
    active: list[Tensor] = []
    for _ in range(LANE_BITS):
        working = place < LANE_BITS
        if not bool(working.any()):
            break
        at = starts + (place.clamp(max=LANE_BITS + MAX_CODE - 1) >> 3)
        bits = windows.index_select(0, at) >> (16 - (place & 7)) & 0xFFFF
        code = table.short.index_select(0, bits)
        if table.any_long:
            code = _with_long(code, working, (wide, at, place), table)
        length = code >> 8
        stuck = working & (length == 0)
        broken |= stuck
        working &= ~stuck
        place = torch.where(stuck, LANE_BITS, torch.where(working, place + length, place))
        symbols.append((code & 0xFF).to(torch.uint8))
        active.append(working)
    if not symbols:
        empty = torch.zeros(0, dtype=torch.uint8, device=codes.device)
        return empty, torch.zeros_like(gaps), place - LANE_BITS
    mask = torch.stack(active, 1)
    found = torch.stack(symbols, 1)[mask]
    return found, mask.sum(1, dtype=torch.int32), torch.where(broken, -1, place - LANE_BITS)


def _with_long(code: Tensor, working: Tensor, where: tuple[Tensor, Tensor, Tensor], table: _Table) -> Tensor:
    long = ((code == LONG) & working).nonzero().flatten()
    if not len(long):
        return code
    wide, at, place = where
    first, shift = at[long].long(), (place[long] & 7).long()
    five = [wide.index_select(0, first + step).long() for step in range(5)]
    joined = five[0] << 32 | five[1] << 24 | five[2] << 16 | five[3] << 8 | five[4]
    window = joined >> (8 - shift) & 0xFFFFFFFF
    code = code.clone()
    code[long] = table.long(window)
    return code


def _check_chain(name: str, counts: Tensor, ends: Tensor, gaps: Tensor, positions: Tensor, numbers: int) -> None:
    """Every lane that has a number ends where the next begins, and every group begins at its position."""
    before = counts.long().cumsum(0) - counts  # numbers before each lane
    total = int(before[-1]) + int(counts[-1])
    if total < numbers:
        raise _bad(name, f"codes of {total:,} numbers; it has {numbers:,}")
    needed = before[1:] < numbers  # the lanes, but the first, that have a number
    if bool((needed & (ends[:-1] != gaps[1:])).any()) or int((before < numbers).sum()) < len(before) - 1:
        raise _bad(name, "codes that do not end where the next begin")
    groups = before[::LANES]
    known = positions[: len(groups)]
    if len(known) < len(groups) or bool((known != groups).logical_and(groups < numbers).any()):
        raise _bad(name, "positions that are not those of its codes")


def _bad(name: str, what: str) -> BadModelError:
    return BadModelError(f"{name}: the DFloat11 stream has {what}: it is damaged, or laid out in a way not known", HINT)
