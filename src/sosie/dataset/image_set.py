"""A character's training set on disk: its images, `captions.jsonl`, and what may become a part of it.

What is learned from is not what is judged by: a third of the references, chosen by their digests, never
becomes a part of a set, and no picture of a set whatever its name is a reference of the judge.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from sosie.core import Character, Finding, Reference
from sosie.core.errors import BadImageError, ConfigError, DeliveryError, UsageError
from sosie.core.finding import Rule
from sosie.dataset.check.faces import AS_TRAINING
from sosie.dataset.given.layout import MOST_REPEATS
from sosie.faces.encoders import similarity
from sosie.faces.references import C006, C007, MIN_RELATIVE_SIMILARITY, check_references
from sosie.files.foreign import as_count, as_list, as_text, object_or_none, parse_object
from sosie.files.images import image_digest, read_image, true_suffix
from sosie.files.picture_kinds import pictures_in
from sosie.files.regular import read_text
from sosie.files.whole import copy_whole, make_folder, write_whole

if TYPE_CHECKING:
    from collections.abc import Generator

    from sosie.faces.detect import Detector
    from sosie.faces.encoders import Encoder, Vector

T007 = Rule("SOS-T007", "info", "Pictures are kept for judging")

TABLE = "captions.jsonl"

MAX_TABLE = 50_000_000
"""Bytes of the longest table that is read."""

JUDGED = 3
"""One reference in so many, rounded up, is left to the judge."""

ENOUGH = 3
"""Of fewer references it cannot be said whether a picture is unlike them."""


@dataclass(frozen=True)
class Member:
    """One image of a set: its file name and SHA-256, caption and who wrote it, where it is from, its scores.

    `by` is `template`, `command`, `model` or `given`. `source` is `reference:FILE`, `file:NAME`, an address without its
    query, `plan:ID`, or empty for a file that was put there by hand. `scores` has a value for each judge, None
    where nothing could be measured. `alternatives` are further captions, of which training takes one a step; `repeats`
    is how often the image comes while others come once. `given` marks the captions that came with it, as they were.
    """

    file: str
    sha256: str
    caption: str = ""
    by: str = "template"
    source: str = ""
    scores: Mapping[str, float | None] = field(default_factory=dict[str, float | None])
    alternatives: tuple[str, ...] = ()
    repeats: int = 1
    given: str = ""


def set_folder(character_folder: Path) -> Path:
    """Where a character's training set lies."""
    return character_folder / "dataset"


def image_files(folder: Path) -> list[Path]:
    """The images of a set, by name; none if there is no folder."""
    return pictures_in(folder)


def read_members(folder: Path) -> tuple[Member, ...]:
    """The rows of `captions.jsonl` whose images are there, in order, then the images without a row.

    ConfigError for a line that is none of a training set.
    """
    files = {path.name: path for path in image_files(folder)}
    members: dict[str, Member] = {}
    for name, (row, where) in _rows(folder).items():
        if name in files:
            members[name] = _member(row, files[name], where)
    for name, path in files.items():
        members.setdefault(name, Member(name, image_digest(path)))
    return tuple(members.values())


def refresh(folder: Path, members: list[Member]) -> None:
    """Brings `members` up to date: another process may have added images, or taken some out.

    Only images that are not among them are read. ConfigError as by `read_members`.
    """
    files = {path.name: path for path in image_files(folder)}
    members[:] = [member for member in members if member.file in files]
    known = {member.file for member in members}
    members += [
        _member(row, files[name], where)
        for name, (row, where) in _rows(folder).items()
        if name in files and name not in known
    ]


def settle(folder: Path) -> None:
    """Takes the rows of images that a killed process did not come to write out of the table."""
    if unwritten(folder):
        rows = _rows(folder)
        write_members(folder, [member for member in read_members(folder) if member.file in rows])


def unwritten(folder: Path) -> set[str]:
    """The names of images that have a row, but were not written before the process was killed."""
    files = {path.name for path in image_files(folder)}
    rows = _rows(folder).items()
    return {name for name, (row, _) in rows if name not in files and _is_own_name(name, str(row.get("sha256", "")))}


def without_row(folder: Path, members: Iterable[Member]) -> set[str]:
    """The names of those images that a killed process wrote without a row, as earlier versions could."""
    rows = _rows(folder)
    return {one.file for one in members if one.file not in rows and _is_own_name(one.file, one.sha256)}


