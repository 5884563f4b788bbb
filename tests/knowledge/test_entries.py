"""Notes, tasks, trials and rented machines: kept in versions, within bounds, and without secrets."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from json_lines import lines

from sosie.knowledge.note import Note
from sosie.knowledge.rental import Rental
from sosie.knowledge.task import Task

Sosie = Callable[..., Any]


def told(sosie: Sosie, workspace: Path, *words: object) -> list[dict[str, Any]]:
    done = sosie(*words, "--json", "--workspace", workspace)
    assert done.code in (0, 1), done.err
    return lines(done.out)


def test_a_note_expires_after_its_last_day_and_keeps_no_secret_of_its_source(sosie: Sosie, workspace: Path) -> None:
    note = Note("x", "2026-01-30", expires="2026-02-01")
    assert [note.is_expired(day) for day in ("2026-02-01", "2026-02-02")] == [False, True]
    source = "https://example.org/page?token=sesame"
    (made,) = told(sosie, workspace, "note", "add", "CFG 4 to 6", "--source", source, "--expires", "2026-02-01")
    assert (made["id"], made["source"]) == ("N1", "https://example.org/page")
    listed = sosie("note", "list", "--workspace", workspace)
    assert (listed.code, "SOS-V004: N1 counted until 2026-02-01" in listed.err) == (1, True)


def test_a_task_keeps_what_it_said_and_what_it_is_worth(sosie: Sosie, workspace: Path) -> None:
    call = ("--gain", "40", "--chance", "50", "--hours", "6", "--money", "2")
    told(sosie, workspace, "task", "add", "train again", "--character", "mira", *call)
    (done,) = told(sosie, workspace, "task", "set", "T1", "--state", "done")
    assert (done["version"], done["state"], done["gain"]) == (2, "done", 40)
    assert told(sosie, workspace, "task", "list") == []
    assert [one["id"] for one in told(sosie, workspace, "task", "list", "--all")] == ["T1"]
    assert sosie("task", "set", "T1", "--workspace", workspace).code == 2
    task = Task("x", "2026-01-31", gain=40.0, chance=50.0, hours=6.0, money=2.0)
    assert task.worth(1.0) == pytest.approx(20 / 8)
    assert Task("x", "2026-01-31", gain=40.0).worth(1.0) is None
    assert Task("x", "2026-01-31", gain=40.0, hours=0.0).worth(1.0) == pytest.approx(4000)


def test_a_machine_is_one_entry_by_its_label_and_costs_what_was_billed(sosie: Sosie, workspace: Path) -> None:
    call = ("note", "rented", "pod-a", "--gpu", "RTX 3090", "--price", "0.15")
    started = "2026-01-30T10:00:00+00:00"
    (first,) = told(sosie, workspace, *call, "--started", started)
    (second,) = told(sosie, workspace, *call, "--ended", "2026-01-30T14:30:00+00:00", "--problem", "disk full")
    assert (first["id"], second["id"], second["version"]) == ("M1", "M1", 2)
    assert second["started"] == started
    rental = Rental("pod-a", "RTX 3090", 0.15, started, "2026-01-30T14:30:00+00:00")
    assert (rental.billed_hours, rental.cost) == (4.5, pytest.approx(0.675))
    assert Rental("x", "y", 0.15, "2026-01-30", "2026-01-31").cost is None, "days alone are no hours"


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("task", "add", "x", "--gain", "101"), "gain = 101 is not 0 to 100"),
        (("task", "add", "x", "--hours", "nan"), "hours = nan is not"),
        (("note", "rented", "x", "--gpu", "y", "--price", "inf"), "price = inf is not"),
        (("note", "add", "x", "--date", "31/01/2026"), "is not a day such as 2026-01-31"),
        (("note", "rented", "x", "--gpu", "y", "--price", "1", "--ended", "2026-01-31T10:00"), "is not a day"),
        (("note", "tried", "x", "--result", "y", "--outcome", "works", "--value", "95"), "an eye gives no figure"),
        (("note", "add", "x", "--character", "nobody"), "character 'nobody' does not exist"),
        (("task", "set", "T9", "--state", "done"), "there is no task 'T9'"),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(
    sosie: Sosie, workspace: Path, words: tuple[str, ...], says: str
) -> None:
    done = sosie(*words, "--workspace", workspace)
    assert done.code == 2
    assert says in done.err
