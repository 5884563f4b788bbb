"""Votes only ever grow: a kill, a second process or a broken line takes none of them away."""

from __future__ import annotations

import threading
from dataclasses import replace
from pathlib import Path

import pytest

from sosie.core.errors import ConfigError, StoreError
from sosie.panels.votes import Vote, Votes, new_person

ONE = Vote("a" * 64, "0" * 16, 3, 1, 2, "left", 900)


def test_what_stands_in_the_file_stays_and_the_last_vote_counts(tmp_path: Path) -> None:
    votes = Votes(tmp_path / "votes.jsonl")
    assert votes.read() == ()
    votes.append(ONE)
    before = votes.path.read_bytes()
    changed = replace(ONE, choice="neither")
    votes.append(changed)
    assert votes.path.read_bytes().startswith(before)
    assert votes.read() == (ONE, changed)
    assert votes.last("a" * 64) == {"0" * 16: {3: changed}}
    assert votes.last("b" * 64) == {}
    assert (ONE.chosen, changed.chosen) == (1, None)


@pytest.mark.parametrize("torn", [b"{", b'{"panel": "aa', b'{"panel": "aa"}'[:-1], b"\xff\xfe", b"[" * 5000])
def test_a_line_that_a_kill_left_unfinished_costs_no_other(tmp_path: Path, torn: bytes) -> None:
    votes = Votes(tmp_path / "votes.jsonl")
    votes.append(ONE)
    with votes.path.open("ab") as stream:
        stream.write(torn)
    votes.append(replace(ONE, pair=4))
    assert [vote.pair for vote in votes.read()] == [3, 4]


def test_many_hands_write_whole_lines(tmp_path: Path) -> None:
    path = tmp_path / "votes.jsonl"

    def write(hand: int) -> None:
        for pair in range(10):
            Votes(path).append(replace(ONE, person=f"{hand:016x}", pair=pair))

    hands = [threading.Thread(target=write, args=(hand,)) for hand in range(4)]
    for hand in hands:
        hand.start()
    for hand in hands:
        hand.join()
    found = Votes(path).last("a" * 64)
    assert {person: sorted(own) for person, own in found.items()} == {
        f"{hand:016x}": list(range(10)) for hand in range(4)
    }


def test_a_line_that_says_more_than_a_vote_is_an_error_that_names_it(tmp_path: Path) -> None:
    votes = Votes(tmp_path / "votes.jsonl")
    votes.append(ONE)
    with votes.path.open("ab") as stream:
        stream.write(b'{"name": "somebody"}\n')
    with pytest.raises(StoreError, match="line 2"):
        votes.read()


def test_a_vote_has_no_room_for_a_name() -> None:
    with pytest.raises(ConfigError, match="hexadecimal"):
        replace(ONE, person="Marie Dupont")
    people = {new_person() for _ in range(50)}
    assert len(people) == 50
    assert {len(person) for person in people} == {16}