def _is_own_name(name: str, sha256: str) -> bool:
    """Whether `add_image` gives such a name to an image with this digest."""
    return bool(sha256) and Path(name).stem == sha256[:16]


def _rows(folder: Path) -> dict[str, tuple[dict[str, Any], str]]:
    """Each row of `captions.jsonl` by its image's name, the last one counts, with its place in the file."""
    table = folder / TABLE
    text = read_text(table, MAX_TABLE) if table.exists() else ""
    lines = ((f"{table}:{number}", line) for number, line in enumerate(text.split("\n"), 1) if line.strip())
    rows = ((_row(line, where), where) for where, line in lines)
    return {str(row.get("file", "")): (row, where) for row, where in rows}


def write_members(folder: Path, members: Iterable[Member]) -> None:
    """Writes `captions.jsonl`, whole or not at all."""
    lines = [json.dumps(row_of(member), ensure_ascii=False) for member in members]
    _write(folder / TABLE, "".join(f"{line}\n" for line in lines).encode(errors="backslashreplace"))


def row_of(member: Member) -> dict[str, Any]:
    """A member as `captions.jsonl` has it: what is usual is left out."""
    row: dict[str, Any] = {
        "file": member.file,
        "caption": member.caption,
        "by": member.by,
        "source": member.source,
        "scores": dict(member.scores),
        "sha256": member.sha256,
    }
    if member.alternatives:
        row["alternatives"] = list(member.alternatives)
    if member.repeats != 1:
        row["repeats"] = member.repeats
    if member.given:
        row["given"] = member.given
    return row


def name_in_set(path: Path, sha256: str) -> str:
    """What an image is called in a set: by its digest."""
    return f"{sha256[:16]}{true_suffix(path)}"


def add_image(folder: Path, path: Path, name: str) -> None:
    """Copies an image into a set. What is there is kept."""
    if not (folder / name).is_file():
        with _disk(folder / name):
            copy_whole(path, folder / name)


def remove_image(folder: Path, name: str) -> None:
    """Takes an image out of a set's folder."""
    with _disk(folder / name):
        (folder / name).unlink(missing_ok=True)


