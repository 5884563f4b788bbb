"""Puts a creator's week on record, without drawing anything, and writes its audit in English and in French.

    python examples/elena-audit/make.py [FOLDER]

makes `FOLDER/en` and `FOLDER/fr` (by default beside this file): each a workspace, with its audit in `audit/`.
Facts come from `week.toml`; what the doctor says is said anew, of the stripped headers of the files in `headers/`.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import tempfile
import tomllib
from dataclasses import replace
from pathlib import Path
from typing import Any

from sosie.api.knowledge.audit import write_audit
from sosie.core import Environment, Finding
from sosie.doctor.examined import examine_file
from sosie.doctor.model_probe import sampled
from sosie.files.digest import file_digest
from sosie.files.strip import read_stripped
from sosie.knowledge.book import Book
from sosie.knowledge.decision import Decision
from sosie.knowledge.key_file import KeyFile
from sosie.knowledge.note import Note
from sosie.knowledge.present import Present
from sosie.knowledge.rental import Rental
from sosie.knowledge.task import Task
from sosie.knowledge.trial import Trial
from sosie.lab.check import check_experiment
from sosie.lab.experiment import read_experiment
from sosie.reports.audit.words import LANGUAGES, Language
from sosie.store.training import TrainingEnd, TrainingRecords, TrainingStart
from sosie.workspace.characters import CharacterFile, write_character
from sosie.workspace.session import Session
from sosie.workspace.workspace import open_workspace

HERE = Path(__file__).resolve().parent
WHO, DAY = "elena", "2026-01-31"
NOT_HERE = ("SOS-F106", "SOS-R002")
"""Findings that speak of this folder, which has headers in place of files, and not of the week."""


def main() -> None:
    """Makes both workspaces anew, and prints where their audits are."""
    target = Path(sys.argv[1]).absolute() if sys.argv[1:] else HERE
    week = tomllib.loads((HERE / "week.toml").read_text(encoding="utf-8"))
    with tempfile.TemporaryDirectory() as folder:
        said, arms = consult(Path(folder), week)
    for language in LANGUAGES:
        root = target / language
        shutil.rmtree(root, ignore_errors=True)
        root.mkdir(parents=True)
        sys.stdout.write(f"{make(root, translated(week, language), language, (said, arms))}\n")


def consult(folder: Path, week: dict[str, Any]) -> tuple[dict[str, KeyFile], dict[str, tuple[Finding, ...]]]:
    """What the doctor says of each file by its header, and of each arm of the tests."""
    for entry in week["files"]:
        lay(HERE / "headers" / f"{entry['header']}.json.gz", folder / "models" / entry["name"])
    (folder / "models" / "diffusion_models" / "z_image_full.safetensors").rename(folder / "packed.safetensors")
    new_character(folder)
    path = (HERE / week["series"]["experiment"]).resolve()
    checked = check_experiment(open_workspace(folder), read_experiment(path), path)
    arms = {arm.name: told((*checked.findings, *arm.findings)) for arm in checked.arms}
    (folder / "packed.safetensors").rename(folder / "models" / "diffusion_models" / "z_image_full.safetensors")
    before = Path.cwd()
    os.chdir(folder / "models")  # so that messages name no folder of this machine
    try:
        return {entry["name"]: key_file(entry) for entry in week["files"]}, arms
    finally:
        os.chdir(before)


def lay(stripped: Path, path: Path) -> None:
    """A file with that header and size whose weights are a hole but where the doctor looks: it takes little space."""
    found, _ = read_stripped(stripped)
    table: dict[str, Any] = {
        name: {"dtype": one.dtype, "shape": list(one.shape), "data_offsets": list(one.offsets)}
        for name, one in found.tensors.items()
    }
    table |= {"__metadata__": dict(found.metadata)} if found.metadata else {}
    text = json.dumps(table).encode()
    text += b" " * (-len(text) % 8)
    path.parent.mkdir(parents=True, exist_ok=True)
    looked_at = dict.fromkeys(sampled(found), b"\x124")
    looked_at |= {name: b"\x80\x41" for name in found.tensors if name.endswith(".alpha")}  # 16 in bf16
    with path.open("wb") as stream:
        stream.write(len(text).to_bytes(8, "little") + text)
        for name, value in looked_at.items():
            begin, end = found.tensors[name].offsets
            stream.seek(8 + len(text) + begin)
            stream.write((value * 32_768)[: end - begin])
        stream.truncate(8 + len(text) + max(one.offsets[1] for one in found.tensors.values()))


def told(findings: tuple[Finding, ...]) -> tuple[Finding, ...]:
    """The findings that speak of the week."""
    return tuple(one for one in findings if one.code not in NOT_HERE)


def key_file(entry: dict[str, Any]) -> KeyFile:
    """The file as the doctor knows it."""
    path = Path(entry["name"])
    stripped = HERE / "headers" / f"{entry['header']}.json.gz"
    found = examine_file(path, entry["name"])
    what = found.what
    words = " ".join(text for text in (what.family, what.role, what.variant, what.storage) if text) if what else ""
    _, size = read_stripped(stripped)
    return KeyFile(
        entry["name"], DAY, WHO, size, header=file_digest(stripped), what=words, findings=told(found.findings)
    )


def translated(value: Any, language: Language) -> Any:
    """The value with its texts in that language alone."""
    if isinstance(value, dict):
        if set(value) == set(LANGUAGES):
            return value[language]
        return {key: translated(item, language) for key, item in value.items()}
    return [translated(item, language) for item in value] if isinstance(value, list) else value


def new_character(root: Path) -> None:
    """The character, whose references are three example renders of nobody."""
    who = CharacterFile(WHO, "fictional", True, "a young woman, light skin, braided auburn hair", "elena")
    write_character(who, sorted((HERE.parent / "mira").glob("*.jpg"))[:3], root / "characters" / WHO)


def make(root: Path, week: dict[str, Any], language: Language, consulted: tuple[Any, Any]) -> Path:
    """A workspace with the week on record; returns its audit's page."""
    said, arms = consulted
    new_character(root)
    with Session(open_workspace(root)) as session:
        lessons = train(session, week["trainings"])
        with Book(session.store.folder) as book, book.together():
            for entry in week["files"]:
                book.add(replace(said[entry["name"]], use=entry["use"]))
            for noun in (*trials(week, said, arms), *lessons):
                book.add(noun)
            for entry in week["rentals"]:
                table = {key: tuple(item) if isinstance(item, list) else item for key, item in entry.items()}
                book.add(Rental(character=WHO, provider="vast", **table))
            for entry in week["notes"]:
                book.add(Note(character=WHO, **entry))
            for entry in week["tasks"]:
                book.add(Task(date=DAY, character=WHO, **entry))
            for entry in week["decisions"]:
                decide(book, Present(session.workspace, WHO), entry)
        return write_audit(session, WHO, language, root / "audit").html


def trials(week: dict[str, Any], said: dict[str, KeyFile], arms: dict[str, tuple[Finding, ...]]) -> list[Trial]:
    """What was tried by hand: one by one, and the eight tests of the face reference."""
    found: list[Trial] = []
    for entry in week["trials"]:
        table = dict(entry)
        of = table.pop("of", "")
        found.append(Trial(date=DAY, character=WHO, findings=said[of].findings if of else (), **table))
    series = week["series"]
    summaries = {arm.name: arm.summary for arm in read_experiment((HERE / series["experiment"]).resolve()).arms}
    for name, result in series["results"].items():
        found.append(
            Trial(
                f"{name}",
                result,
                "fails",
                "2026-01-30",
                WHO,
                series["name"],
                summaries[name],
                cause=series["cause"],
                findings=arms[name],
            )
        )
    return found


def train(session: Session, entries: list[dict[str, Any]]) -> list[Note]:
    """Puts the training runs of other programs on record; returns what each taught."""
    notes: list[Note] = []
    machine = Environment("", "", "a rented RTX 3090", ())
    run = session.store.begin_run("record", {"of": "the training runs of another program"})
    with TrainingRecords(session.store.folder) as records:
        for entry in entries:
            steps, file = entry.get("steps", 0), entry.get("file")
            start = TrainingStart(
                *("", (WHO,), entry["recipe"], entry["family"], entry["base"], "", ""),
                *(entry.get("images", 0), steps, entry.get("settings", {}), machine, Path()),
            )
            end = TrainingEnd(entry["cause"], steps, entry.get("message", ""), path=Path(file) if file else None)
            number = records.add_past(run, start, end, (entry["day"], entry["day"]))
            notes.append(Note(entry["taught"], entry["day"], WHO, f"training {number}"))
    session.store.end_run(run, "done")
    return notes


def decide(book: Book, present: Present, entry: dict[str, Any]) -> None:
    """A decision of that day, with the settings that it stands on; one that it supersedes says so."""
    status = "proposed" if entry.get("proposed") else "accepted"
    made = book.add(
        Decision(
            entry["title"],
            entry["day"],
            WHO,
            status,
            entry["why"],
            would_change=entry.get("would_change", ""),
            without_evidence=entry.get("reason", ""),
            premises=tuple(present.premise_of_setting(*one) for one in entry.get("settings", ())),
            supersedes=entry.get("supersedes", ""),
        )
    )
    if made.noun.supersedes:
        old = book.find(Decision, made.noun.supersedes)
        book.revise(old, replace(old.noun, status="superseded", superseded_by=made.id))


if __name__ == "__main__":
    main()