def split(references: Sequence[Reference]) -> tuple[tuple[Reference, ...], tuple[Reference, ...]]:
    """The references that may be learned from, and those that are left to the judge.

    By digest: a third, rounded up, with the smallest ones is the judge's; so no one chooses, and the same
    references are always split alike.
    """
    ordered = sorted(references, key=lambda reference: reference.sha256)
    judged = set(ordered[: -(-len(ordered) // JUDGED)])
    teaching = tuple(reference for reference in references if reference not in judged)
    return teaching, tuple(reference for reference in references if reference in judged)


def held_out(character: Character, paths: Mapping[str, Path], images: Sequence[Path], models: Looks) -> Character:
    """The character with the references alone that are not in the training set, to be judged by.

    `paths` says where each reference is, by digest; a copy in another format or size is found too.
    UsageError if none is left.
    """
    inside = {image_digest(path) for path in images}
    own = [paths[reference.sha256] for reference in character.references]
    report = check_references([*images, *own], models.detector, models.encoder)
    copies = {item.path for item in report.left_out if item.finding.code == C006.code}
    left = tuple(
        reference
        for reference in character.references
        if reference.sha256 not in inside and paths[reference.sha256] not in copies
    )
    if not left:
        raise UsageError(
            f"every reference of '{character.name}' is in its training set, so nothing is left to judge by",
            f"take some of them out of characters/{character.name}/dataset, or add references",
        )
    return replace(character, references=left)


@dataclass(frozen=True, eq=False)
class Looks:
    """What looks at faces: YuNet, and an encoder that compares by cosine."""

    detector: Detector
    encoder: Encoder


def sift(
    offered: Sequence[Path],
    known: Sequence[Path],
    references: Sequence[Path],
    models: Looks,
    judged: Collection[Path] = (),
) -> tuple[list[Path], list[Finding]]:
    """Which of the offered images may become a part of a set, and a finding for each other one.

    `known` are pictures of which none may be offered again: what is in the set, and the judge's
    references, `judged`. An image that cannot be read, has no face or several, a small or blurred one, is a copy, or
    shows another person than the references is left out: SOS-T002, T007 and T023 to T028.
    """
    report = check_references([*known, *offered], models.detector, models.encoder)
    wanted = set(offered)
    enough = len(references) >= ENOUGH
    findings = {
        item.path: _kept_for_judging(item.path) if item.copy_of in judged else _as_training(item.finding)
        for item in report.left_out
        if item.path in wanted and not (enough and item.finding.code == C007.code)
    }
    for path, ratio in strangers([path for path in offered if path not in findings], references, models):
        findings[path] = _stranger(path, ratio)
    kept = [path for path in dict.fromkeys(offered) if path not in findings]
    return kept, [findings[path] for path in dict.fromkeys(offered) if path in findings]


def strangers(images: Sequence[Path], references: Sequence[Path], models: Looks) -> list[tuple[Path, float]]:
    """The images that show another person than the references, with how like they are.

    That is the mean cosine to the references, over what is usual among these (the median of each one's
    mean cosine to the others); the limit is that of references among themselves. None of fewer than three.
    """
    known = [vector for path in references if (vector := _embedded(path, models)) is not None]
    if len(known) < ENOUGH:
        return []
    stack = np.stack(known)
    alike = stack @ stack.T
    usual = float(np.median((alike.sum(axis=1) - 1) / (len(known) - 1)))
    found: list[tuple[Path, float]] = []
    for path in images:
        vector = _embedded(path, models)
        if vector is None:
            continue
        ratio = float(np.mean([similarity("cosine", vector, other) for other in known])) / max(usual, 1e-6)
        if ratio < MIN_RELATIVE_SIMILARITY:
            found.append((path, ratio))
    return found


def check_strangers(folder: Path, references: Sequence[Path], models: Looks) -> list[Finding]:
    """SOS-T027 for each image of a set that is unlike the character's references, however like the set it is."""
    return [_stranger(path, ratio) for path, ratio in strangers(image_files(folder), references, models)]


def _stranger(path: Path, ratio: float) -> Finding:
    message = (
        f"{path.name}: seems to show another person: as similar to the character's references as {ratio:.0%} of what "
        f"is usual among them; expected at least {MIN_RELATIVE_SIMILARITY:.0%}"
    )
    rule, hint = AS_TRAINING[C007.code]
    return rule.at(path.name, message, hint, severity="warning")


def _kept_for_judging(path: Path) -> Finding:
    message = f"{path.name}: is one of the references that judge, or a copy of one: it is not learned from"
    return T007.at(str(path), message, "a third of the references judges; give other pictures to learn from more")


def _as_training(found: Finding) -> Finding:
    rule, hint = AS_TRAINING[found.code]
    return rule.at(found.subject, found.message, hint, severity=found.severity)


def _embedded(path: Path, models: Looks) -> Vector | None:
    try:
        pixels = np.asarray(read_image(path))
    except BadImageError:
        return None
    faces = models.detector.detect(pixels)
    if not faces:
        return None
    vector = models.encoder.embed(pixels, faces[0])
    return vector / np.float32(np.linalg.norm(vector))


def _row(line: str, where: str) -> dict[str, Any]:
    row = parse_object(line)
    if row is None:
        raise ConfigError(f"{where}: not a JSON object; expected one with file and caption", "mend or remove the line")
    return row


def _member(row: Mapping[str, Any], path: Path, where: str) -> Member:
    texts = {key: row.get(key, "") for key in ("caption", "by", "source")}
    scores = object_or_none(row.get("scores", {}))
    if any(not isinstance(text, str) for text in texts.values()) or scores is None:
        raise ConfigError(f"{where}: caption, by and source are texts, and scores a table", "mend or remove the line")
    measured = {
        name: float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None
        for name, value in scores.items()
    }
    sha256 = image_digest(path)
    stale = row.get("sha256", sha256) != sha256
    return Member(
        path.name,
        sha256,
        texts["caption"],
        texts["by"] or "given",
        texts["source"],
        {} if stale else measured,
        tuple(text for item in as_list(row.get("alternatives")) if (text := as_text(item))),
        min(max(as_count(row.get("repeats", 1)), 1), MOST_REPEATS),
        as_text(row.get("given")),
    )


def _write(path: Path, data: bytes) -> None:
    with _disk(path):
        make_folder(path.parent)
        write_whole(path, data)


@contextmanager
def _disk(path: Path) -> Generator[None]:
    try:
        yield
    except OSError as error:
        message = f"{path} could not be written: {error.strerror or error}; what was there before is whole"
        raise DeliveryError(
            message, "free some space and run the same command again: only what is missing is done"
        ) from None
